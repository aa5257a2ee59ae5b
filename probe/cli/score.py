"""``probe score``: which of the measures in a log are progress measures? No torch."""

import argparse
import json
from pathlib import Path
from typing import Any

import xarray as xr

from probe.cli import ROLES
from probe.phases.curves import named
from probe.phases.detector import PhaseDetector
from probe.progress.scorecard import ProgressScorecard
from probe.readers import read


def score(args: argparse.Namespace) -> int:
    """Print the scorecard, and write all scores if there is a file to write to."""
    groups = {"runs": _series(args, args.path)}
    if args.controls:
        groups["controls"] = _series(args, args.controls)
    axis = str(groups["runs"]["step"].attrs.get("axis", "step"))
    roles = {role: named(groups["runs"], getattr(args, role)) for role in ROLES if getattr(args, role)}
    if missing := [name for name in roles.values() if name not in groups["runs"]]:
        raise ValueError(
            f"no {missing[0]!r} in {args.path}; there are: {', '.join(map(str, groups['runs'].data_vars))}"
        )
    detector = PhaseDetector(chance=args.chance, axis=axis, **roles)
    card = ProgressScorecard(args.measures, detector=detector, at=args.at)
    curves = {name: one if axis == "step" else one.rename(step=axis) for name, one in groups.items()}
    card.fit(curves, {"controls": False} if args.controls else None)
    print(card.table(markdown=args.markdown))
    if args.json:
        args.json.write_text(json.dumps(verdict(card, args.path.name), indent=1) + "\n")
    return 0


def verdict(card: ProgressScorecard, source: str) -> dict[str, Any]:
    """All that was found, as JSON holds it: unknown and infinite numbers are null."""
    found = {"source": source, "level": card.level, "match": card.match, "notes": card.notes_}
    return found | {"scores": _rows(card.scores_), "runs": _rows(card.runs_)}


def _rows(table: xr.Dataset) -> Any:
    return json.loads(table.to_dataframe().reset_index().to_json(orient="records"))


def _series(args: argparse.Namespace, path: Path) -> xr.Dataset:
    roles = {role: getattr(args, role) for role in ROLES if getattr(args, role)}
    return read(path, form=args.form, axis=args.axis, **roles)
