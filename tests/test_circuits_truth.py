"""Circuits and breakpoints along lines of many models, against derivatives of the models and a walk along the lines."""

import itertools

import numpy as np
import pytest
import torch

from probe.forward import piecewise_linear
from probe.geometry import line_breakpoints, perceptron
from probe.measures import circuit
from tests.piecewise_cases import MODELS, exact_knots, in_float64, knots, made, patterns

SLOW = pytest.mark.slow
SHORT = {("max-pool after ReLU", 0), ("residual", 0), ("ReLU6, Hardtanh", 0), ("PReLU, LeakyReLU, dropout", 0)}
CASES = [
    pytest.param(name, seed, marks=[] if (name, seed) in SHORT else [SLOW]) for seed in range(4) for name in MODELS
]


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_circuits_have_the_patterns_and_derivatives_of_the_model(name, seed):
    model, shape = made(name, seed)
    inputs = 2 * torch.randn(6, *shape, generator=torch.Generator().manual_seed(seed))
    found, double = circuit(model, inputs), in_float64(model)
    rows = inputs.double()
    with torch.no_grad():
        truth = double(rows).flatten(1)
    assert found.exact
    assert not found.on_boundary.any()
    np.testing.assert_allclose(found.outputs, truth, rtol=1e-12, atol=1e-14)
    for row, matrix, offset, output in zip(rows, found.matrix, found.offset, truth, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x: double(x[None])[0].flatten(), row)
        np.testing.assert_allclose(matrix, jacobian, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(matrix.flatten(1) @ row.flatten() + offset, output, rtol=1e-10, atol=1e-13)
    np.testing.assert_array_equal(torch.cat(list(found.patterns.values()), 1), patterns(double, rows)[0])


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_models_bend_along_lines_where_a_walk_bends(name, seed):
    model, shape = made(name, seed)
    starts, ends = 2 * torch.randn(2, 2, *shape, generator=torch.Generator().manual_seed(seed)).double()
    found = line_breakpoints(piecewise_linear(model, starts[:1].float()), starts, ends)
    double = in_float64(model)
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        truth = knots(double, start, end)
        np.testing.assert_allclose(found.position[found.segment == number], [t for t, _ in truth], atol=1e-9)
        events = [set() for _ in truth]
        for knot, site, unit in zip(found.event_knot, found.event_site, found.event_unit, strict=True):
            if found.segment[knot] == number:
                events[knot - found.starts[number]].add((int(site), int(unit)))
        for mine, (_, units) in zip(events, truth, strict=True):  # of equal candidates the walk takes the first
            assert mine == units or ("max-pool" in name and mine < units)


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_inputs_at_breakpoints_are_on_a_boundary(name, seed):
    model, shape = made(name, seed)
    double = in_float64(model)
    start, end = 2 * torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed)).double()
    places = [t for t, _ in knots(double, start, end)]
    at = torch.tensor(places).reshape(-1, *[1] * len(shape))
    between = torch.tensor([(a + b) / 2 for a, b in itertools.pairwise([0.0, *places, 1.0])]).reshape(-1, *at.shape[1:])
    assert circuit(double, start + at * (end - start)).on_boundary.all()
    found = circuit(double, start + between * (end - start))
    assert not found.on_boundary.any()
    assert found.n_distinct == len(places) + 1


@pytest.mark.parametrize("seed", [*range(6), *[pytest.param(seed, marks=SLOW) for seed in range(6, 200)]])
def test_perceptrons_of_whole_numbers_along_lines_in_rational_arithmetic(seed):
    """Many units change at one place, and units are zero on whole intervals."""
    rng = np.random.default_rng(seed)
    sizes = [int(rng.integers(1, 4)), *rng.integers(2, 8, rng.integers(1, 5)).tolist()]
    layers = [
        (rng.integers(-2, 3, (b, a)), rng.integers(-2, 3, b) * (seed % 3 > 0)) for a, b in itertools.pairwise(sizes)
    ]
    start, end = rng.integers(-4, 5, (2, sizes[0]))
    start[0], end[0] = -3, 4
    truth = exact_knots([(w.tolist(), b.tolist()) for w, b in layers], start.tolist(), end.tolist())
    network = perceptron([(w.astype(float), b.astype(float)) for w, b in layers], last=True)
    found = line_breakpoints(network, torch.tensor(start[None]).double(), torch.tensor(end[None]).double())
    np.testing.assert_allclose(found.position, [float(t) for t in truth], atol=1e-12)
