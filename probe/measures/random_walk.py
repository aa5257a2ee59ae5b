"""Growth of modes under a random walk of the weights: a null for :func:`probe.stats.mode_classes`.

The walk starts at the first observation of a window, from a matrix with the recorded singular values. From one
observation to the next, it adds a Gaussian matrix with the Frobenius norm of the recorded update. Gaussian matrices
have no preferred directions, so the singular vectors of the start do not matter. Modes of the walk are followed and
their exponents estimated as those of the weights. The values of equal rank are a second estimate, since bulk modes of a
walk lose their identity.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.stats import t
from torch import Tensor

from probe.forward.snapshot import generator
from probe.geometry.modes.sequence import follow_modes
from probe.stats.coarse_graining.exponents import growth_exponents
from probe.stats.coarse_graining.windows import window_bounds
from probe.stats.validation import check_count, check_level

_LEAST = 5  # walks with an estimate
_NEEDED = "mode_singular_value", "mode_spectrum", "mode_norm", "mode_update_norm", "mode_undefined"


def random_walk_band(
    series: xr.Dataset,
    windows: Mapping[str, Any],
    *,
    n_walks: int = 10,
    level: float = 0.95,
    random_state: int = 0,
    **settings: Any,
) -> xr.Dataset:
    """Return the band of growth exponents of random walks with the step sizes of the training.

    Parameters
    ----------
    series : Dataset
        Series of :class:`probe.WeightModesProbe`, of one run or with a dimension ``run``.
    windows : mapping of names to (first, last)
        Windows as for :func:`probe.stats.growth_exponents`.
    n_walks : int
        Number of walks for each run, window and matrix, at least 5.
    level : float
        Coverage of the band for the exponent of one more walk.
    random_state : int
        Seed of the walks.
    **settings
        Further parameters of :func:`probe.stats.growth_exponents`.

    Returns
    -------
    Dataset
        ``low`` and ``high`` over the dimensions of the exponents, for :func:`probe.stats.mode_classes`. A band is that
        of the mode of a walk which begins at the singular value nearest to that of the mode. It is the hull of two
        prediction intervals (mean and t quantile over walks): of the followed mode, if 5 or more walks keep its
        identity, and of the singular value of equal rank. NaN without a window, a mode, two observations, or the norm
        of an update, and for a stack of matrices.

    Raises
    ------
    ValueError
        If the series lacks a variable, or a parameter is outside its range.

    See Also
    --------
    probe.stats.mode_classes : Compares exponents with the band.

    Notes
    -----
    The cost is one decomposition for each walk and observation: ``n_walks`` times that of the recording. Pass all
    recorded steps. If some are left out, the norms of the updates between the others are too small.

    Examples
    --------
    >>> import torch
    >>> from probe import WeightModesProbe
    >>> from probe.measures import random_walk_band
    >>> model = torch.nn.Linear(3, 3, bias=False)
    >>> _ = model.weight.data.copy_(torch.diag(torch.tensor([9.0, 3.0, 1.0])))
    >>> probe = WeightModesProbe().attach(model, (torch.zeros(2, 3), None))
    >>> for step in (1, 2, 4, 8, 16):
    ...     _ = probe.observe(step)
    ...     _ = model.weight.data.mul_(0.9)  # weight decay alone
    >>> band = random_walk_band(probe.series_, {"all": (1, 16)})
    >>> bool((band["low"] < 0).all()), bool((band["high"] > 0).all())
    (True, True)
    """
    if missing := [name for name in _NEEDED if name not in series]:
        raise ValueError(f"Expected a series with followed modes, got none of {missing}; record WeightModesProbe")
    check_count("n_walks", n_walks, _LEAST)
    check_level(level)
    template = growth_exponents(series, windows, **settings)["exponent"]
    shapes = json.loads(series["mode_norm"].attrs["shapes"])
    edges = np.full((2, *template.shape), np.nan)
    for place, name, values, window in _cells(series, windows, template):
        random = generator(random_state)
        edges[0][place], edges[1][place] = _band(values, shapes[name], window, n_walks, level, random, settings)
    return xr.Dataset({name: template.copy(data=part) for name, part in zip(("low", "high"), edges, strict=True)})


def _cells(
    series: xr.Dataset, windows: Mapping[str, Any], template: xr.DataArray
) -> Iterator[tuple[tuple[int, ...], str, xr.Dataset, tuple[float, float]]]:
    """Yield the place in the template, the parameter, its observations in a window, and this window."""
    runs = [series.isel(run=i) for i in range(series.sizes["run"])] if "run" in series.dims else [series]
    bounds = [window_bounds(name, window, series) for name, window in windows.items()]
    for i, run in enumerate(runs):
        lead = (i,) if "run" in series.dims else ()
        for j, (first, last) in enumerate(edges[i].tolist() for edges in bounds):
            if not first < last:
                continue
            inside = run[[*_NEEDED]].sel(step=slice(first, last))
            for k, name in enumerate(template["parameter"].values.tolist()):
                one = inside.sel(parameter=name)
                one = one.isel(step=(one["mode_undefined"] == 0).values)
                if one.sizes["step"] > 1:
                    yield (*lead, j, k), name, one, (first, last)


def _band(
    one: xr.Dataset,
    shape: list[int],
    window: tuple[float, float],
    n_walks: int,
    level: float,
    random: torch.Generator,
    settings: Mapping[str, Any],
) -> np.ndarray:
    """Return the band (2, mode) of one matrix in one window."""
    values = one["mode_singular_value"].transpose("step", "mode").values
    spectrum = one["mode_spectrum"].transpose("step", "rank").values[0]
    spectrum = spectrum[np.isfinite(spectrum)]
    found = np.full((2, values.shape[1]), np.nan)
    present = np.isfinite(values)
    updates = one["mode_update_norm"].values[1:]
    if (len(shape) == 3 and shape[0] > 1) or not present.any() or not np.isfinite(updates).all():
        return found
    seen = present.any(0)
    first = np.take_along_axis(values, present.argmax(0)[None], 0)[0]
    ranks = np.abs(spectrum - first[seen, None]).argmin(1)
    walks = [_walk(spectrum, shape[-2:], updates, int(ranks.max()) + 1, random) for _ in range(n_walks)]
    exponents = growth_exponents(_as_series(walks, one["step"].values), {"window": window}, **settings)["exponent"]
    estimates = exponents.isel(window=0).transpose("parameter", "run", "mode").values[..., ranks]
    hulls = [_prediction(part, level) for part in estimates]
    found[0, seen] = np.fmin(hulls[0][0], hulls[1][0])
    found[1, seen] = np.fmax(hulls[0][1], hulls[1][1])
    return found


def _walk(
    spectrum: np.ndarray, shape: list[int], updates: np.ndarray, n_modes: int, random: torch.Generator
) -> tuple[np.ndarray, ...]:
    """Return followed and ranked values (step, mode), and norms (step,), of one walk."""

    def matrices() -> Iterator[Tensor]:
        weight = torch.zeros(shape, dtype=torch.float64)
        weight.diagonal().copy_(torch.as_tensor(spectrum))
        yield weight
        for size in updates:
            step = torch.randn(shape, generator=random, dtype=torch.float64)
            weight = weight + float(size) / step.norm() * step
            yield weight

    found = follow_modes(matrices(), share=1.0, max_modes=n_modes)
    same = (found.matched[1:] == 1).cumprod(0)  # a new mode in a slot is not the one that began there
    values = np.where(np.concatenate([np.ones((1, n_modes)), same]) > 0, found.values, np.nan)
    return values, found.spectrum[:, :n_modes], found.norms


def _as_series(walks: list[tuple[np.ndarray, ...]], steps: np.ndarray) -> xr.Dataset:
    """Return walks in the form of a recording, with followed and ranked modes as two parameters."""
    values = np.stack([np.stack(walk[:2], 1) for walk in walks])  # (run, step, parameter, mode)
    norms = np.stack([walk[2] for walk in walks])[..., None].repeat(2, -1)
    dims = "run", "step", "parameter"
    return xr.Dataset(
        {
            "mode_singular_value": ((*dims, "mode"), values),
            "mode_matched": ((*dims, "mode"), np.where(np.isfinite(values), 1, -1)),
            "mode_degenerate": ((*dims, "mode"), np.zeros(values.shape, int)),
            "mode_norm": (dims, norms),
            "mode_undefined": (dims, np.zeros(norms.shape, int)),
        },
        {"step": steps, "parameter": ["followed", "ranked"], "mode": np.arange(values.shape[-1])},
    )


def _prediction(estimates: np.ndarray, level: float) -> np.ndarray:
    """Return prediction intervals (2, mode) for one more walk from estimates (walk, mode)."""
    count = np.isfinite(estimates).sum(0)
    kept = estimates[:, count >= _LEAST]
    n = count[count >= _LEAST]
    middle = np.nanmean(kept, 0)
    half = t.ppf((1 + level) / 2, n - 1) * np.nanstd(kept, 0, ddof=1) * np.sqrt(1 + 1 / n)
    found = np.full((2, estimates.shape[1]), np.nan)
    found[:, count >= _LEAST] = middle - half, middle + half
    return found
