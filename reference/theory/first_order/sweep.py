"""Solutions at many parameters, as datasets."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import xarray as xr

from reference.theory.first_order.modular import ModularAddition, solve_modular
from reference.theory.first_order.teacher import CubicTeacher, solve_teacher

_TEACHER = {
    "learned_linear": "learned fraction of the linear part",
    "learned_cubic": "learned fraction of the cubic part",
    "overlap": "overlap w . w* of the specialised state; NaN without one",
    "specialised_share": "expected share of specialised neurons",
    "phase": "GFL, GMFL-I or GMFL-II",
    "residual": "largest violation of the equations",
}
_MODULAR = {
    "discrepancy": "a: mean of the output minus the target, over the target",
    "power": "power Phi of the specialised state; NaN without one",
    "specialised_share": "expected share of specialised pairs of modes",
    "phase": "GFL, GMFL-I or GMFL-II",
    "residual": "largest violation of the equation",
}


def sweep_teacher(teacher: CubicTeacher, noises: Iterable[float]) -> xr.Dataset:
    """Solve the cubic teacher at several noises.

    Returns
    -------
    xarray.Dataset
        Learned fractions, overlap and share of specialised neurons, phase and residual over ``noise``.
    """
    noises = list(noises)
    solved = [solve_teacher(replace(teacher, noise=noise)) for noise in noises]
    return _table({name: [getattr(one, name) for one in solved] for name in _TEACHER}, noises, _TEACHER)


def sweep_modular(task: ModularAddition, noises: Iterable[float]) -> xr.Dataset:
    """Solve modular addition at several noises.

    Returns
    -------
    xarray.Dataset
        Discrepancy, power and share of the specialised state, phase and residual over ``noise``.
    """
    noises = list(noises)
    solved = [solve_modular(replace(task, noise=noise)) for noise in noises]
    return _table({name: [getattr(one, name) for one in solved] for name in _MODULAR}, noises, _MODULAR)


def phase_diagram(teacher: CubicTeacher, noises: Iterable[float], widths: Iterable[float]) -> xr.Dataset:
    """Solve the cubic teacher at all pairs of a noise and a width; s_a^2 is kept.

    Returns
    -------
    xarray.Dataset
        The variables of `sweep_teacher` over (width, noise).
    """
    noises, widths = list(noises), list(widths)
    rows = [sweep_teacher(replace(teacher, width=width), noises) for width in widths]
    return xr.concat(rows, xr.Variable("width", widths, {"long_name": "number of neurons"}))


def _table(columns: dict[str, list[float]], noises: list[float], names: dict[str, str]) -> xr.Dataset:
    variables = {name: ("noise", np.array(values), {"long_name": names[name]}) for name, values in columns.items()}
    return xr.Dataset(variables, {"noise": ("noise", noises, {"long_name": "variance of the noise"})})
