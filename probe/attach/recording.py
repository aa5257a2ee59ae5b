"""What one attachment records: the journal, the columns of the series, and the outputs beside it."""

import os
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from probe.attach.columns import SeriesColumns
from probe.attach.distributed import Ranks
from probe.errors import warn_user
from probe.forward.isolation import restored_random_states
from probe.recording.journal import Journal
from probe.recording.records import Records
from probe.series import Variable
from probe.writers.outputs import Outputs


class Recording:
    """The observations of one attachment. The first rank alone has files, and writes to the outputs.

    Parameters
    ----------
    path, mode
        As for :meth:`probe.base.Observer.attach`.
    header
        Provenance, see :class:`probe.recording.journal.Journal`.
    step
        Last step that a resumed recording keeps, or None for all.
    """

    def __init__(
        self,
        path: Any,
        header: Mapping[str, Any],
        *,
        mode: str | None,
        step: int | None,
        outputs: Outputs,
        ranks: Ranks,
    ) -> None:
        first = ranks.rank == 0
        mode = ranks.share("the mode of the recording", mode)  # the first rank alone may see its files
        with ranks.together("the start of the recording"):
            self.journal = Journal(path, header, mode=mode, step=step) if first else Journal(None, header)
            if mode == "resume":
                self.journal.adopt(ranks.share("the recording", self.journal.content() if first else None))
            self.columns = SeriesColumns(self.journal)
            # closes the journal at the end of the process too, if nobody calls detach
            self._finalizer = weakref.finalize(self, _close, self.journal, os.getpid())
        self._replaces = mode == "overwrite"
        self._outputs = outputs if first else Outputs()

    @property
    def records(self) -> Records:
        """Return the observations so far."""
        return self.journal.records

    def declare(self, variables: Iterable[Variable], source: str) -> None:
        """Declare variables that belong to no probe."""
        for variable in variables:
            self.columns.declare(variable)
            self.columns.claim(variable.name, source)

    def open_outputs(self, step: int) -> None:
        """Declare what the outputs add to the series, and continue those of a recording that is resumed at a step."""
        self.declare(self._outputs.variables(), "write_to")
        self._outputs.resume(self.records, step)

    def values(self, scalars: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the columns of a user's scalars, and of the outputs."""
        return {**self.columns.scalars(scalars), **self._outputs.values()}

    def record(self, step: int, values: Mapping[str, np.ndarray], kept: Mapping[str, np.ndarray]) -> None:
        """Record one observation, and write it to the outputs."""
        self.journal.record(step, values, kept)
        with restored_random_states():  # those of the training, also if a writer waits for a random time
            failed = self._outputs.observed(step, self.records, values)
        if failed:
            self.journal.annotate(step, failed)

    def add(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Add scalars to the last observation."""
        added = self.columns.scalars(scalars)
        self.journal.annotate(step, added)
        with restored_random_states():
            failed = self._outputs.added(step, self.records, added)
        if failed:
            self.journal.annotate(step, failed)

    def dataset(self) -> xr.Dataset:
        """Return all observations so far."""
        return self.journal.dataset()

    def discard_if_empty(self) -> None:
        """Remove the files of a recording without an observation, so that the next attempt finds the path free."""
        if not len(self.records):
            self._finalizer.detach()
            self.journal.discard()

    def abandon(self) -> None:
        """Remove the files of an attachment that failed. A recording that was replaced already is closed."""
        if self._finalizer.detach():
            if self._replaces and len(self.records):
                self.journal.close()
            else:
                self.journal.discard()

    def close(self) -> None:
        """Write the file. If this is impossible, warn."""
        if self._finalizer.detach():
            _close_or_warn(
                self.journal,
                "the series stays in memory: probe.save(probes.series_, 'other.nc') writes it elsewhere",
            )

    def close_outputs(self) -> None:
        """Write the last rows of the outputs."""
        with restored_random_states():
            self._outputs.close(self.records)


def _close(journal: Journal, process: int) -> None:
    """Close the journal of a recording that no longer exists."""
    if os.getpid() == process:  # a fork that drops its copy has nothing to write, and warns of nothing
        _close_or_warn(
            journal,
            "the probes no longer exist, so observations that its journal lacks are lost. Call detach() before the "
            "file or its folder is removed",
        )


def _close_or_warn(journal: Journal, consequence: str) -> None:
    try:
        journal.close()
    except OSError as error:
        warn_user(f"Expected to write {journal.path}, got {error}; {consequence}")
