"""Many seeds at once: each member equals a run alone and does not depend on the other members."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import CLIPPED, TINY, assert_same, seeded
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

import reference.training.ensemble as ensemble_module
from reference.training import (
    Draws,
    Ensemble,
    TaskConfig,
    TrainConfig,
    Trainer,
    Transformer,
    evaluations,
    hashed_masks,
)


def gpu(test):
    """Mark a test that needs a GPU, and ignore the warnings of the compiler of torch."""
    test = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")(pytest.mark.gpu(test))
    return pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")(test)


pytestmark = pytest.mark.usefixtures("global_random_state_untouched")


def trained(seeds: Sequence[int], steps: int = 0, config: TrainConfig = TINY) -> Ensemble:
    ensemble = Ensemble(config, seeds)
    ensemble.advance(steps)
    return ensemble


@contextmanager
def in_float64() -> Iterator[None]:
    """Build and compute in float64, so that two ways to the same numbers agree closely."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


# A member is a single run


def alone(config: TrainConfig, seed: int, steps: int) -> tuple[Transformer, list[float]]:
    """Train the module by AdamW of torch with the dropout masks of the ensemble; return it and its batch losses."""
    task = config.task.make(seed)
    model = Transformer(config.model, task.n_tokens, task.n_classes, seed=seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), betas=config.betas, eps=config.eps, weight_decay=config.weight_decay
    )
    rate, (x, y) = config.model.dropout, task.train_data
    draws = Draws(seed, n_rows=len(x), batch_size=config.batch_size, n_masks=model.n_masks)
    losses = []
    for step in range(steps):
        rows, keys = draws.rows(step)[0], draws.keys(step)[0]
        drawn = hashed_masks(keys, model.mask_shapes(len(rows)), rate) if rate else None
        loss = functional.cross_entropy(model(x[rows], drawn).float(), y[rows])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        if config.clip_norm is not None:
            clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.param_groups[0]["lr"] = config.lr * min(1, step / config.warmup)
        optimizer.step()
    return model, losses


NO_DROPOUT = replace(TINY, model=replace(TINY.model, dropout=0.0))


@pytest.mark.parametrize("config", [NO_DROPOUT, TINY, CLIPPED], ids=["no dropout", "dropout", "clipped"])
def test_members_equal_single_runs_by_adamw_and_clipping_of_torch(config):
    """All in float64 except the loss, which is float32 on both sides."""
    with in_float64():
        ensemble = Ensemble(config, [3, 0])
        losses = []
        for _ in range(6):
            losses.append([curves["train_batch_loss"] for curves in ensemble.evaluate()])
            ensemble.advance(1)
        for seed, state, seen in zip([3, 0], ensemble.states(), zip(*losses, strict=True), strict=True):
            model, expected = alone(config, seed, 6)
            assert seen == pytest.approx(expected, rel=1e-6)
            assert list(state.parameters) == [name for name, _ in model.named_parameters()]
            for name, parameter in model.named_parameters():
                torch.testing.assert_close(state.parameters[name], parameter.detach(), rtol=0, atol=1e-10)


def test_members_equal_single_runs_in_float32():
    ensemble = trained([3, 0], 6)
    for seed, curves in zip([3, 0], ensemble.evaluate(), strict=True):
        model, _ = alone(TINY, seed, 6)
        x, y = TINY.task.make(seed).test_data
        with torch.no_grad():
            assert curves["test_loss"] == pytest.approx(functional.cross_entropy(model(x), y).item(), rel=1e-5)


def test_curves_do_not_depend_on_other_members():
    together = trained([0, 4, 2])
    by_itself = [trained([seed]) for seed in together.seeds]
    for _ in range(4):
        for curves, single in zip(together.evaluate(), by_itself, strict=True):
            assert curves == pytest.approx(single.evaluate()[0], rel=1e-5)
            single.advance(3)
        together.advance(3)


@pytest.mark.parametrize("clip_norm", [None, 0.9])
def test_curves_are_those_of_the_trainer_without_dropout(clip_norm):
    config = replace(NO_DROPOUT, clip_norm=clip_norm)
    ensemble = trained([1, 7], config=config)
    trainers = [Trainer(config, seed) for seed in (1, 7)]
    for _ in range(4):
        for curves, trainer in zip(ensemble.evaluate(), trainers, strict=True):
            assert curves == pytest.approx(trainer.evaluate()[0], rel=1e-5)
            trainer.advance(2)
        ensemble.advance(2)


