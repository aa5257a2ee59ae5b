"""Sampled networks of arXiv:2310.03789: gradients, stationary law, recordings, and agreement with the theory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import probe
from reference.__main__ import main
from reference.theory import (
    SAMPLINGS,
    CubicTeacher,
    ModularAddition,
    ModularNetworks,
    Sampling,
    TeacherNetworks,
    draw_actions,
    draw_phases,
    sample,
    solve_teacher,
    summarise,
    sweep_modular,
)
from reference.theory.simulation.base import Networks, largest_curvature

RESULTS = Path(__file__).parent.parent / "reference" / "results"
TINY = CubicTeacher(noise=0.3, width=3, n_data=5, dimension=4, readout_variance=0.5)
CLOCK = ModularAddition(noise=0.5, width=20, modulus=3, readout_variance=0.1, decay=0.4)
SHORT = Sampling(task=TINY, noises=(0.3, 0.1), n_networks=3, steps=12, observations=4, snapshots=2, block=2)


# -- networks ------------------------------------------------------------------------------------------------------


def test_gradients_of_the_teacher_networks_are_those_of_autograd() -> None:
    networks = TeacherNetworks(TINY, [0, 1])
    networks.gradient()
    w, a = (one.clone().requires_grad_() for one in (networks.w, networks.a))
    f = (torch.erf(networks.x @ w.mT) * a[:, None]).sum(-1)
    (((f - networks.y) ** 2).sum() / (2 * 0.3)).backward()
    torch.testing.assert_close(networks.w.grad, w.grad)
    torch.testing.assert_close(networks.a.grad, a.grad)


def test_gradients_of_the_modular_networks_are_those_of_autograd() -> None:
    networks = ModularNetworks(CLOCK, [0, 1])
    networks.gradient()
    p, w, a = 3, networks.w.clone().requires_grad_(), networks.a.clone().requires_grad_()
    loss = torch.zeros(())
    for n, m in np.ndindex(p, p):
        f = (a * ((w[:, 0, :, n] + w[:, 1, :, m]) ** 2)[:, None]).sum(-1)
        y = (torch.arange(p) == (n + m) % p).float() - 1 / p
        loss = loss + ((f - y) ** 2).sum() / (2 * CLOCK.noise)
    k = torch.arange(p)
    modes = w.to(torch.complex64) @ torch.exp(-2j * torch.pi * k[:, None] * k / p) / p
    (loss + CLOCK.decay * p / 6 * (modes.abs() ** 6).sum()).backward()
    torch.testing.assert_close(networks.w.grad, w.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(networks.a.grad, a.grad, rtol=1e-4, atol=1e-4)


def test_the_largest_curvature_is_that_of_a_dense_matrix() -> None:
    matrices = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    matrices = matrices.mT @ matrices
    found = largest_curvature(lambda v: (matrices @ v[..., None])[..., 0], torch.ones(3, 4), iterations=100)
    assert found == pytest.approx(torch.linalg.eigvalsh(matrices).max().item(), rel=1e-4)


def test_a_network_has_its_own_data_in_any_company() -> None:
    both, alone = TeacherNetworks(TINY, [3, 5]), TeacherNetworks(TINY, [5])
    for name in ("x", "y", "w", "a"):
        assert torch.equal(getattr(both, name)[1:], getattr(alone, name))
    assert not torch.equal(both.x[0], both.x[1])


def test_learned_fractions_are_the_regression_on_test_inputs() -> None:
    networks = TeacherNetworks(replace(TINY, readout_variance=20), [0], n_test=400_000)
    found = {name: values.item() for name, values in networks.observe().items()}
    assert found["learned_linear"] == pytest.approx(found["test_linear"], abs=0.02)
    assert found["learned_cubic"] == pytest.approx(found["test_cubic"], abs=0.04)


def test_one_neuron_has_the_moments_of_its_posterior() -> None:
    """Against a quadrature over both parameters."""
    teacher = CubicTeacher(noise=0.4, width=1, n_data=3, dimension=1, readout_variance=1, weight_variance=2)
    networks = TeacherNetworks(teacher, list(range(500)), rate=0.3)
    networks.x[:], networks.y[:] = networks.x[:1].clone(), networks.y[:1].clone()
    w, a = np.meshgrid(np.linspace(-9, 9, 401), np.linspace(-6, 6, 401), indexing="ij")
    f = a[..., None] * torch.erf(torch.tensor(w[..., None] * networks.x[0, :, 0].numpy())).numpy()
    energy = ((f - networks.y[0].numpy()) ** 2).sum(-1) / 0.8 + a**2 / 2 + w**2 / 4
    weight = np.exp(-energy)
    expected = [(weight * one).sum() / weight.sum() for one in (w**2, a**2, a * w)]
    totals = []
    for step in range(1500):
        networks.step()
        if step >= 300:
            one, other = networks.w[:, 0, 0], networks.a[:, 0]
            totals.append([(one**2).mean().item(), (other**2).mean().item(), (one * other).mean().item()])
    np.testing.assert_allclose(np.mean(totals, 0), expected, rtol=0.03)


@pytest.mark.parametrize("kind", ["teacher", "modular"])
def test_the_virial_of_each_layer_is_the_temperature(kind: str) -> None:
    """The mean of x . grad L over parameters is 1 at equilibrium."""
    seeds = list(range(100))
    networks = TeacherNetworks(TINY, seeds, rate=0.3) if kind == "teacher" else ModularNetworks(CLOCK, seeds, rate=0.3)
    found = []
    for step in range(300):
        networks.step()
        if step >= 100 and step % 2 == 0:
            found.append([virial.mean().item() for virial in networks.virials().values()])
    assert np.mean(found, 0) == pytest.approx([1, 1], abs=0.04)


# -- sampling ------------------------------------------------------------------------------------------------------


def test_a_sampling_that_was_killed_resumes_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sample(SHORT, tmp_path / "whole")
    step, n = Networks.step, [0]

    def dies(self: Networks) -> None:
        n[0] += 1
        if n[0] == 20:  # within the second block
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(Networks, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        sample(SHORT, tmp_path / "killed", checkpoint_seconds=0)
    calls = []
    resumed = sample(SHORT, tmp_path / "killed", on_block=lambda: calls.append(n[0]))
    assert n[0] == 4 * 12 + 1  # no step is repeated, but the one that died
    assert len(calls) == 4
    xr.testing.assert_equal(resumed, whole)
    assert whole["overlaps"].dims == ("noise", "run", "snapshot", "neuron")
    assert whole["learned_linear"].sizes == {"noise": 2, "run": 3, "step": 4}
    assert whole["step"].values.tolist() == [3, 6, 9, 12]
    with pytest.raises(ValueError, match=r"Expected the settings of this command in .*killed, got steps 12"):
        sample(replace(SHORT, steps=16), tmp_path / "killed")


def test_settings_that_cannot_be_sampled_are_refused() -> None:
    with pytest.raises(ValueError, match="Expected an integer n_networks of 1 or more, got 0"):
        replace(SHORT, n_networks=0)
    with pytest.raises(ValueError, match="Expected an integer steps of 1 or more, got nan"):
        replace(SHORT, steps=np.nan)
    with pytest.raises(ValueError, match="noises that differ in six digits"):  # they would share a checkpoint
        replace(SHORT, noises=(0.1, 0.1 + 1e-9))
    with pytest.raises(ValueError, match=r"Expected a whole number width, got 10\.5"):
        ModularNetworks(replace(CLOCK, width=10.5), [0])
    with pytest.raises(ValueError, match="Expected one seed or more"):
        TeacherNetworks(TINY, [])
    with pytest.raises(ValueError, match="Expected 2 networks or more"):
        replace(SHORT, n_networks=1)
    with pytest.raises(ValueError, match="Expected at least one noise"):
        replace(SHORT, noises=())
    with pytest.raises(ValueError, match="a multiple of 4 observations"):
        replace(SHORT, steps=13)
    with pytest.raises(ValueError, match=r"Expected a whole number dimension, got 53\.03"):
        TeacherNetworks(replace(TINY, dimension=53.03), [0])


def test_the_size_of_the_paper_is_a_resumable_configuration() -> None:
    paper = SAMPLINGS["paper"]
    assert isinstance(paper.task, CubicTeacher)
    assert (paper.task.width, paper.task.n_data, paper.task.dimension, paper.n_networks) == (700, 3000, 150, 200)
    assert len(paper.blocks()) == 200


def test_kurtosis_and_errors_of_a_summary() -> None:
    rng = np.random.default_rng(0)
    series = 0.5 + 0.1 * rng.standard_normal((2, 40, 1)) + np.zeros(4)
    signs = rng.choice([-1.0, 1.0], (40, 1, 50))
    overlaps = np.stack([signs, rng.standard_normal((40, 1, 50))])
    data = {
        "learned": (("noise", "run", "step"), series),
        "overlaps": (("noise", "run", "snapshot", "neuron"), overlaps),
    }
    found = summarise(xr.Dataset(data, {"noise": [1, 2]}))
    assert float(found["kurtosis"][0]) == pytest.approx(-2)
    assert abs(found["kurtosis"][1]) < 3 * found["kurtosis_se"][1]
    assert float(found["kurtosis_se"][1]) == pytest.approx(np.sqrt(24 / 2000), rel=0.4)
    assert float(found["learned_se"][0]) == pytest.approx(0.1 / np.sqrt(40), rel=0.3)


def test_commands_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = replace(SHORT, task=CLOCK, noises=(0.5, 1.0))
    monkeypatch.setattr("reference.theory.command.SAMPLINGS", {"sweep": SHORT, "modular": clock})
    for part in ("sweep", "modular"):
        assert main(["first-order", part, "--out", str(tmp_path)]) == 0
        assert (tmp_path / f"first-order-{part}.png").stat().st_size > 10_000
        assert probe.load(tmp_path / f"first-order-{part}.nc").sizes["run"] == 3
    assert "learned_linear" in capsys.readouterr().out
    for figure in (draw_actions(TINY, [0.1]), draw_phases(TINY, [0.1, 0.2], [2, 4])):
        assert len(figure.axes) == 2
    with pytest.raises(SystemExit):
        main(["first-order", "--help"])


# -- the recordings ------------------------------------------------------------------------------------------------


def test_the_recorded_sweep_agrees_with_the_theory_at_its_size() -> None:
    """Learned fractions of 50 networks within 3 standard errors and .02, which the theory neglects (order 1 / N)."""
    found = summarise(probe.load(RESULTS / "first-order-sweep.nc"))
    sampling = SAMPLINGS["sweep"]
    assert isinstance(sampling.task, CubicTeacher)
    for noise in found["noise"].values:
        solution, row = solve_teacher(replace(sampling.task, noise=float(noise))), found.sel(noise=noise)
        for name in ("learned_linear", "learned_cubic"):
            assert float(row[name]) == pytest.approx(getattr(solution, name), abs=3 * float(row[f"{name}_se"]) + 0.02)
    assert abs(found["drift"]).max() < 4


def test_the_recorded_modular_addition_has_the_factor_of_the_model() -> None:
    """F = 4 P^2 agrees to .01, and F = 1 does not."""
    found, sampling = summarise(probe.load(RESULTS / "first-order-modular.nc")), SAMPLINGS["modular"]
    assert isinstance(sampling.task, ModularAddition)
    with_model = 1 + sweep_modular(sampling.task, found["noise"].values)["discrepancy"]
    printed = 1 + sweep_modular(replace(sampling.task, kernel_factor=1.0), found["noise"].values)["discrepancy"]
    np.testing.assert_allclose(found["learned"], with_model, atol=0.01)
    assert (abs(found["learned"] - printed) > 0.05).all()
