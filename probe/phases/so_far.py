"""The verdict on a training that still runs, from its losses and accuracies alone."""

import xarray as xr

from probe.phases.detector import PhaseDetector
from probe.recording.records import Records

_ROLES = ("train_accuracy", "train_loss", "test_accuracy", "test_loss")
_LEAST = 4  # observations that the detector needs


def sentence_so_far(records: Records) -> str:
    """Return the sentence of the verdict on the observations so far; empty if there are too few or no curves."""
    known = [name for name in _ROLES if name in records.variables and not records.variables[name].dims]
    if not known or len(records) < _LEAST:
        return ""
    curves = {name: ("step", records.column(name), dict(records.variables[name].attrs)) for name in known}
    detector = PhaseDetector().fit(xr.Dataset(curves, {"step": records.steps}))
    return str(detector.verdict_["sentence"].item())
