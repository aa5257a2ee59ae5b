"""Curves as people have them, a Dataset, a DataFrame or arrays by name, as one Dataset over ``step``."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

_LEAST = 4  # observations: the fewest that can rise and fall between two ends


def as_dataset(curves: xr.Dataset | pd.DataFrame | Mapping[str, ArrayLike]) -> xr.Dataset:
    """Curves of any form as a Dataset over ``step``; errors say what is wrong with them."""
    if isinstance(curves, pd.DataFrame):
        dataset = _from_frame(curves)
    elif isinstance(curves, xr.Dataset):
        dataset = curves
    elif isinstance(curves, Mapping):
        dataset = _from_mapping(curves)
    else:
        raise TypeError(f"expected a Dataset, a DataFrame or a mapping of arrays, got {type(curves).__name__}")
    if "step" not in dataset.coords or dataset["step"].dims != ("step",):
        raise ValueError(f"expected 'step' in the curves, got {list(dataset.variables)}; rename yours to 'step'")
    steps = dataset["step"].values.astype(float)
    if len(steps) < _LEAST:
        raise ValueError(
            f"expected at least {_LEAST} observations, got {len(steps)}; observe more often, or if nothing was "
            "observed give attach the optimizer, or call observe(step)"
        )
    if not np.isfinite(steps).all() or (steps < 0).any() or (np.diff(steps) <= 0).any():
        raise ValueError(
            "expected finite, strictly increasing steps from 0 on, got unsorted, repeated, negative or "
            "non-finite ones; sort by step and keep one row a step"
        )
    return dataset


def _from_frame(frame: pd.DataFrame) -> xr.Dataset:
    if "step" not in frame.columns and frame.index.name == "step":
        frame = frame.reset_index()
    numbers = frame.select_dtypes("number")
    return _from_mapping({str(name): numbers[name].to_numpy(dtype=float) for name in numbers.columns})


def _from_mapping(curves: Mapping[Any, Any]) -> xr.Dataset:
    arrays = {name: np.asarray(values) for name, values in curves.items()}
    if "step" not in arrays:
        raise ValueError(f"expected the key or column 'step', got {list(arrays)}; rename yours to 'step'")
    lengths = {name: array.shape for name, array in arrays.items()}
    if any(array.ndim not in (1, 2) or array.shape[-1:] != arrays["step"].shape for array in arrays.values()):
        raise ValueError(f"expected arrays as long as step, or (run, step), got the shapes {lengths}")
    steps = arrays.pop("step")
    return xr.Dataset({k: (("run", "step")[-a.ndim :], a) for k, a in arrays.items()}, {"step": steps})


def hint(curves: xr.Dataset, wanted: str) -> str:
    """Why a variable may be missing, or which names are near."""
    names = [str(name) for name in curves.data_vars]
    near = get_close_matches(wanted, names, n=3, cutoff=0.5)
    if wanted.endswith("_accuracy") and f"{wanted.split('_')[0]}_loss" in names:
        return "there is a loss: targets that are no class labels have no accuracy"
    if "all_loss" in names:
        return "the data was one split, 'all'; attach with {'train': ..., 'test': ...}"
    if near:
        return f"near names: {', '.join(near)}"
    return f"there are: {', '.join(names[:6]) or 'none'}{', ...' if len(names) > 6 else ''}"
