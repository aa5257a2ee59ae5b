"""The command ``probe measure``: measure saved checkpoints with probes."""

import argparse
import sys
from importlib import import_module
from typing import Any

import probe
from probe.checkpoints.measuring import over_checkpoints


def measure(args: argparse.Namespace) -> int:
    """Measure all checkpoints, and print what was read."""
    series = over_checkpoints(
        args.path,
        [_probe(name) for name in args.probes.split(",") if name],
        _call_factory(args.data),
        build=None if args.model is None else lambda: _call_factory(args.model),
        path=args.out,
        mode="overwrite" if args.overwrite else "resume",
        n_jobs=args.jobs,
        device=args.device,
        step_key=args.step_key,
        state_key=args.state_key,
        targets_shift=args.targets_shift,
        report=lambda line: print(line, file=sys.stderr),
    )
    print(series.attrs["reading"])
    print(f"written: {args.out}; next: probe detect {args.out}")
    return 0


def _call_factory(where: str) -> Any:
    """Return the result of the function at "module:name". It and its imports may lie in the working folder."""
    module, _, name = where.partition(":")
    if not name:
        raise ValueError(f"Expected module:factory, got {where!r}; add the name of the function")
    if module.endswith(".py"):
        module = module.removesuffix(".py").removeprefix("./").replace("/", ".")
    sys.path.insert(0, "")
    try:
        made = _imported(module)
        if not hasattr(made, name):
            raise ValueError(f"Expected a function {name!r} in module {module}, got none; check the name")
        return getattr(made, name)()
    finally:
        sys.path.remove("")


def _imported(module: str) -> Any:
    try:
        return import_module(module)
    except (ModuleNotFoundError, TypeError) as error:  # TypeError: a name that begins with a dot
        if isinstance(error, ModuleNotFoundError) and not f"{module}.".startswith(f"{error.name}."):
            raise  # a package that the module itself imports
        raise ValueError(
            f"Expected a module that is installed or in the working folder, got {module!r}; give its name as after "
            "import, such as factories:model for factories.py"
        ) from error


def _probe(name: str) -> Any:
    known = [one for one in probe.__all__ if one.endswith("Probe") and one not in ("Probe", "LayerProbe")]
    if name not in known:
        there = ", ".join(known)
        raise ValueError(f"Expected the name of a probe, got {name!r}; there are {there}")
    return getattr(probe, name)()
