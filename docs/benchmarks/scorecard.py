"""The tables of docs/progress.md, from the recorded runs: `python docs/benchmarks/scorecard.py [--write]`."""

import argparse
import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import xarray as xr

import probe
from probe import EarlyWarning, PhaseDetector, ProgressScorecard

RESULTS = Path(str(files("reference") / "results"))
PAGE = Path(__file__).parents[1] / "progress.md"
TOLD = ("division-97", "subtraction-96")
CONTROLS = {"few": ["variants/control-few"], "shuffled": ["variants/control-shuffled"], "units": ["division-96"]}
ALL = [name for names in CONTROLS.values() for name in names]
FRESH = ("paper-s5", "s5-fast", "variants/s5-fast-dropout", "paper-division", "variants/paper-no-dropout")
MEASURES = {
    "I(T+n;X), train, block 1": "information_x[train, blocks.0]",
    "I(T+n;X), train, block 2": "information_x[train, blocks.1]",
    "I(T+n;X), test, block 1": "information_x[test, blocks.0]",
    "I(T+n;X), test, block 2": "information_x[test, blocks.1]",
    "local complexity, train": "local_complexity_total[train]",
    "local complexity, test": "local_complexity_total[test]",
    "linear mapping number, train": "linear_mapping_number[train, blocks.0]",
    "linear mapping number, test": "linear_mapping_number[test, blocks.0]",
    "histogram of embedding weights": "weight_histogram_entropy[tokens.weight]",
    "rms of the embedding": "embedding_rms",
    "test loss": "test_loss",
    "train loss": "train_loss",
}
WARNINGS = (
    ("information_x[test, blocks.1]", "drop"),
    ("information_x[train, blocks.1]", "drop"),
    ("local_complexity_total[train]", "drop"),
    ("linear_mapping_number[train, blocks.0]", "drop"),
    ("linear_mapping_number[train, blocks.0]", "above"),
    ("test_loss", "drop"),
)


def recorded(name: str) -> xr.Dataset:
    """Curves at all steps, with what probes measured at some of them."""
    curves = probe.load(RESULTS / f"{name}.nc")[["train_loss", "train_accuracy", "test_loss", "test_accuracy"]]
    probes = probe.load(RESULTS / f"{name}-probes.nc").drop_vars([*curves.data_vars, "seconds"])
    curves = curves.reset_coords(drop=True)
    return xr.merge([curves, probes.assign_coords(run=curves["run"])], join="outer", compat="no_conflicts")


def rows(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))


def number(value: xr.DataArray | float, form: str = "+.2f") -> str:
    """A dash for what is not known."""
    return format(float(value), form) if np.isfinite(value) else "-"


def interval(one: xr.Dataset, name: str) -> str:
    """Value and 95 % interval over seeds."""
    return f"{number(one[name])} ({number(one[f'{name}_lower'])} to {number(one[f'{name}_upper'])})"


def trends(card: ProgressScorecard) -> str:
    """Trend after fitting, and relation to the test loss."""

    def line(label: str, one: xr.Dataset) -> list[str]:
        loss = [number(one["loss_levels"]), interval(one, "loss_changes")] if label != "test loss" else ["", ""]
        common = [number(one[name]) for name in ("monotonicity_common", "monotonicity_controls")]
        return [label, interval(one, "monotonicity"), *common, *loss]

    return by_measure(
        [
            "measure",
            "trend",
            "to step 20,000",
            "in controls, to step 20,000",
            "with test loss",
            "changes with its changes",
        ],
        line,
        card,
    )


def leads(card: ProgressScorecard) -> str:
    """The own onset of each measure."""

    def line(label: str, one: xr.Dataset) -> list[str]:
        low, high = (10 ** float(one[f"lead_{end}"]) for end in ("lower", "upper"))
        side = {1.0: "up", -1.0: "down"}.get(float(one["direction"]), "either way") if one["n_moved"] else "-"
        errors = [number(one[name], ".2f") for name in ("error", "error_fit_end", "error_constant")]
        return [
            label, f"{int(one['n_moved'])} of {int(one['n_runs'])}, {side}", f"{int(one['n_before'])}",
            f"{int(one['n_controls_moved'])} of {int(one['n_controls'])}",
            f"{number(one['lead_factor'], '.2f')} ({low:.2f} to {high:.2f})", *errors,
        ]  # fmt: skip

    head = ["measure", "moved", "before", "controls moved", "lead (factor)", "error", "by fit_end", "by a constant"]
    return by_measure(head, line, card)


def by_measure(head: list[str], line: Callable[[str, xr.Dataset], list[str]], card: ProgressScorecard) -> str:
    """One line for each measure that was recorded."""
    known = card.scores_["measure"].values
    return rows(
        head, [line(label, card.scores_.sel(measure=name)) for label, name in MEASURES.items() if name in known]
    )


