"""What every series offers as ``series.probe``: tables, CSV, the phases of its curves, a figure, and a report."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from probe.errors import ProbeWarning
from probe.phases.detector import PhaseDetector
from probe.recording.tables import to_frame, write_csv
from probe.series import validate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SeriesAccessor"]


class SeriesAccessor:
    """Methods of a series, as ``series.probe``; xarray makes it.

    Parameters
    ----------
    dataset : xarray.Dataset
        A series, such as the result of :func:`probe.read`, :func:`probe.load` or :func:`probe.concat`.

    Examples
    --------
    >>> import xarray as xr
    >>> from probe import concat, read
    >>> one = xr.Dataset({"train_loss": ("step", [2.0, 1.0])}, {"step": [0, 10]})
    >>> series = concat([one, one + 1], runs=["a", "b"])
    >>> series.probe.to_pandas().reset_index().values.tolist()
    [['a', 0, 2.0], ['a', 10, 1.0], ['b', 0, 3.0], ['b', 10, 2.0]]
    >>> series.probe.to_pandas(long=True)[["run", "step", "variable", "value"]].values.tolist()[:2]
    [['a', 0, 'train_loss', 2.0], ['a', 10, 'train_loss', 1.0]]
    >>> bool(read(series.probe.to_csv("long.csv", long=True)).equals(series))
    True

    The phases of a curve, whose fitting ends at step 1,000:

    >>> import numpy as np
    >>> accuracy = np.minimum(1, np.arange(30) / 10)
    >>> curve = xr.Dataset({"train_accuracy": ("step", accuracy)}, {"step": np.arange(0, 3000, 100)})
    >>> float(curve.probe.phases().markers_["step"].sel(run=0, marker="fit_end"))
    1000.0
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self._series = dataset

    def to_pandas(self, *, long: bool = False) -> pd.DataFrame:
        """Return the series as a DataFrame.

        Parameters
        ----------
        long : bool
            False: one row for each step, and a column for each curve. True: one row for each value.

        Returns
        -------
        pandas.DataFrame
            Wide: the index is ``step``, or run, the settings of the runs and ``step``. A variable over layers or splits
            has a column for each of its curves, such as ``information_x[train, 0]``. Flags are int8. If there are
            several runs, a row without any value is left out.

            Long: the columns are run, the settings of the runs, step, variable, layer, split, further dimensions, and
            value. Columns that a variable does not have are empty text. Values that were not measured (NaN, or -1 for a
            flag) are left out.

        Raises
        ------
        ValueError
            If the Dataset does not follow the schema of a series.
        """
        return to_frame(self._series, long=long)

    def to_csv(self, path: str | os.PathLike[str], *, long: bool = False) -> Path:
        """Write the table of :meth:`to_pandas` as CSV, which :func:`probe.read` reads, and return the path.

        Parameters
        ----------
        path
            The file to write. An existing file is replaced.
        long : bool
            As in :meth:`to_pandas`. A long table is read back with its layers, splits and flags. In a wide table they
            are columns of numbers. Neither holds units, long names or the provenance; NetCDF does (:func:`probe.save`).
        """
        return write_csv(self._series, path, long=long)

    def phases(self, **parameters: Any) -> PhaseDetector:
        """Return a :class:`probe.PhaseDetector` that is fitted to the series.

        Parameters
        ----------
        **parameters
            Parameters of the detector. The axis is that of the log unless it is given.
        """
        series = validate(self._series)
        axis = parameters.pop("axis", str(series["step"].attrs.get("axis", "step")))
        return PhaseDetector(axis=axis, **parameters).fit(series if axis == "step" else series.rename(step=axis))

    def plot(
        self, panels: Sequence[str | Sequence[str]] | str | None = None, *, title: str = "", **parameters: Any
    ) -> "Figure":
        """Draw the curves on one page, with phases and verdict if the series has curves for a PhaseDetector.

        Parameters
        ----------
        panels : str, or sequence of str or of sequences of str, optional
            As for :func:`probe.plots.overview`. By default the usual measures, or else the first eight curves.
        title : str
            Name of the run or of the runs.
        **parameters
            Parameters of the detector, as for :meth:`phases`.

        Returns
        -------
        matplotlib.figure.Figure
            Without phases if no detector can be fitted; a :class:`probe.errors.ProbeWarning` has the reason. Given
            parameters of the detector, that reason is an error.
        """
        from probe.plots.page import overview  # imports matplotlib
        from probe.plots.panels import any_panels

        try:
            detector = self.phases(**parameters)
        except (TypeError, ValueError) as error:
            if parameters:
                raise
            text = f"The figure has no phases, since no detector can be fitted: {error}"
            warnings.warn(text, ProbeWarning, stacklevel=2)
            return overview(self._series, title=title, panels=any_panels(self._series) if panels is None else panels)
        return overview(detector.curves_, detector, title=title, panels=panels)

    def report(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write one HTML page with verdict, linked charts and tables, and return the path.

        Parameters
        ----------
        path
            The file to write.
        **options
            Those of :func:`probe.report.write_report`: ``detector``, ``title``, ``max_mb`` and ``overwrite``.
        """
        from probe.report.writing import write_report

        return write_report(self._series, path, **options)
