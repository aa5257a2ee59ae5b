r"""Neural collapse: how close the rows of each class are to one point, and the class means to a simplex.

With class means mu_c, c = 1, ..., K, their mean mu (each class counts once), m_c = mu_c - mu, and

    S_W = 1/n sum_i (t_i - mu_c(i)) (t_i - mu_c(i))^T        S_B = 1/K sum_c m_c m_c^T

    NC1          = tr(S_W S_B^+) / K                                 0 if each class is one point
    NC2, norms   = standard deviation over mean of |m_c|             0 for equal norms
    NC2, angles  = mean over pairs |cos(m_c, m_c') + 1 / (K - 1)|    0 for the angles of a simplex

(Papyan, Han and Donoho 2020, PNAS 117(40), arXiv:2008.08186). S_B has rank K - 1 at most. The pseudo-inverse is
computed in the span of the class means, so that the cost is n K d also for wide layers. With two classes, NC2 is always
0. The mean of a class comes from its own n_c rows, which shrinks squared deviations by the factor (n_c - 1) / n_c:
compare runs only at equal numbers of rows.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from probe.forward.layers import Layers
from probe.forward.outputs import Reduce
from probe.information.validation import as_rows, class_codes, rounding_variance
from probe.layer_probe import LayerProbe, Variables

_RANK = 1e-12  # of the largest squared singular value: smaller ones are 0 up to the rounding of float64


class NeuralCollapse(NamedTuple):
    """NC1 and NC2 of one layer, in units of 1; NaN if undefined. ``singletons``: whether a class has a single row."""

    nc1: float
    nc2_norms: float
    nc2_angles: float
    singletons: bool


def collapse_summary(z: Tensor, labels: Tensor) -> NeuralCollapse:
    """Return NC1 and NC2 of the rows of ``z``.

    Parameters
    ----------
    z : Tensor of shape (n, d), n >= 2, finite
        Activations.
    labels : integer Tensor of shape (n,)
        Classes, at least two.

    Returns
    -------
    NeuralCollapse
        All numbers are NaN if the class means are equal. The angles are NaN if the mean of a class is the mean of all.
        Directions in which the class means vary by less than 1e-12 of the largest variance are rounding and are left
        out.

    Raises
    ------
    ValueError
        If the rows are not finite, if the labels do not fit, or if there is only one class.

    See Also
    --------
    probe.NeuralCollapseProbe : The same numbers over training.

    Examples
    --------
    Three classes of two rows each, whose means are the corners of a simplex:

    >>> import torch
    >>> from probe.measures import collapse_summary
    >>> z = torch.cat([0.9 * torch.eye(3), 1.1 * torch.eye(3)])
    >>> found = collapse_summary(z, torch.tensor([0, 1, 2, 0, 1, 2]))
    >>> round(found.nc1, 4), round(found.nc2_norms, 4), round(found.nc2_angles, 4)
    (0.0067, 0.0, 0.0)
    """
    t, y = as_rows(z.detach(), name="z"), class_codes(labels, z)
    t = t * 2.0 ** -math.frexp(t.abs().max().item())[1]  # no number depends on the size, and squares cannot overflow
    rounding = rounding_variance(z.dtype) * t.square().sum(1).max()
    t = t - t.mean(0)
    sizes = y.bincount()
    k = len(sizes)
    if k < 2:
        raise ValueError("Expected labels of at least two classes, got one class; pass data of several classes")
    means = t.new_zeros(k, t.shape[1]).index_add_(0, y, t) / sizes[:, None]  # (K, d)
    m = means - means.mean(0)
    norms = m.norm(dim=1)
    singletons = bool((sizes < 2).any())
    if norms.square().sum() <= rounding:
        return NeuralCollapse(math.nan, math.nan, math.nan, singletons)
    return NeuralCollapse(_nc1(t - means[y], m), (norms.std(correction=0) / norms.mean()).item(), _nc2(m), singletons)


def _nc1(deviations: Tensor, m: Tensor) -> float:
    """Return NC1 of rows (n, d) minus their class means, and class means (K, d) minus their mean."""
    squares, u = torch.linalg.eigh(m @ m.T)  # of the singular values s_j of m, whose right vectors are m^T u_j / s_j
    kept = squares > _RANK * squares[-1]
    along = deviations @ m.T @ u[:, kept]  # (n, j): deviations along the right vectors, times s_j
    # K / s_j^2 is the inverse of S_B, over K
    return (along.square().mean(0) / squares[kept].square()).sum().item()


def _nc2(m: Tensor) -> float:
    """Return the distance of class means (K, d) from the angles of a simplex; NaN if one of them is 0."""
    k, norms = len(m), m.norm(dim=1)
    if not (norms > 0).all():
        return math.nan
    cosines = (m @ m.T / (norms[:, None] * norms))[*torch.triu_indices(k, k, 1)]
    return (cosines + 1 / (k - 1)).abs().mean().item()


class NeuralCollapseProbe(LayerProbe):
    """Measure neural collapse, NC1 and NC2, of layers; needs integer targets.

    Parameters
    ----------
    layers
        Layers to measure, see :func:`probe.forward.select_layers`. The literature measures the input of the last linear
        layer.
    reduce
        Conversion of an output to rows, see :func:`probe.forward.reduce_output`. With ``"tokens"`` each position is a
        row: pass a target for each position, or one for each input, which all its positions then have.
    max_samples : int or None
        Number of rows measured, at least 2; of more rows, a fixed random subset is measured. None: all rows.
    random_state : int
        Seed of the subset.
    device
        Device of the computation. Default: the device of the model.

    Attributes
    ----------
    series_ : xarray.Dataset
        By (step, split, layer), in units of 1: ``nc1``, ``nc2_norms``, ``nc2_angles``. Flags: ``nc_undefined``
        (activations are not finite, the class means are equal, or an angle is undefined) and ``nc_singletons`` (a class
        has a single row, which does not vary: NC1 is too low). Splits without integer targets are NaN, their flags -1.
        Rows with the target -100 are left out. The attribute ``n_rows`` is the number of rows measured, the smallest
        over splits and layers.

    See Also
    --------
    probe.measures.collapse_summary : The same numbers of one tensor.

    Examples
    --------
    >>> import torch
    >>> from probe import NeuralCollapseProbe
    >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(3, 3))
    >>> x, y = torch.cat([0.9 * torch.eye(3), 1.1 * torch.eye(3)]), torch.tensor([0, 1, 2, 0, 1, 2])
    >>> series = NeuralCollapseProbe(layers="0").fit(model, (x, y)).series_
    >>> round(series["nc1"].item(), 4)
    0.0067
    """

    variables: ClassVar[Variables] = {
        "nc1": ("1", "NC1: within-class over between-class variance", False),
        "nc2_norms": ("1", "NC2: relative spread of the norms of class means", False),
        "nc2_angles": ("1", "NC2: distance from the angles of a simplex", False),
        "nc_undefined": ("1", "not finite, or class means are one", True),
        "nc_singletons": ("1", "a class has a single row", True),
    }
    nonfinite_flag = None
    needs_labels = True

    def __init__(
        self,
        *,
        layers: Layers = None,
        reduce: Reduce = None,
        max_samples: int | None = None,
        random_state: int = 0,
        device: Any = None,
    ) -> None:
        super().__init__(layers=layers, reduce=reduce, max_samples=max_samples, random_state=random_state)
        self.device = device

    def summarise(self, z: Tensor, targets: Tensor | None) -> Mapping[str, float]:
        """Return the numbers of :func:`collapse_summary`, and the two flags."""
        assert targets is not None  # since labels are needed
        if torch.isfinite(z).all():
            found = collapse_summary(z, targets)
        else:
            singletons = bool((targets.unique(return_counts=True)[1] < 2).any())
            found = NeuralCollapse(math.nan, math.nan, math.nan, singletons)
        numbers = {"nc1": found.nc1, "nc2_norms": found.nc2_norms, "nc2_angles": found.nc2_angles}
        undefined = any(map(math.isnan, numbers.values()))
        return {**numbers, "nc_undefined": undefined, "nc_singletons": found.singletons}
