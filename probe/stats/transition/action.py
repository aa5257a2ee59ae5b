"""The empirical action: minus the logarithm of a density, from a histogram."""

import numpy as np
import xarray as xr

from probe.stats.validation import as_vectors, check_count


def empirical_action(overlaps: np.ndarray, n_bins: int = 31) -> xr.Dataset:
    """Return -log of the density of overlaps by a histogram, with standard errors.

    Parameters
    ----------
    overlaps : array of shape (n_units,)
        Finite numbers.
    n_bins : int
        Number of bins of equal width over the range of the overlaps.

    Returns
    -------
    xarray.Dataset
        By ``bin``: ``action`` in nats, least 0, infinite for an empty bin; ``action_se``, the root of 1 / count - 1 /
        n; the coordinate ``q``, the middle of the bin.

    Raises
    ------
    ValueError
        If overlaps are no vector of finite numbers, or ``n_bins`` is below 2.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import empirical_action
    >>> empirical_action(np.array([0.0, 0.1, 0.2, 1.0]), n_bins=2)["action"].values.round(3).tolist()
    [0.0, 1.099]
    """
    (q,) = as_vectors(overlaps=overlaps)
    check_count("n_bins", n_bins, 2)
    counts, edges = np.histogram(q, n_bins)
    with np.errstate(divide="ignore"):
        action, error = np.log(counts.max() / counts), np.sqrt(np.maximum(1 / counts - 1 / len(q), 0))
    columns = {
        "q": ((edges[1:] + edges[:-1]) / 2, "1", "overlap in the middle of the bin"),
        "action": (action, "nats", "empirical action"),
        "action_se": (error, "nats", "standard error of the empirical action"),
    }
    found = {
        name: ("bin", values, {"units": units, "long_name": text}) for name, (values, units, text) in columns.items()
    }
    return xr.Dataset(found).set_coords("q")
