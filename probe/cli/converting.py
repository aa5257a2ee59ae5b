"""The command ``probe convert``: a log as NetCDF or CSV."""

import argparse
from pathlib import Path

import xarray as xr

from probe.cli.failures import DONE
from probe.cli.inputs import check_new, print_notes, read_series
from probe.cli.terminal import print_json
from probe.recording.files import save
from probe.recording.tables import write_csv

_NOT_HELD = "CSV holds no units, no long names and no provenance; NetCDF holds them"
_FLATTENED = "layers, splits and flags are columns of numbers; --long and NetCDF keep them"


def convert(args: argparse.Namespace) -> int:
    """Write a log. The attribute ``reading`` of NetCDF holds the guesses."""
    _check_output(args.output, args.long)
    check_new(args.output, args.overwrite)
    series = read_series(args, strict=False)
    if args.output.suffix.lower() == ".nc":
        written, lost = save(series, args.output), []
    else:
        written, lost = write_csv(series, args.output, long=args.long), _lost(series, args.long)
    if args.json:
        print_json({"written": str(written), "notes": [*series.attrs.get("reading", "").splitlines(), *lost]})
        return DONE
    print(f"written: {written}")
    print_notes(series)
    for note in lost:
        print(f"Note: {note}")
    return DONE


def _check_output(output: Path, long: bool) -> None:
    suffix = output.suffix.lower()
    if suffix not in (".nc", ".csv"):
        raise ValueError(f"Expected an output that ends with .nc or .csv, got {output.name}; change its suffix")
    if long and suffix == ".nc":
        raise ValueError(f"Expected --long with CSV alone, got {output.name}; leave --long out, or write .csv")


def _lost(series: xr.Dataset, long: bool) -> list[str]:
    """Return what the CSV does not hold."""
    has_more = set(series.dims) - {"run", "step"} or any(array.dtype == "int8" for array in series.data_vars.values())
    return [_NOT_HELD, *([_FLATTENED] if has_more and not long else [])]
