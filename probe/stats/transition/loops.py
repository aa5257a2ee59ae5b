"""Area of a hysteresis loop at several sweep rates, and at zero rate."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import integrate, stats

from probe.stats.inference import LEAST_RUNS, Estimate
from probe.stats.validation import as_numbers, as_vectors, check_level, check_number

LEAST_RATES, LEAST_VALUES = 3, 3
_EXPONENTS = np.geomspace(0.2, 2.0, 120)
_LEAST_STEP = 0.00995  # of the logarithm of the rate, 1 %
_NEGATIVE = 0.001  # p-value of a negative area


class Hysteresis(NamedTuple):
    """Result of :func:`hysteresis`.

    Attributes
    ----------
    status : str
        "remains": the loop has an area at zero rate; "closes"; "no loop" at any rate; "undecided"; "too few rates" with
        fewer than three; "too few repeats" with fewer than three at a rate.
    reason : str
        Why the status is "undecided" or "too few"; else empty.
    rates : array of shape (k,)
        Sweep rates in increasing order.
    areas, errors : array of shape (k,)
        Mean area of the loop over repeats, and its standard error, in the units of order parameter times control. The
        error has a part for jumps between two values of the control parameter.
    repeats : int array of shape (k,)
    zero_rate : Estimate
        Area at zero rate by the power law area(0) + c rate^exponent.
    exponent : Estimate
        Exponent of the power law, between 0.2 and 2.
    p_value : float
        Of the fit. NaN with three rates, which the law fits exactly.
    """

    status: str
    reason: str
    rates: np.ndarray
    areas: np.ndarray
    errors: np.ndarray
    repeats: np.ndarray
    zero_rate: Estimate
    exponent: Estimate
    p_value: float


def hysteresis(
    rates: ArrayLike,
    control: ArrayLike,
    up: Sequence[ArrayLike],
    down: Sequence[ArrayLike],
    *,
    least_share: float = 0.1,
    level: float = 0.9,
) -> Hysteresis:
    """Test whether a hysteresis loop keeps an area as the sweep becomes slower.

    Every sweep of finite rate makes a loop, because the system lags behind. At a first-order transition the loop keeps
    an area for all rates above the rate at which the units hop. The area at zero rate is extrapolated by a power law.

    Parameters
    ----------
    rates : array of shape (k,)
        Sweep rates, three or more, such as the change of the control parameter per step. They should span a factor of
        ten or more.
    control : array of shape (n,)
        Values of the control parameter, increasing.
    up, down : sequence of k arrays of shape (repeats, n)
        Order parameter of each rate at the values of ``control``, of the sweep upwards and of the sweep downwards. Both
        are in the order of ``control``.
    least_share : float
        Share of the largest area that counts as a loop, in (0, 1).
    level : float
        Coverage of the intervals, in (0, 1).

    Returns
    -------
    Hysteresis
        The status is "remains" if the interval of the area at zero rate lies above 0. It is "closes" if the interval
        lies below ``least_share`` of the largest area.

    Raises
    ------
    ValueError
        If rates are not positive, or differ by less than 1 %, ``control`` does not increase or has fewer than three
        values, or shapes differ.

    See Also
    --------
    hopping_rates : The rate below which the loop of a noisy system closes.

    Notes
    -----
    The area is the integral of the difference of both sweeps, with a positive sign if the order parameter lags behind.
    It is not the integral of the absolute difference, which noise alone makes positive.

    The interval comes from the profile of the weighted sum of squares, with the F distribution. Area at zero rate and
    factor c are at least 0. If the law does not fit, the errors grow by the misfit. The exponent is 2/3 for a
    deterministic system that jumps at the end of a branch (Jung, Gray, Roy and Mandel 1990), and 1 for a system that
    lags by a constant time.

    The exponent is at least 0.2. A loop that closes more slowly, as the logarithm of the rate, cannot be distinguished
    from one that remains. The status concerns the rates that were recorded. A system with noise closes its loop at
    rates below those at which its units hop. Sweeps that are all faster than the hops show a loop that remains.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import hysteresis
    >>> random, control, rates = np.random.default_rng(0), np.linspace(-1, 1, 41), [0.001, 0.004, 0.016, 0.064]
    >>> def sweeps(shift):  # jumps at +-(0.2 + rate^(2/3)): area 0.8 + 4 rate^(2/3)
    ...     curves = [np.tanh(20 * (control + shift * (0.2 + r ** (2 / 3)))) for r in rates]
    ...     return [curve + random.normal(0, 0.01, (5, 41)) for curve in curves]
    >>> found = hysteresis(rates, control, sweeps(-1), sweeps(1))
    >>> found.status, round(found.zero_rate.value, 1)
    ('remains', 0.8)
    """
    check_level(level)
    check_number("least_share", least_share, 0, 1, "a share such as 0.1")
    r, loops = _loops(rates, control, up, down)
    repeats = np.array([len(areas) for areas, _ in loops])
    values = np.array([areas.mean() for areas, _ in loops])
    errors = np.array([np.hypot(_standard_error(areas), grid) for areas, grid in loops])
    unknown = Estimate(*3 * (np.nan,), len(r))
    found = Hysteresis("", "", r, values, errors, repeats, unknown, unknown, np.nan)
    if len(r) < LEAST_RATES:
        return found._replace(status="too few rates", reason=f"there are {len(r)} rates, the rule needs {LEAST_RATES}")
    if repeats.min() < LEAST_RUNS:
        reason = f"a rate has {repeats.min()} repeats, the rule needs {LEAST_RUNS}"
        return found._replace(status="too few repeats", reason=reason)
    if not (size := max(abs(values).max(), errors.max())) > 0:
        return found._replace(status="no loop", zero_rate=Estimate(0.0, 0.0, 0.0, len(r)))
    scaled, exponent, p_value = _power_law(r, values / size, np.maximum(errors / size, 1e-9), repeats, level)
    value, low, high = (float(size * end) for end in scaled[:3])
    zero = Estimate(value, low, high, len(r))
    found = found._replace(zero_rate=zero, exponent=exponent, p_value=p_value)
    status, reason = _status(found, least_share, level)
    return found._replace(status=status, reason=reason)


def _loops(
    rates: ArrayLike, control: ArrayLike, up: Sequence[ArrayLike], down: Sequence[ArrayLike]
) -> tuple[np.ndarray, list[tuple[np.ndarray, float]]]:
    """Return rates in increasing order, and of each the areas (repeats,) and the error of their integrals."""
    (r,), (c,) = as_vectors(rates=rates), as_vectors(control=control)
    if len(r) == 0 or not np.isfinite(r).all() or (r <= 0).any() or len(np.unique(r)) < len(r):
        raise ValueError(f"Expected distinct positive rates, got {rates!r}; merge the repeats of one rate")
    if len(r) >= LEAST_RATES and (np.diff(np.sort(np.log(r))) < _LEAST_STEP).any():
        raise ValueError(f"Expected rates that differ by 1 % or more, got {rates!r}; merge the repeats of one rate")
    _check_control(c)
    if not len(up) == len(down) == len(r):
        raise ValueError(f"Expected sweeps of {len(r)} rates, got {len(up)} and {len(down)}; pass an array per rate")
    both = []
    for i in range(len(r)):
        pair = [as_numbers(name, sweeps[i]) for name, sweeps in (("up", up), ("down", down))]
        shapes = {x.shape for x in pair}
        if len(shapes) > 1 or pair[0].ndim != 2 or pair[0].shape[1] != len(c) or not np.isfinite(pair).all():
            found = f"{pair[0].shape} and {pair[1].shape}"
            raise ValueError(
                f"Expected finite sweeps of shape (repeats, {len(c)}), got {found}; pass (repeats, n) each"
            )
        both.append(np.array(pair))
    order = np.argsort(r)
    rise = np.mean([pair[:, :, -1].mean() - pair[:, :, 0].mean() for pair in both])
    sign = 1.0 if rise >= 0 else -1.0
    return r[order], [
        (sign * integrate.trapezoid(both[i][1] - both[i][0], c, axis=-1), _grid_error(both[i], c)) for i in order
    ]


def _check_control(c: np.ndarray) -> None:
    """Raise ValueError unless there are three or more finite values that increase."""
    if len(c) < LEAST_VALUES:
        raise ValueError(
            f"Expected {LEAST_VALUES} values of control or more, got {len(c)}; record each sweep at more values"
        )
    if not np.isfinite(c).all() or (np.diff(c) <= 0).any():
        raise ValueError(
            f"Expected finite values of control in increasing order, got {_first_fault(c)}; sort both sweeps by control"
        )


def _first_fault(control: np.ndarray) -> str:
    """Return the first value that is not finite, or the first two that do not increase."""
    if (bad := np.flatnonzero(~np.isfinite(control))).size:
        return f"{control[bad[0]]:g} at place {bad[0]}"
    i = int(np.flatnonzero(np.diff(control) <= 0)[0])
    return f"{control[i]:g} before {control[i + 1]:g}"


def _standard_error(areas: np.ndarray) -> float:
    """Return the standard error of the mean; NaN with fewer than two areas."""
    return float(areas.std(ddof=1) / np.sqrt(len(areas))) if len(areas) > 1 else np.nan


def _grid_error(both: np.ndarray, control: np.ndarray) -> float:
    """Return the standard error of the area of mean sweeps (2, repeats, n), which jump anywhere between two values.

    A jump is what a difference has more than the larger of its neighbours.
    """
    moves = np.pad(np.abs(np.diff(both.mean(1), axis=-1)), ((0, 0), (1, 1)))
    jumps = moves[:, 1:-1] - np.maximum(moves[:, :-2], moves[:, 2:])
    return float(np.sqrt(((np.maximum(jumps, 0) * np.diff(control)) ** 2).sum() / 12))


def _power_law(
    rates: np.ndarray, areas: np.ndarray, errors: np.ndarray, repeats: np.ndarray, level: float
) -> tuple[Estimate, Estimate, float]:
    """Return the area at zero rate and the exponent with intervals, and the p-value of the fit."""
    k, dof = len(rates), int((repeats - 1).sum())
    squares, zero, variance = np.array([_line((rates / rates.max()) ** b, areas, errors) for b in _EXPONENTS]).T
    best = int(squares.argmin())
    p_value = float(stats.f.sf(squares[best] / (k - 3), k - 3, dof)) if k > 3 else np.nan
    misfit = max(1.0, squares[best] / (k - 3)) if k > 3 else 1.0
    allowed = stats.f.ppf(level, 1, dof) * misfit - (squares - squares[best])
    inside = allowed >= 0
    half = np.sqrt(variance[inside] * allowed[inside])
    low, high = (zero[inside] - half).min(), (zero[inside] + half).max()
    around = Estimate(float(zero[best]), max(float(low), 0.0), max(float(high), 0.0), k)
    b = _EXPONENTS
    return around, Estimate(float(b[best]), float(b[inside].min()), float(b[inside].max()), k), p_value


def _line(x: np.ndarray, y: np.ndarray, errors: np.ndarray) -> tuple[float, float, float]:
    """Return the sum of squares of the best line with intercept and slope of at least 0, its intercept and variance."""
    w = errors**-2.0
    total, sx, sxx, sy, sxy = w.sum(), w @ x, w @ x**2, w @ y, w @ (x * y)
    room = total * sxx - sx**2
    zero, slope = (sxx * sy - sx * sxy) / room, (total * sxy - sx * sy) / room
    if slope < 0:
        zero, slope = max(sy / total, 0.0), 0.0
    elif zero < 0:
        zero, slope = 0.0, max(sxy / sxx, 0.0)
    return float(w @ (y - zero - slope * x) ** 2), float(zero), float(sxx / room)


def _status(found: Hysteresis, least_share: float, level: float) -> tuple[str, str]:
    """Return the status and the reason."""
    t = stats.t.isf((1 - level) / 2 / len(found.rates), found.repeats - 1)  # Bonferroni, over the rates
    if (found.areas < -stats.t.isf(_NEGATIVE / len(found.rates), found.repeats - 1) * found.errors).any():
        return "undecided", "an area is negative: up= and down= may be swapped, or not in the order of control="
    if (found.areas <= t * found.errors).all():
        return "no loop", ""
    if found.areas[0] > found.areas[-1] + 2 * np.hypot(found.errors[0], found.errors[-1]):
        return "undecided", "the area falls with the rate: sweep more slowly, or over a wider range"
    if found.zero_rate.lower > 0:
        return "remains", ""
    if found.zero_rate.upper < least_share * found.areas.max():
        return "closes", ""
    low, high = found.zero_rate.lower, found.zero_rate.upper
    return "undecided", f"the area at zero rate lies between {low:.2g} and {high:.2g}"