def test_it_learns():
    config = replace(TINY, task=TaskConfig(size=7), model=replace(TINY.model, dropout=0.0), lr=1e-2, weight_decay=0.0)
    ensemble = trained([0, 1], config=config)
    for curves in ensemble.evaluate():
        assert curves["train_loss"] == pytest.approx(math.log(7), abs=1)
    ensemble.advance(150)
    for curves in ensemble.evaluate():
        assert curves["train_loss"] < 0.1
        assert curves["train_accuracy"] == 1
    assert ensemble.finite.tolist() == [True, True]


# Steps


def test_the_division_of_steps_into_calls_has_no_effect(monkeypatch):
    """More steps than one block of draws, in equal portions (drawn early) and in unequal ones."""
    monkeypatch.setattr(ensemble_module, "_CHUNK", 4)
    at_once, by_and_by = trained([0, 1], 23, TINY), trained([0, 1], 0, TINY)
    for n in (1, 0, 3, 3, 3, 9, 1, 3):
        by_and_by.advance(n)
        by_and_by.evaluate()
    assert at_once.step == by_and_by.step == 23
    for one, other in zip(at_once.states(), by_and_by.states(), strict=True):
        assert_same(one, other)


def test_an_earlier_state_draws_the_same_again():
    ensemble = trained([0, 1], 4, TINY)
    early = ensemble.states()
    ensemble.advance(4)
    late = ensemble.states()
    ensemble.load(early)
    ensemble.advance(4)
    for one, other in zip(ensemble.states(), late, strict=True):
        assert_same(one, other)


def test_evaluations_come_in_the_order_of_the_seeds():
    found = list(evaluations(Ensemble(TINY, [2, 0]), TINY))
    assert [[evaluation.step for evaluation in each] for each in found] == [[step] * 2 for step in TINY.evaluations()]
    for index, seed in enumerate((2, 0)):
        (start,) = Trainer(TINY, seed).evaluate()
        assert found[0][index].curves["test_loss"] == pytest.approx(start["test_loss"], rel=1e-5)


# States


def test_resumed_training_equals_uninterrupted_training():
    whole, states = Ensemble(TINY, [0, 5]), []
    for _ in range(5):
        states.append(whole.states())
        whole.advance(1)
    used = trained([0, 5], 3)
    for step, both in enumerate(states):
        for ensemble in (Ensemble(TINY, [0, 5]), used):
            ensemble.load(both)
            assert ensemble.step == step
            for one, other in zip(ensemble.states(), both, strict=True):
                assert_same(one, other)
            ensemble.advance(5 - step)
            for one, other in zip(ensemble.states(), whole.states(), strict=True):
                assert_same(one, other)
            assert ensemble.evaluate() == whole.evaluate()


def test_a_state_is_a_copy():
    ensemble = trained([0, 1], 2)
    states = ensemble.states()
    ensemble.advance(1)
    other = Ensemble(TINY, [0, 1])
    other.load(states)
    other.advance(1)
    for state, expected in zip(states, trained([0, 1], 2).states(), strict=True):
        assert_same(state, expected)
        for value in state.parameters.values():
            value.zero_()
    for one, two in zip(other.states(), ensemble.states(), strict=True):
        assert_same(one, two)


def test_states_are_those_of_the_trainer():
    """States have the same names, shapes and numbers in both engines, and give the same curves."""
    ensemble = trained([0, 5], 4)
    for seed, state, curves in zip([0, 5], ensemble.states(), ensemble.evaluate(), strict=True):
        trainer = Trainer(TINY, seed)
        trainer.load([state])
        for name, parameter in trainer.model.named_parameters():
            assert state.parameters[name].shape == parameter.shape
        (own,) = trainer.evaluate()
        for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
            assert own[name] == pytest.approx(curves[name], rel=1e-5)
        assert_same(trainer.states()[0], state)
        trainer.advance(2)
        (trained_on,) = trainer.states()
        back = Ensemble(TINY, [seed])
        back.load([trained_on])
        assert back.step == 6
        assert_same(back.states()[0], trained_on)
        assert back.evaluate()[0]["test_loss"] == pytest.approx(trainer.evaluate()[0]["test_loss"], rel=1e-5)


def test_both_start_alike():
    for seed, state in zip([0, 5], Ensemble(TINY, [0, 5]).states(), strict=True):
        assert_same(state, Trainer(TINY, seed).states()[0])


def test_errors_for_states_of_another_number_or_step():
    ensemble = trained([0, 1], 2)
    states = ensemble.states()
    ensemble.advance(1)
    for wrong in ([states[0], ensemble.states()[1]], states[:1], []):
        with pytest.raises(ValueError, match=r"Expected 2 states of one step, got"):
            ensemble.load(wrong)


