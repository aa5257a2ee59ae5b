"""The commands that read logs: info, detect, plot, convert, score and formats. They do not need torch."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from probe.cli import ROLES
from probe.phases.curves import named
from probe.phases.detector import PhaseDetector
from probe.progress.scorecard import ProgressScorecard
from probe.readers.discovery import READERS
from probe.readers.reading import read
from probe.recording.files import atomic_write, save


def info(args: argparse.Namespace) -> int:
    """Print the contents of a log."""
    series = _series(args, strict=False)
    steps, axis = series["step"].values, _axis(series)
    if args.json:
        variables = {
            str(k): {**v.attrs, "dims": v.dims, "observed": int(v.count())} for k, v in series.data_vars.items()
        }
        print(json.dumps({"steps": steps.tolist(), "variables": variables, **series.attrs}, default=str))
        return 0
    print(f"{len(steps)} observations, {axis}s {steps[0]} to {steps[-1]}" if len(steps) else "no observations yet")
    for dim in series.dims:
        if dim != "step":
            print(f"{dim}: {', '.join(map(str, series[dim].values))}")
    for name, array in series.data_vars.items():
        where = ", ".join(str(dim) for dim in array.dims if dim != "step")
        units, text = array.attrs.get("units", "1"), array.attrs.get("long_name", "")
        print(f"  {name:34} {f'({where})' if where else '':16} [{units}] {text}")
    _print_notes(series)
    print(_provenance(series))
    return 0


def _provenance(series: xr.Dataset) -> str:
    """Return the provenance as indented JSON, or as it is in a file of another program."""
    text = str(series.attrs.get("provenance") or "{}")
    try:
        return json.dumps(json.loads(text), indent=1)
    except (ValueError, RecursionError):
        return text


def detect(args: argparse.Namespace) -> int:
    """Print the verdict, and write it with --out. Return 1 if there was no curve for any marker."""
    series = _series(args)
    detector = _fitted(args, series)
    print(json.dumps(verdict(detector, args.path.name), indent=1) if args.json else detector.summary())
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        _write(args.out / "markers.csv", table(detector).to_csv(index=False))
        _write(args.out / "verdict.json", json.dumps(verdict(detector, args.path.name), indent=1) + "\n")
        _write(args.out / "verdict.txt", detector.summary() + "\n")
        _draw(series, detector, args.out / "phases.png", args.path.name)
        if not args.json:
            print(f"written: markers.csv, verdict.json, verdict.txt and phases.png in {args.out}")
    return int((detector.markers_["status"] == "undefined").all())


def plot(args: argparse.Namespace) -> int:
    """Draw the curves with their phases."""
    output = args.output or args.path.with_suffix(".png")
    if output.exists() and not args.overwrite:
        raise FileExistsError(
            f"Expected a new file, got {output}, which exists already; choose another name with --output, or pass "
            "--overwrite"
        )
    series = _series(args)
    _draw(series, _fitted(args, series), output, args.path.stem, panels=args.panels)
    print(f"written: {output}")
    return 0


def convert(args: argparse.Namespace) -> int:
    """Write a log as NetCDF, with the guesses in its attribute ``reading``."""
    if args.output.exists():
        raise FileExistsError(
            f"Expected a new file, got {args.output}, which exists already; choose another name, or remove it"
        )
    series = _series(args, strict=False)
    print(f"written: {save(series, args.output)}")
    _print_notes(series)
    return 0


def score(args: argparse.Namespace) -> int:
    """Print the scorecard, and write all scores with --json."""
    groups = {"runs": _series(args)}
    if args.controls:
        groups["controls"] = _series(args, args.controls)
    axis = _axis(groups["runs"])
    detector = PhaseDetector(chance=args.chance, n_test=args.n_test, axis=axis, **_roles(args, groups["runs"]))
    card = ProgressScorecard(args.measures, detector=detector, at=args.at)
    curves = {name: one if axis == "step" else one.rename(step=axis) for name, one in groups.items()}
    card.fit(curves, {"controls": False} if args.controls else None)
    print(card.table(markdown=args.markdown))
    if args.json:
        facts = {"source": args.path.name, "level": card.level, "match": card.match, "notes": card.notes_}
        scores = {"scores": _rows(card.scores_), "runs": _rows(card.runs_)}
        _write(args.json, json.dumps(facts | scores, indent=1) + "\n")
    return 0


def formats(args: argparse.Namespace) -> int:
    """Print the formats of logs and the names of their files."""
    for name, reader in READERS.items():
        print(f"{name:12} {reader.files}")
    return 0


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _print_notes(series: xr.Dataset) -> None:
    for note in series.attrs.get("reading", "").splitlines():
        print(f"Note: {note}")


def _series(args: argparse.Namespace, path: Path | None = None, *, strict: bool = True) -> xr.Dataset:
    roles = {role: getattr(args, role) for role in ROLES if getattr(args, role)}
    return read(path or args.path, format=args.format, axis=args.axis, strict=strict, **roles)


def _roles(args: argparse.Namespace, series: xr.Dataset) -> dict[str, Any]:
    """Return the variables of the roles that the user gave. A recording keeps its own names."""
    roles = {role: named(series, getattr(args, role)) for role in ROLES if getattr(args, role)}
    if missing := [name for name in roles.values() if name not in series]:
        names = ", ".join(map(str, series.data_vars))
        raise ValueError(f"Expected a variable of {args.path}, got {missing[0]!r}; there are: {names}")
    return roles


def _axis(series: xr.Dataset) -> str:
    return str(series["step"].attrs.get("axis", "step"))


def _fitted(args: argparse.Namespace, series: xr.Dataset) -> PhaseDetector:
    axis, roles = _axis(series), _roles(args, series)
    guessing = {"chance": args.chance, "n_test": args.n_test}
    detector = PhaseDetector(split=args.split, layer=args.layer, axis=axis, **guessing, **roles)
    return detector.fit(series if axis == "step" else series.rename(step=axis))


def _draw(
    series: xr.Dataset, detector: PhaseDetector, output: Path, title: str, panels: list[str] | None = None
) -> None:
    """Write the overview. Names of one panel are joined by commas."""
    import matplotlib

    matplotlib.use("Agg")  # writes a file, and opens no window
    import matplotlib.pyplot as plt

    from probe.plots import overview
    from probe.plots.axes import label_text

    shown = detector.curves_ if detector.axis != "step" else series
    chosen = None if panels is None else [name if name in shown else name.split(",") for name in panels]
    figure = overview(shown, detector, title=label_text(title), panels=chosen)
    with atomic_write(output) as temporary:
        figure.savefig(temporary, format=output.suffix.lstrip(".") or "png", dpi=110)
    plt.close(figure)


def table(detector: PhaseDetector) -> Any:
    """Return the markers as a DataFrame with a row for each run and marker."""
    return _flat(detector.markers_).to_dataframe().reset_index()


def _flat(markers: xr.Dataset) -> xr.Dataset:
    """Return the markers with the tops of a marker as one list, so that all variables are over (run, marker)."""
    tops = np.empty(markers["status"].shape, dtype=object)
    for at in np.ndindex(tops.shape):
        tops[at] = [top for top in markers["tops"].transpose("run", "marker", "top").values[at].tolist() if top == top]
    return markers.drop_vars("tops").assign(tops=(("run", "marker"), tops))


def verdict(detector: PhaseDetector, source: str) -> dict[str, Any]:
    """Return all results as JSON can hold them. Unknown and infinite numbers are null."""
    across = detector.across_
    return {
        "source": source,
        "axis": detector.axis,
        "verdict": _records(detector.verdict_, ("run",)),
        "markers": _records(_flat(detector.markers_), ("run", "marker")),
        "alignment": _records(detector.alignment_, ("run", "pair")),
        "across": None if across is None else _records(across, ("marker",)),
        "notes": detector.notes_,
        "summary": detector.summary().split("\n\n")[0],
    }


def _records(found: xr.Dataset, dims: tuple[str, ...]) -> list[dict[str, Any]]:
    found = found.drop_vars([name for name, array in found.variables.items() if set(array.dims) - {*dims}])
    rows = found.to_dataframe(dim_order=list(dims)).reset_index().to_dict("records")
    return [{str(name): _as_json(value) for name, value in row.items()} for row in rows]


def _as_json(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _rows(table: xr.Dataset) -> Any:
    return json.loads(table.to_dataframe().reset_index().to_json(orient="records"))
