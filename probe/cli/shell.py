"""The command ``probe completion``: scripts for bash, zsh and fish, derived from the parser."""

import argparse

from probe.cli.options import parser

_BASH = """\
# eval "$(probe completion {shell})"
_probe() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} words
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{commands}" -- "$cur")); return
  fi
  case ${{COMP_WORDS[1]}} in
{cases}
  esac
  case $cur in
    -*) COMPREPLY=($(compgen -W "$words" -- "$cur")) ;;
    *) COMPREPLY=($(compgen -f -- "$cur")) ;;
  esac
}}
complete -o filenames -F _probe probe"""


def completion(args: argparse.Namespace) -> int:
    """Print the script."""
    commands = _commands()
    if args.shell == "fish":
        print("# probe completion fish | source")
        for name, options in commands.items():
            print(f"complete -c probe -n __fish_use_subcommand -a {name}")
            for option in (option for option in options if option.startswith("--")):
                print(f"complete -c probe -n '__fish_seen_subcommand_from {name}' -l {option[2:]}")
        return 0
    if args.shell == "zsh":
        print("autoload -U +X bashcompinit && bashcompinit")
    cases = "\n".join(f'    {name}) words="{" ".join(options)}" ;;' for name, options in commands.items())
    print(_BASH.format(shell=args.shell, commands=" ".join(commands), cases=cases))
    return 0


def _commands() -> dict[str, list[str]]:
    """Return the options of each command."""
    (choices,) = (action.choices for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return {name: sorted(command._option_string_actions) for name, command in choices.items()}
