"""Tests of order on sampled networks: the theory with a free length, chains, loops, and their recording."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import probe
from reference.theory import order_tests, order_text, solve_teacher
from reference.theory.first_order.free_length import solve_free_length
from reference.theory.order.analysis import overlaps, predict, settings_of
from reference.theory.order.chains import EDGES, STARTS, equilibrium, loop, start_networks
from reference.theory.order.recording import record_order
from reference.theory.order.settings import ORDER, OrderSettings

RESULTS = Path(__file__).parent.parent / "reference" / "results"
TINY = replace(ORDER, sizes=(8,), control_sizes=(8,), n_networks=2, steps=40, loop_sizes=(8,), loop_steps=(24,),
               loop_networks=2)  # fmt: skip


def test_the_free_length_solves_the_equations_of_draws_from_the_prior() -> None:
    """v = T - (n / s^2) s_a^2 <e e'> v, with averages over weighted draws of q and of the squared length."""
    t = ORDER.teacher(16)
    found, random = solve_free_length(t), np.random.default_rng(0)
    v = np.array([found.linear, np.sqrt(6) * found.cubic])
    spread = np.sqrt(t.weight_variance / 16)
    q, length = random.uniform(-1.8, 1.8, 400_000), spread**2 * random.chisquare(15, 400_000)
    size = 1 + 2 * (length + q**2)
    e = np.stack([2 * q / np.sqrt(np.pi * size), -4 * q**3 / (np.sqrt(6 * np.pi) * size**1.5)])
    weight = np.exp(t.dimension * t.coupling / 2 * (v @ e) ** 2 - q**2 / (2 * spread**2))
    kernel = (e * weight / weight.sum()) @ e.T
    expected = t.target - t.n_data / t.noise * t.readout_variance * kernel @ v
    assert v == pytest.approx(expected, abs=0.03)
    density, _ = np.histogram(np.abs(q), np.linspace(0, 1.2, 13), weights=weight)
    middle = np.linspace(0, 1.2, 25)[1::2]
    assert -np.log(density / density[0]) == pytest.approx(found.action(middle) - found.action(middle[:1]), abs=0.1)


@pytest.mark.parametrize("control", [False, True])
def test_all_sizes_have_one_coupling_and_one_strength(control: bool) -> None:
    for d in ORDER.sizes:
        t = ORDER.teacher(d, control=control)
        assert t.coupling == pytest.approx(2 if control else 6)
        assert t.n_data * t.readout_variance / (d * t.noise) == pytest.approx(0.5)


def test_both_starts_have_the_same_data_and_other_neurons() -> None:
    zero, droplet = (start_networks(TINY, TINY.teacher(8), [0, 1], start) for start in STARTS)
    assert (zero.x == droplet.x).all()
    assert (droplet.w[..., 0].abs() == 1).all()
    assert zero.w[..., 0].abs().max() < 1
    assert zero.optimizer.param_groups[1]["lr"] * zero.decay_w == pytest.approx(0.06)


def test_chains_and_loops_count_neurons() -> None:
    found, swept = equilibrium(TINY, 8, "droplet"), loop(TINY, 8, 24)
    assert (found.histogram.sum("bin") == 2 * TINY.teacher(8).width).all()  # two observations in the second half
    inside = np.abs(EDGES[1:] + EDGES[:-1]) / 2 > TINY.specialised
    share = found.histogram[:, inside].sum("bin") / found.histogram.sum("bin")
    assert share.values == pytest.approx(found.share[:, 2:].mean("step").values, abs=1e-6)
    assert ((swept.up >= 0) & (swept.up <= 1)).all()
    assert swept.up[:, 0].values == pytest.approx(swept.down[:, 0].values, abs=0.35)


def test_a_recording_resumes_and_refuses_other_settings(tmp_path: Path) -> None:
    first = record_order(TINY, tmp_path)
    assert settings_of(probe.load(probe.save(first, tmp_path / "all.nc"))) == TINY
    (tmp_path / "loop-8-24.nc").unlink()
    assert record_order(TINY, tmp_path).drop_attrs().identical(first.drop_attrs())
    with pytest.raises(ValueError, match="Expected the settings of this command"):
        record_order(replace(TINY, seed=1), tmp_path)


@pytest.mark.parametrize("wrong", [{"steps": 30}, {"hop_every": 3}, {"loop_steps": (25,)}])
def test_wrong_settings_are_errors(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"^Expected .*, got .*; "):
        OrderSettings(**wrong)


def test_the_solver_does_not_cycle_far_beyond_the_transition() -> None:
    """Two Newton steps formed a cycle at u = 227: one lowered the gradient and raised the value."""
    teacher = replace(ORDER, strength=1.5, coupling=227.04, epsilon=-0.3).teacher(32)
    assert solve_teacher(teacher).residual < 1e-9


def test_the_predicted_barrier_grows_in_proportion_to_d() -> None:
    found = {d: predict(ORDER, d) for d in (40, 100, 200)}
    assert found[40]["barrier"] == pytest.approx(2.85, abs=0.01)
    assert found[40]["paper_barrier"] == pytest.approx(1.06, abs=0.01)
    assert found[200]["barrier"] - found[100]["barrier"] == pytest.approx(100 * 0.12, abs=0.1)


def test_histograms_are_expanded_to_overlaps() -> None:
    counts = np.zeros((2, 3, 1000), dtype=int)  # (start, run, bin)
    counts[:, :, 10] = 2
    counts[0, 1, 20], counts[0, 1, 10] = 1, 1
    found = overlaps(xr.DataArray(counts, dims=("start", "run", "bin")))
    assert found.shape == (3, 4)
    assert found[1] == pytest.approx([-2.4475, -2.3975, -2.4475, -2.4475])


def test_the_recorded_networks_have_a_barrier_that_grows_and_rates_that_fall() -> None:
    """The numbers of docs/first_order.md."""
    found = order_tests(probe.load(RESULTS / "first-order-order.nc"))
    table = found.table
    assert found.barriers.status == "grows"
    assert found.control.status == "does not grow"
    assert (abs(table.share_difference) < 3 * table.share_difference_se).all()
    assert (abs(table.virial_w - 1) < 0.03).all()
    for name in ("up", "down"):
        slope, error, _ = found.slopes[name]
        assert slope + 3 * error < 0
        assert (table[f"hops_{name}"] > 500).all()
    assert {loop.status for loop in found.loops.values()} <= {"closes", "no loop", "undecided"}
    assert "barriers: grows" in order_text(found)
