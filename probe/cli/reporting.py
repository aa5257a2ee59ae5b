"""The command ``probe report``: verdict, linked charts and tables as one HTML page."""

import argparse
import sys
from pathlib import Path
from typing import Any

import xarray as xr

from probe.cli.failures import DONE
from probe.cli.inputs import check_new, fitted, paths_of, read_series, roles_of
from probe.cli.terminal import print_json
from probe.cli.watching import Watched, check_options, follow
from probe.errors import warn_user
from probe.report.charts import need_bokeh
from probe.report.sources import joined, names_of
from probe.report.writing import check_output, check_size, page, save_page

_SUFFIX = ".html"
_RELOAD = 10  # seconds after which a browser loads a page again while the training runs


def report(args: argparse.Namespace) -> int:
    """Write the page once, or with --watch whenever the logs have changed."""
    check_size(args.max_mb)
    check_options(args)
    if args.output.suffix.lower() not in (_SUFFIX, ".htm"):
        raise ValueError(f"Expected an output that ends with {_SUFFIX}, got {args.output.name}; change its suffix")
    check_output(args.output)
    check_new(args.output, args.overwrite, "choose another name with --output")
    need_bokeh()
    if args.watch:
        return follow(WatchedReport(args))
    written = _write(args, *_read(args))
    if args.json:
        print_json({"written": str(written), "bytes": written.stat().st_size})
    else:
        print(f"written: {written}")
    return DONE


def _read(args: argparse.Namespace) -> tuple[xr.Dataset, Any]:
    """Return all runs, and a fitted detector or the text that states why there is none."""
    series = joined(paths_of(args), lambda path: read_series(args, path, strict=False))
    roles_of(args, series)  # an unknown name is an error, whatever the curves are
    try:
        return series, fitted(args, series)
    except (TypeError, ValueError) as error:
        warn_user(f"Expected curves for a verdict, got none: {error}; the report is written without a verdict")
        return series, str(error)


def _write(args: argparse.Namespace, series: xr.Dataset, judged: Any, *, reload: int = 0) -> Path:
    source = names_of(paths_of(args))
    detector, reason = (None, judged) if isinstance(judged, str) else (judged, "")
    options = {"title": args.title or source, "source": source, "max_mb": args.max_mb, "reload": reload}
    save_page(page(series, detector, reason, **options), args.output)
    return Path(args.output)


class WatchedReport(Watched):
    """Logs that are looked at again and again, and their page.

    Parameters
    ----------
    args : argparse.Namespace
        Options of the command.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args)
        self.command = "probe report"

    def paths(self) -> list[Path]:
        """Return the files and folders that are looked at."""
        return paths_of(self.args)

    def read(self) -> tuple[xr.Dataset, Any]:
        """Return the logs and a fitted detector, or why there is none."""
        return _read(self.args)

    def show(self, series: xr.Dataset, detector: Any) -> None:
        """Write the page, and print its name and the last step."""
        written = _write(self.args, series, detector, reload=_RELOAD)
        title = self.title(series)[1:]
        if self.args.json:
            print_json({"written": str(written), "bytes": written.stat().st_size, "step": series["step"].values[-1]})
        else:
            print("\n".join([f"written: {written}, {title[0]}", *title[1:]]))
        sys.stdout.flush()
