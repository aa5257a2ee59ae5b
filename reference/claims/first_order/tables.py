"""Table of our recordings for the page."""

from collections.abc import Callable

from reference.claims.first_order.evidence import Evidence

_RECORDINGS = {  # name: part of the command, content
    "sweep": ("sweep", "networks of the cubic teacher, sampled at five noises"),
    "modular": ("modular", "networks of modular addition, sampled at five noises"),
    "order": ("order", "barriers, hops and loops of sampled networks at several sizes"),
    "grokking": ("grokking", "networks that grok on addition modulo 29"),
    "no-decay": ("grokking", "the same without weight decay"),
    "shuffled": ("grokking", "the same with permuted answers"),
    "sweep-50": ("sweeps", "weight decay up and down across grokking, 50 steps for each value"),
    "sweep-200": ("sweeps", "the same, 200 steps"),
    "sweep-800": ("sweeps", "the same, 800 steps"),
    "collapse-50": ("collapse", "weight decay up and down across the loss of the weights, 50 steps for each value"),
    "collapse-200": ("collapse", "the same, 200 steps"),
    "collapse-800": ("collapse", "the same, 800 steps"),
    "boundary": ("boundary", "weight decays at three budgets of steps"),
    "demo": ("demo", "the demo"),
    "demo-control": ("demo", "the demo with permuted answers"),
}


def recordings(evidence: Evidence) -> str:
    """Return what each recording holds, and whether it exists."""
    lines = ["| recording | content | command | seeds or networks |", "|---|---|---|---|"]
    for name, (part, content) in _RECORDINGS.items():
        series = evidence.recording(name)
        runs = "not recorded" if series is None else f"{series.sizes['run']}"
        file, command = f"`first-order-{name}.nc`", f"`python -m reference first-order {part}`"
        lines.append(f"| {file} | {content} | {command} | {runs} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[Evidence], str]] = {"recordings": recordings}