def test_a_member_with_nan_does_not_affect_the_others():
    sound = trained([0, 1, 2], 2)
    states = sound.states()
    states[1].parameters["head.weight"][0, 0] = math.nan
    ill = Ensemble(TINY, [0, 1, 2])
    ill.load(states)
    assert ill.finite.tolist() == [True, True, True]
    for ensemble in (ill, sound):
        ensemble.advance(5)
    assert ill.finite.tolist() == [True, False, True]
    assert sound.finite.tolist() == [True, True, True]
    for i in (0, 2):
        assert_same(ill.states()[i], sound.states()[i])
        assert ill.evaluate()[i] == sound.evaluate()[i]
    assert math.isnan(ill.evaluate()[1]["test_loss"])
    ill.load(sound.states())  # repaired
    ill.advance(1)
    assert ill.finite.tolist() == [True, True, True]


# Clipping


def test_the_norm_is_that_of_one_member():
    """A member with a long gradient is clipped, and one with a short gradient beside it is not changed by a bit."""
    grads = [torch.randn(shape, generator=seeded()) for shape in ((3, 4, 5), (3, 5), (3,))]
    for grad in grads:
        grad *= torch.tensor([1e-3, 1.0, 100.0]).view(-1, *[1] * (grad.ndim - 1))
    before = [grad.clone() for grad in grads]
    ensemble_module.clip(grads, 0.25)
    for i in range(3):
        parameters = [torch.nn.Parameter(torch.zeros_like(grad[i])) for grad in before]
        for parameter, grad in zip(parameters, before, strict=True):
            parameter.grad = grad[i].clone()
        norm = clip_grad_norm_(parameters, 0.25)
        assert (norm > 0.25) == (i > 0)
        for parameter, grad, old in zip(parameters, grads, before, strict=True):
            torch.testing.assert_close(grad[i], parameter.grad, rtol=1e-6, atol=0)
            assert i or torch.equal(grad[i], old[i])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # raised inside the compiler of torch
def test_a_compiled_step_clips_as_an_eager_one():
    config = replace(CLIPPED, model=replace(CLIPPED.model, n_blocks=1))
    eager, compiled = Ensemble(config, [0, 1]), Ensemble(config, [0, 1], compiled=True)
    for ensemble in (eager, compiled):
        ensemble.advance(6)
    for one, other in zip(compiled.evaluate(), eager.evaluate(), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


# On a GPU


@gpu
@pytest.mark.parametrize("config", [TINY, CLIPPED], ids=["plain", "clipped"])
@pytest.mark.parametrize("compiled", [False, None], ids=["eager", "compiled"])
def test_training_on_a_gpu_is_the_same(compiled, config):
    """Compare a compiled and captured graph, or a captured one, with the same seeds on the CPU."""
    there, here = Ensemble(config, [0, 1, 2], device="cuda", compiled=compiled), Ensemble(config, [0, 1, 2])
    for n in (0, 1, 20, 29):
        for ensemble in (there, here):
            ensemble.advance(n)
        for one, other in zip(there.evaluate(), here.evaluate(), strict=True):
            assert one == pytest.approx(other, rel=1e-4)
    for one, other in zip(there.states(), here.states(), strict=True):
        assert one.step == other.step == 50
        for name, value in one.parameters.items():
            assert value.device.type == "cpu"
            if not name.endswith("kv.bias"):  # the gradient of the bias of the keys is rounding error
                torch.testing.assert_close(value, other.parameters[name], rtol=1e-3, atol=1e-3)


@gpu
def test_resumed_training_on_a_gpu_equals_uninterrupted_training():
    """Equal up to rounding: a GPU sums the gradient of the token vectors in no fixed order."""
    whole = Ensemble(TINY, [0, 1], device="cuda")
    whole.advance(7)
    states = whole.states()
    whole.advance(20)
    for ensemble in (Ensemble(TINY, [0, 1], device="cuda"), whole):
        expected = whole.states()
        ensemble.load(states)
        assert ensemble.step == 7
        for one, other in zip(ensemble.states(), states, strict=True):
            assert_same(one, other)
        ensemble.advance(20)
        for one, other in zip(ensemble.states(), expected, strict=True):
            for name, value in one.parameters.items():
                if not name.endswith("kv.bias"):  # the gradient of the bias of the keys is rounding error
                    torch.testing.assert_close(value, other.parameters[name], rtol=1e-3, atol=1e-3)


@gpu
def test_tf32_follows_float32_on_a_gpu():
    config = TrainConfig(task=TaskConfig(size=23), batch_size=128, steps=200)
    ends = []
    for precision in ("float32", "tf32"):
        ensemble = Ensemble(replace(config, precision=precision), [0, 1], device="cuda")
        for _ in range(10):  # in equal portions: drawn early
            ensemble.advance(20)
        ends.append([(curves["train_loss"], curves["test_loss"]) for curves in ensemble.evaluate()])
    assert ends[0] != ends[1]
    np.testing.assert_allclose(ends[1], ends[0], rtol=0.02)
