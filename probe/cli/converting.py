"""The command ``probe convert``: a log as NetCDF or CSV."""

import argparse

from probe.cli.failures import DONE
from probe.cli.inputs import check_new, print_notes, read_series
from probe.cli.terminal import print_json
from probe.recording.files import save


def convert(args: argparse.Namespace) -> int:
    """Write a log, with the guesses in the attribute ``reading`` of NetCDF."""
    check_new(args.output, args.overwrite)
    series = read_series(args, strict=False)
    written = save(series, args.output)
    if args.json:
        print_json({"written": str(written), "notes": series.attrs.get("reading", "").splitlines()})
    else:
        print(f"written: {written}")
        print_notes(series)
    return DONE
