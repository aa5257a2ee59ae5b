"""The commands that read logs: info, detect, plot, score and formats. They do not need torch."""

import argparse
import json
from pathlib import Path
from typing import Any

import xarray as xr

from probe.cli.failures import DONE, NO_CURVE
from probe.cli.inputs import check_new, fitted, paths_of, print_notes, read_runs, read_series, roles_of
from probe.cli.results import table, verdict
from probe.cli.terminal import json_text, print_json
from probe.phases.curves import steps_name
from probe.phases.detector import PhaseDetector
from probe.progress.scorecard import ProgressScorecard
from probe.readers.discovery import READERS
from probe.recording.files import atomic_write
from probe.report.sources import names_of

_RESULTS = ("markers.csv", "verdict.json", "verdict.txt", "phases.png")
_MOST_LABELS = 20  # that info prints of a dimension


def info(args: argparse.Namespace) -> int:
    """Print the contents of a log."""
    series = read_series(args, strict=False)
    steps = series["step"].values
    if args.json:
        variables = {
            str(k): {**v.attrs, "dims": v.dims, "observed": int(v.count())} for k, v in series.data_vars.items()
        }
        labels = {str(name): one.values for name, one in series.coords.items() if name != "step"}
        print_json({"steps": steps, "coords": labels, "variables": variables, **series.attrs})
        return DONE
    axis = steps_name(series)
    print(f"{len(steps)} observations, {axis}s {steps[0]} to {steps[-1]}" if len(steps) else "no observations yet")
    for name, labels in series.coords.items():
        if name != "step" and labels.ndim:
            more = f", ... ({labels.size} in all)" if labels.size > _MOST_LABELS else ""
            print(f"{name}: {', '.join(map(str, labels.values[:_MOST_LABELS].tolist()))}{more}")
    for name, array in series.data_vars.items():
        where = ", ".join(str(dim) for dim in array.dims if dim != "step")
        units, text = array.attrs.get("units", "1"), array.attrs.get("long_name", "")
        print(f"  {name:34} {f'({where})' if where else '':16} [{units}] {text}")
    print_notes(series)
    print(_provenance(series))
    return DONE


def _provenance(series: xr.Dataset) -> str:
    """Return the provenance as indented JSON, or as it is in a file of another program. Of several runs: the first."""
    text = str(series.attrs.get("provenance") or "{}")
    try:
        found = json.loads(text)
        more = f"\n... and {len(found) - 1} more runs" if isinstance(found, list) and len(found) > 1 else ""
        return json.dumps(json.loads(found[0]) if more else found, indent=1) + more
    except (TypeError, ValueError, RecursionError):
        return text


def detect(args: argparse.Namespace) -> int:
    """Print the verdict, and write it with --out. Return 1 if there was no curve for any marker."""
    for name in _RESULTS if args.out else ():
        check_new(args.out / name, args.overwrite)
    series, source = read_runs(args), names_of(paths_of(args))
    detector = fitted(args, series)
    if args.json:
        print_json(verdict(detector, source), indent=1)
    else:
        print(detector.summary())
    if args.out:
        _write_results(series, detector, args.out, source)
        if not args.json:
            print(f"written: {', '.join(_RESULTS[:-1])} and {_RESULTS[-1]} in {args.out}")
    return NO_CURVE if (detector.markers_["status"] == "undefined").all() else DONE


def _write_results(series: xr.Dataset, detector: PhaseDetector, folder: Path, source: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "markers.csv", table(detector).to_csv(index=False))
    _write(folder / "verdict.json", json_text(verdict(detector, source), indent=1) + "\n")
    _write(folder / "verdict.txt", detector.summary() + "\n")
    _draw(series, detector, folder / "phases.png", source)


def plot(args: argparse.Namespace) -> int:
    """Draw the curves with their phases."""
    output = args.output or args.path.with_suffix(".png")
    check_new(output, args.overwrite, "choose another name with --output")
    series, source = read_runs(args), names_of([path.stem for path in paths_of(args)])
    _draw(series, fitted(args, series), output, source, panels=args.panels)
    if args.json:
        print_json({"written": str(output)})
    else:
        print(f"written: {output}")
    return DONE


def score(args: argparse.Namespace) -> int:
    """Print the scorecard, and write all scores with --out."""
    if args.out:
        check_new(args.out, args.overwrite)
    groups = {"runs": read_series(args)}
    if args.controls:
        groups["controls"] = read_series(args, args.controls)
    axis = steps_name(groups["runs"])
    detector = PhaseDetector(chance=args.chance, n_test=args.n_test, axis=axis, **roles_of(args, groups["runs"]))
    card = ProgressScorecard(args.measures, detector=detector, at=args.at)
    curves = {name: one if axis == "step" else one.rename(step=axis) for name, one in groups.items()}
    card.fit(curves, {"controls": False} if args.controls else None)
    facts = {"source": args.path.name, "level": card.level, "match": card.match, "notes": card.notes_}
    scores = facts | {"scores": _rows(card.scores_), "runs": _rows(card.runs_)}
    if args.json:
        print_json(scores, indent=1)
    else:
        print(card.table(markdown=args.markdown))
    if args.out:
        _write(args.out, json_text(scores, indent=1) + "\n")
    return DONE


def formats(args: argparse.Namespace) -> int:
    """Print the formats of logs and the names of their files."""
    if args.json:
        print_json({name: reader.files for name, reader in READERS.items()})
        return DONE
    width = max(map(len, READERS))
    for name, reader in READERS.items():
        print(f"{name:{width}} {reader.files}")
    return DONE


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _draw(
    series: xr.Dataset, detector: PhaseDetector, output: Path, title: str, panels: list[str] | None = None
) -> None:
    """Write the overview. Names of one panel are joined by commas."""
    import matplotlib

    matplotlib.use("Agg")  # writes a file, and opens no window
    import matplotlib.pyplot as plt

    from probe.plots import overview
    from probe.plots.names import label_text

    shown = detector.curves_ if detector.axis != "step" else series
    chosen = None if panels is None else [name if name in shown else name.split(",") for name in panels]
    figure = overview(shown, detector, title=label_text(title), panels=chosen)
    with atomic_write(output) as temporary:
        figure.savefig(temporary, format=output.suffix.lstrip(".") or "png", dpi=110)
    plt.close(figure)


def _rows(table: xr.Dataset) -> Any:
    return json.loads(table.to_dataframe().reset_index().to_json(orient="records"))
