"""Growth of the distance between two trajectories from neighbouring starts.

    log growth = ln(|end - end'| / |start - start'|)

Divided by the number of updates, this is a finite-time Lyapunov exponent in the direction of the perturbation.
The end of a trajectory is rounded in each update. A twin that starts one rounding apart measures what rounding alone
makes of the distance: it is the floor below which a distance is not the response to the perturbation.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

FLOOR = 0.07  # largest share of a final distance that rounding may have, so that its log is right to .01


def log_growth(start: Tensor, end: Tensor, twin_start: Tensor, twin_end: Tensor) -> float:
    """Logarithm of the final distance of two trajectories over their initial distance.

    Parameters
    ----------
    start, end : Tensor of any shape
        First and last state of a trajectory. Differences are computed in float64.
    twin_start, twin_end : Tensor of the same shape
        First and last state of the perturbed trajectory.

    Returns
    -------
    float
        In nats. -inf if the trajectories end in the same state, NaN if they start in the same state.

    See Also
    --------
    angular_distance : Change of the direction instead of the length.
    probe.ChaosProbe : Growth during a training.

    Examples
    --------
    >>> import torch
    >>> from probe.geometry import log_growth
    >>> origin = torch.zeros(2)
    >>> round(log_growth(origin, origin, torch.tensor([3.0, 4.0]), torch.tensor([0.0, 10.0])), 4)
    0.6931
    """
    before, after = distance(start, twin_start), distance(end, twin_end)
    if before == 0:
        return math.nan
    return math.log(after / before) if after > 0 else -math.inf if after == 0 else math.nan


def distance(a: Tensor, b: Tensor) -> float:
    """Return the Euclidean distance of two tensors, computed in float64."""
    return (a.cpu().double() - b.cpu().double()).norm().item()  # MPS has no float64


def angular_distance(a: Tensor, b: Tensor) -> float:
    """One minus the cosine of the angle between two tensors as vectors, exact also for nearly equal ones.

    Parameters
    ----------
    a, b : Tensor of the same shape

    Returns
    -------
    float
        From 0 to 2. NaN if one of the vectors is 0.

    See Also
    --------
    log_growth : Change of the distance.

    Examples
    --------
    >>> import torch
    >>> from probe.geometry import angular_distance
    >>> angular_distance(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]))
    1.0
    """
    a, b = a.cpu().double().flatten(), b.cpu().double().flatten()
    return ((a / a.norm() - b / b.norm()).square().sum() / 2).item()


def smallest_size(size: float, final: float, floor: float) -> float:
    """Smallest size of a perturbation whose log growth rounding changes by less than .01.

    Rounding adds a displacement r of its own to that of the perturbation, D. At r = .07 D the log growth of a network
    20-64-5 in float32 was wrong by at most .008 (60 updates of SGD with momentum, and of Adam, 6 seeds each), at
    r = .14 D by .015, and at r = .2 D by .03.

    Parameters
    ----------
    size
        Initial distance of a pair of trajectories.
    final
        Their final distance. The growth at smaller sizes is taken to be the same.
    floor
        Final distance of two trajectories that start one rounding apart.

    Returns
    -------
    float
        The size at which the final distance is 14 times the floor. NaN if the final distance is 0.

    Examples
    --------
    >>> from probe.geometry import smallest_size
    >>> round(smallest_size(size=1e-2, final=2e-2, floor=1e-6), 9)
    7.143e-06
    """
    return size * floor / (final * FLOOR) if final > 0 else math.nan


def top_eigenpair(product: Callable[[Tensor], Tensor], start: Tensor, n_iter: int) -> tuple[float, Tensor, float]:
    """Largest eigenvalue of a symmetric operator by the Lanczos iteration with full orthogonalisation.

    Parameters
    ----------
    product : function(vector) -> vector
        The operator. It receives float64 vectors of length 1.
    start : Tensor of shape (P,)
        First direction.
    n_iter : int
        Largest number of products, of which each keeps a vector of P numbers.

    Returns
    -------
    value : float
        The largest Ritz value, a lower bound of the largest eigenvalue.
    vector : float64 Tensor of shape (P,)
        Its Ritz vector, of length 1.
    residual : float
        An eigenvalue lies within this distance of ``value``.

    Raises
    ------
    ValueError
        If a product is not finite.

    Examples
    --------
    >>> import torch
    >>> from probe.geometry import top_eigenpair
    >>> diagonal = torch.tensor([3.0, 1.0, -5.0]).double()
    >>> value, vector, residual = top_eigenpair(lambda v: diagonal * v, torch.ones(3), 3)
    >>> round(value, 6), [round(entry, 6) for entry in vector.abs().tolist()]
    (3.0, [1.0, 0.0, 0.0])
    """
    n_iter = min(n_iter, len(start))
    basis = torch.empty(n_iter, len(start), dtype=torch.float64, device=start.device)
    basis[0] = start.double() / start.double().norm()
    diagonal: list[float] = []
    beside: list[float] = []
    for k in range(1, n_iter + 1):
        image = product(basis[k - 1])
        scale = image.norm().item()
        if not math.isfinite(scale):
            raise ValueError("Expected finite products of the Hessian, got NaN or infinity; check the loss")
        diagonal.append(torch.dot(image, basis[k - 1]).item())
        image = torch.addmv(image, basis[:k].T, basis[:k] @ image, alpha=-1)
        if image.norm().item() < 0.1 * scale:  # rounding leaves a part of it
            image = torch.addmv(image, basis[:k].T, basis[:k] @ image, alpha=-1)
        beside.append(image.norm().item())
        if beside[-1] <= 1e-10 * scale or k == n_iter:
            break
        basis[k] = image / beside[-1]
    values, vectors = torch.linalg.eigh(
        torch.diag(torch.tensor(diagonal).double())
        + torch.diag(torch.tensor(beside[:-1]).double(), 1)
        + torch.diag(torch.tensor(beside[:-1]).double(), -1)
    )
    ritz = basis[: len(diagonal)].T @ vectors[:, -1].to(basis.device)
    return values[-1].item(), ritz / ritz.norm(), abs(beside[-1] * vectors[-1, -1].item())
