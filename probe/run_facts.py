"""Attributes of variables that can differ between runs: the accuracy of guessing, and the number of examples.

A series of several runs holds them as ``chance_by_run`` and ``n_by_run``: JSON by label, so that the selection of some
runs keeps them right.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import xarray as xr

RUN_FACTS = ("chance", "n")
_BY_RUN = "_by_run"


def keep_run_facts(joined: xr.Dataset, series: Sequence[xr.Dataset], labels: Sequence[Any]) -> None:
    """Set the attributes of a joined series that differ between its runs."""
    for name, array in joined.data_vars.items():
        own = {_key(run): one[name].attrs for run, one in zip(labels, series, strict=True) if name in one}
        for fact in RUN_FACTS:
            found = {run: attrs.get(fact) for run, attrs in own.items()}
            if len(set(found.values())) > 1:
                array.attrs.pop(fact, None)
                array.attrs[fact + _BY_RUN] = json.dumps(found)


def differ_between_runs(attrs: Mapping[Any, Any]) -> bool:
    """Return whether an attribute of a variable differs between runs."""
    return any(fact + _BY_RUN in attrs for fact in RUN_FACTS)


def attributes_of_run(attrs: Mapping[Any, Any], run: Any) -> dict[Any, Any]:
    """Return the attributes of a variable for one run."""
    found = dict(attrs)
    for fact in RUN_FACTS:
        if fact + _BY_RUN in attrs and (value := json.loads(attrs[fact + _BY_RUN]).get(_key(run))) is not None:
            found[fact] = value
    return found


def changed_chance(attrs: Mapping[Any, Any], change: Callable[[float], float]) -> dict[str, Any]:
    """Return the accuracy of guessing after a change of the scale: an attribute, or one by run, or none."""
    found: dict[str, Any] = {"chance": change(attrs["chance"])} if "chance" in attrs else {}
    if (name := "chance" + _BY_RUN) in attrs:
        by_run = {run: None if one is None else change(one) for run, one in json.loads(attrs[name]).items()}
        found[name] = json.dumps(by_run)
    return found


def _key(run: Any) -> str:
    """Return the label of a run as a key of JSON. A recording can hold integers as floats."""
    return f"{run:g}" if isinstance(run, Real) else str(run)
