"""Solvers of arXiv:2310.03789 against closed forms, and closed forms against equations that do not use them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import simpson
from scipy.optimize import minimize_scalar
from scipy.special import erf

from reference.theory import (
    ConvergenceError,
    CubicTeacher,
    ModularAddition,
    critical_width,
    gaussian_branch,
    mixed_branch,
    modular_transitions,
    phase_diagram,
    solve_modular,
    solve_teacher,
    sweep_modular,
    sweep_teacher,
    teacher_transition,
)
from reference.theory.first_order.free_length import solve_free_length
from reference.theory.first_order.teacher import features

FIGURE_2 = CubicTeacher(noise=0.15)
APPENDIX_D = CubicTeacher(noise=0.05, n_data=600, readout_variance=0.011, epsilon=-1.2, width=2800)
FIGURE_3 = ModularAddition(noise=0.2, kernel_factor=1)
SMALL = ModularAddition(noise=0.2, width=400, modulus=5, readout_variance=0.08, decay=0.3)


# -- cubic teacher -------------------------------------------------------------------------------------------------


def test_features_are_the_overlaps_of_erf_with_hermite_polynomials() -> None:
    """Also the evidence for the factor 4 in Q2_11 = s_a^2 <4 q^2 / (pi D)>, which the paper prints as 2."""
    z, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    q, variance = 0.6, 0.5  # w . x = q z + sqrt(variance) times another normal number
    inner = np.array([weights @ erf(q * one + np.sqrt(variance) * z) for one in z])
    expected = [weights @ (inner * z), weights @ (inner * (z**3 - 3 * z)) / np.sqrt(6)]
    np.testing.assert_allclose(features(np.array([q]), variance)[:, 0], expected, atol=1e-9)
    assert features(np.array([q]), variance)[0, 0] ** 2 == pytest.approx(4 * q**2 / (np.pi * (1 + 2 * (q**2 + 0.5))))


def test_the_transition_of_figure_2() -> None:
    found = teacher_transition(FIGURE_2)
    np.testing.assert_allclose(found, [0.178719, 30.6691, 0.291958, 0.342269, 0.721372], rtol=1e-5)


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (2800, [0.04726, 4.2210, 0.6200, 0.4944, 0.989]),
        (2400, [0.05168, 4.1186, 0.6350, 0.4903, 0.981]),
        (2000, [0.05742, 4.0039, 0.6523, 0.4855, 0.971]),
        (1400, [0.07046, 3.7987, 0.6851, 0.4764, 0.954]),
        (700, [0.10433, 3.4646, 0.7438, 0.4600, 0.923]),
    ],
)
def test_the_transitions_of_appendix_d(width: float, expected: list[float]) -> None:
    np.testing.assert_allclose(teacher_transition(replace(APPENDIX_D, width=width)), expected, atol=5.1e-4)
    np.testing.assert_allclose(teacher_transition(replace(APPENDIX_D, width=width))[:4], expected[:4], atol=5.1e-5)


def test_the_critical_width_of_appendix_d() -> None:
    assert round(critical_width(APPENDIX_D)) == 2541
    assert teacher_transition(replace(APPENDIX_D, width=critical_width(APPENDIX_D))).noise == pytest.approx(0.05)


@pytest.mark.parametrize("epsilon", [-0.3, 0.3, -0.05, -1.2])
def test_the_action_touches_zero_at_the_transition(epsilon: float) -> None:
    """Minimise the action itself; the closed form does not."""
    teacher = replace(FIGURE_2, epsilon=epsilon)
    noise, _, b, _, overlap = teacher_transition(teacher)
    teacher = replace(teacher, noise=noise)
    solution = replace(solve_teacher(teacher), linear=b, cubic=epsilon)
    found = minimize_scalar(
        lambda q: solution.action(np.array([q]))[0], bounds=(0.7 * overlap, 1.5 * overlap), options={"xatol": 1e-9}
    )
    assert abs(found.fun) < 1e-10 * teacher.dimension * teacher.coupling
    assert found.x == pytest.approx(overlap, rel=1e-4)


@pytest.mark.parametrize(
    ("factor", "noise", "linear", "cubic"),
    [
        (1, 0.30, 0.527, 0.013), (1, 0.20, 0.686, 0.025), (1, 0.15, 0.776, 0.062), (1, 0.10, 0.874, 0.176),
        (1 / 8, 0.30, 0.523, 0.030), (1 / 8, 0.20, 0.689, 0.056), (1 / 8, 0.15, 0.782, 0.087),
        (1 / 8, 0.10, 0.880, 0.169),
    ],
)  # fmt: skip
def test_learned_fractions_at_finite_dimension(factor: float, noise: float, linear: float, cubic: float) -> None:
    found = solve_teacher(replace(FIGURE_2, noise=noise).scaled(factor))
    assert (found.learned_linear, found.learned_cubic) == pytest.approx((linear, cubic), abs=6e-4)
    assert found.residual < 1e-9


def test_learned_fractions_in_a_large_dimension() -> None:
    found = sweep_teacher(FIGURE_2.scaled(1000), [0.18, 0.175, 0.15, 0.10])["learned_cubic"]
    np.testing.assert_allclose(found, [0.0008, 0.0093, 0.0631, 0.1814], atol=6e-5)


@pytest.mark.parametrize(("noise", "epsilon"), [(0.25, -0.3), (0.15, -0.3), (0.05, -0.3), (0.03, 0.3), (0.1, -1.2)])
def test_the_solver_converges_to_the_closed_forms(noise: float, epsilon: float) -> None:
    """The difference falls as log(d) / d or faster, on both sides of the transition, for both signs."""
    teacher = replace(FIGURE_2, noise=noise, epsilon=epsilon)
    before = noise > teacher_transition(teacher).noise
    limit = np.array([gaussian_branch(teacher), epsilon] if before else mixed_branch(teacher))
    solved = [solve_teacher(teacher.scaled(factor)) for factor in (100, 100**2)]
    small, large = (np.abs([one.linear, one.cubic] - limit).max() for one in solved)
    assert large < 4e-3
    assert 5 < small / large < 12  # d times 10


def test_the_residual_is_that_of_the_equations() -> None:
    """Average the outer product of the features under exp(-S), by another quadrature."""
    found = solve_teacher(FIGURE_2)
    q = np.linspace(-3, 3, 40_001)
    weight = np.exp(-found.action(q))
    e = features(q, 0.5)
    kernel = FIGURE_2.readout_variance * (e * weight) @ e.T / weight.sum()
    v = np.array([found.linear, np.sqrt(6) * found.cubic])
    kappa = FIGURE_2.noise / FIGURE_2.n_data
    np.testing.assert_allclose(v, kappa * np.linalg.solve(kernel + kappa * np.eye(2), FIGURE_2.target), rtol=1e-8)


def test_the_control_parameter_is_invariant_under_the_scaling_table() -> None:
    scaled = FIGURE_2.scaled(8)
    assert scaled.coupling == pytest.approx(FIGURE_2.coupling)
    assert (scaled.width, scaled.n_data) == (5600, 24_000)
    np.testing.assert_allclose(teacher_transition(scaled), teacher_transition(FIGURE_2), rtol=1e-9)
    # n times a and s^2 times a changes nothing either
    more = replace(FIGURE_2, n_data=4 * 3000, noise=4 * 0.15)
    assert solve_teacher(more).learned_cubic == pytest.approx(solve_teacher(FIGURE_2).learned_cubic, abs=1e-9)


def test_less_noise_and_fewer_neurons_learn_more() -> None:
    found = phase_diagram(APPENDIX_D, np.linspace(0.03, 0.15, 7), [700, 1400, 2800])
    assert (found["learned_linear"].diff("noise") < 0).all()
    assert (found["learned_cubic"].diff("noise") < 0).all()
    assert (found["learned_cubic"].diff("width") < 0).all()
    assert (found["learned_linear"] + found["learned_cubic"] < 2).all()


def test_phases_follow_the_critical_widths() -> None:
    """Noise .05 of appendix D in a large dimension, and a few neurons of which all specialise."""
    widths = [2800, 2400, 1400, 700]
    found = [solve_teacher(replace(APPENDIX_D, width=width).scaled(100)).phase for width in widths]
    assert found == ["GFL", "GMFL-I", "GMFL-I", "GMFL-I"]
    few = CubicTeacher(noise=0.05, width=2, n_data=2000, dimension=20, readout_variance=0.001)
    assert solve_teacher(few).phase == "GMFL-II"


# -- modular addition ----------------------------------------------------------------------------------------------


def test_the_transitions_of_figure_3() -> None:
    found = modular_transitions(FIGURE_3)
    np.testing.assert_allclose(found, [0.236015, 0.176015, -0.745779, 173.205], rtol=2e-6)
    assert modular_transitions(replace(FIGURE_3, kernel_factor=None)).noise_second < 0


def test_the_modular_solver_has_the_transitions_of_the_closed_form() -> None:
    found = sweep_modular(FIGURE_3, [0.2362, 0.2358, 0.1763, 0.1757])
    assert found["phase"].values.tolist() == ["GFL", "GMFL-I", "GMFL-I", "GMFL-II"]
    assert float(found["discrepancy"][2]) == pytest.approx(-0.746, abs=1.5e-3)
    assert float(found["power"][1]) == pytest.approx(173.205, abs=0.05)
    # between them u a^2 stays at its critical value, so a is -s^2 / s2_I
    middle = solve_modular(FIGURE_3)
    assert middle.discrepancy == pytest.approx(-0.2 / 0.236015, abs=2e-4)
    assert middle.residual < 1e-9


def test_the_density_of_the_modes_is_that_of_the_action() -> None:
    """<Phi Psi> by a two-dimensional quadrature gives a back."""
    found = solve_modular(SMALL)
    p, u, a, g = 5, SMALL.coupling, found.discrepancy, SMALL.decay
    phi = np.linspace(0, 12, 401)
    x, y = phi[:, None], phi[None]
    weight = np.exp(-2 * p * ((x + y) / 2 - u * a * a * x * y + g / 6 * (x**3 + y**3)))
    mean, total = (simpson(simpson(values, x=phi), x=phi) for values in (weight * x * y, weight))
    kernel = 4 * p * p * SMALL.readout_variance * mean / total
    assert a == pytest.approx(-SMALL.noise / (kernel + SMALL.noise), abs=1e-5)


def test_modular_addition_is_invariant_under_its_scaling_table() -> None:
    """N b^2, P sqrt(b), s^2 / b, s_a^2 / b, for the factor of the paper and b = 9."""
    scaled = replace(FIGURE_3, width=81_000, modulus=1203, noise=0.2 / 9, readout_variance=2e-6 / 9)
    assert scaled.coupling == pytest.approx(FIGURE_3.coupling)
    found, expected = modular_transitions(scaled), modular_transitions(FIGURE_3)
    assert (found[0] * 9, found[1] * 9, *found[2:]) == pytest.approx(tuple(expected))


def test_modular_addition_is_learned_more_with_less_noise() -> None:
    found = sweep_modular(SMALL, np.linspace(0.05, 2, 9))
    assert (found["discrepancy"].diff("noise") < 0).all()
    assert found["discrepancy"][0] > -0.15
    assert found["discrepancy"][-1] < -0.5


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["noise", "width", "n_data", "dimension", "readout_variance", "weight_variance"])
@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf, "a"])
def test_unphysical_teachers_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"Expected a positive number {name}, got"):
        replace(FIGURE_2, **{name: value})


def test_unphysical_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="Expected a finite epsilon other than 0, got 0"):
        replace(FIGURE_2, epsilon=0)
    with pytest.raises(ValueError, match="Expected an odd modulus from 3 on, got 4"):
        replace(FIGURE_3, modulus=4)
    for modulus in (5.5, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"Expected a(n odd modulus| positive number modulus)"):
            replace(FIGURE_3, modulus=modulus)
    with pytest.raises(ValueError, match="overlaps reach at most 200000 prior standard deviations"):
        solve_teacher(replace(FIGURE_2, noise=1e-6))
    for dimension in (3, 30_000):
        with pytest.raises(ValueError, match="Expected a dimension from 6 to 25,000"):
            solve_free_length(replace(FIGURE_2, dimension=dimension))
    with pytest.raises(ValueError, match="Expected a positive number decay"):
        replace(FIGURE_3, decay=0)
    with pytest.raises(ValueError, match="Expected a noise below the transition at"):
        mixed_branch(replace(FIGURE_2, noise=0.18))


def test_a_solver_that_does_not_converge_raises_with_its_residual() -> None:
    with pytest.raises(ConvergenceError, match="after 2 iterations, got") as error:
        solve_teacher(FIGURE_2, max_iterations=2)
    assert 1e-9 < error.value.residual < 10
    with pytest.raises(ConvergenceError, match="Expected a residual of at most") as error:
        solve_modular(SMALL, max_iterations=2)
    assert error.value.residual > 1e-9