def areas(groups: dict[str, xr.Dataset]) -> str:
    """Value and change at the matched place, against each kind of controls and all of them."""
    sets = {**CONTROLS, "all": ALL}
    cards = {
        (kind, match): ProgressScorecard(list(MEASURES.values()), match=match).fit(
            {name: groups[name] for name in (*TOLD, *names)}
        )
        for kind, names in sets.items()
        for match in (("step", "fit_end") if kind == "all" else ("step",))
    }
    lines = []
    for label, name in MEASURES.items():
        line = [label]
        for column in ("auc_value", "auc_change"):
            for (kind, _), card in cards.items():
                one = card.scores_.sel(measure=name)
                p = float(one[f"{column}_p"])
                said = "" if kind != "all" else " (p < .001)" if p < 0.001 else f" (p {p:.3f})"
                line.append(number(one[column], ".2f") + said)
        lines.append(line)
    short = [kind if match == "step" else "all, by fit_end" for kind, match in cards]
    return rows(["measure", *(f"value: {s}" for s in short), *(f"change: {s}" for s in short)], lines)


def warnings(groups: dict[str, xr.Dataset]) -> str:
    """Early warnings, a run or a group left out."""
    lines = []
    runs = {name: groups[name] for name in (*TOLD, *ALL)}
    for signal, rule in WARNINGS:
        for by in ("run", "group"):
            card = EarlyWarning(signal, rule, leave_out=by, budget=20_000).fit(runs)
            lines.append([f"`{signal}`, {rule}", by, *warned(card, "signal")])
    for rival in card.scores_["rule"].values[1:]:
        lines.append([str(rival), "group", *warned(card, rival)])
    return rows(["signal", "left out", "hits", "late or missed", "false alarms", "lead (dex)", "AUC"], lines)


def warned(card: EarlyWarning, rule: str) -> list[str]:
    """Cells of one rule."""
    one = card.scores_.sel(rule=rule)
    return [
        f"{int(one['hits'])} of {int(one['n_runs'])}",
        str(int(one["late"] + one["misses"])),
        f"{int(one['false_alarms'])} of {int(one['n_controls'])}",
        f"{number(one['lead'], '.2f')} (sd {number(one['lead_sd'], '.2f')})",
        number(one["auc"], ".2f"),
    ]


def fresh(groups: dict[str, xr.Dataset]) -> str:
    """Two alarms, as learnt above, on runs that they were not learnt on."""
    learnt = {name: groups[name] for name in (*TOLD, *ALL)}
    rules = (("linear_mapping_number[train, blocks.0]", "above"), ("test_loss", "drop"))
    alarms = [EarlyWarning(signal, rule, budget=20_000).fit(learnt) for signal, rule in rules]
    lines = []
    for name in FRESH:
        curve = groups[name]["linear_mapping_number"].sel(split="train", layer="blocks.0").transpose("run", "step")
        fitted, onset = PhaseDetector().fit(groups[name]).markers_["step"][:, :2].values.T
        then = [one.dropna("step").sel(step=at, method="nearest") for one, at in zip(curve, fitted, strict=True)]
        cells = [f"{row.min():,.0f} to {row.max():,.0f}" for row in (fitted, onset)]
        cells.append(f"{min(then).item():.1f} to {max(then).item():.1f}")
        for alarm in alarms:
            step = alarm.predict(groups[name])
            leads = np.log10((onset + 1) / (step + 1))[step < onset]
            lead = f", lead {leads.mean():.2f}" if len(leads) else ""
            cells.append(f"{np.isfinite(step).sum()} of {len(step)}, {len(leads)} in time{lead}")
        lines.append([name.split("/")[-1], *cells])
    head = ["runs", "fitting ends", "chance is left", "level then", "alarms by the level", "by the test loss"]
    return rows(head, lines)


def levels(groups: dict[str, xr.Dataset]) -> str:
    """Where the linear mapping number of the first block is, by step."""
    at = (0, 300, 1000, 2154, 3162, 10_000)
    lines = []
    for name, one in groups.items():
        curve = one["linear_mapping_number"].sel(split="train", layer="blocks.0").dropna("step", how="all")
        cells = [curve.sel(step=step, method="nearest").values for step in at]
        lines.append([name.split("/")[-1], *(f"{values.min():.1f} to {values.max():.1f}" for values in cells)])
    return rows(["runs", *(f"step {step:,}" for step in at)], lines)


def tables() -> dict[str, str]:
    """By name."""
    groups = {name: recorded(name) for name in (*TOLD, *ALL, *FRESH)}
    names = list(MEASURES.values())
    card = ProgressScorecard(names).fit({name: groups[name] for name in (*TOLD, *ALL)})
    return {
        "trends": trends(card),
        "areas": areas(groups),
        "leads": leads(card),
        "warnings": warnings(groups),
        "levels": levels(groups),
        "fresh": fresh(groups),
    }


def with_tables(text: str, found: dict[str, str]) -> str:
    """Return the page with these tables."""
    for name, table in found.items():
        text = re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\g<1>{table}\n\g<2>", text, flags=re.S)
    return text


def made(text: str) -> str:
    """Return the page with the tables from the recordings."""
    return with_tables(text, tables())


def main() -> None:
    """Print, or write into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/progress.md")
    write, found = parser.parse_args().write, tables()
    if not write:
        print("\n\n".join(f"{name}\n\n{table}" for name, table in found.items()))
        return
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
