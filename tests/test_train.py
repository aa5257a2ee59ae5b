"""Training of one seed: the same as AdamW of torch, resumable bit by bit, with errors for bad input."""

import doctest
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import CLIPPED, TINY, assert_same
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

import reference
from reference.training import (
    Draws,
    Ensemble,
    TaskConfig,
    TrainConfig,
    Trainer,
    Transformer,
    evaluations,
    masks,
    train,
)

pytestmark = pytest.mark.usefixtures("global_random_state_untouched")


def trained(config: TrainConfig = TINY, seed: int = 0, steps: int = 0) -> Trainer:
    trainer = Trainer(config, seed)
    trainer.advance(steps)
    return trainer


# What a step is


@pytest.mark.parametrize("config", [TINY, CLIPPED], ids=["plain", "clipped"])
def test_it_equals_a_simple_loop_with_adamw_and_clipping_of_torch(config):
    """Bit by bit. Only the network and the draws come from the trainer; other tests check them."""
    task = TINY.task.make(5)
    model = Transformer(TINY.model, task.n_tokens, task.n_classes, seed=5)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), eps=1e-8, weight_decay=0.5, fused=True)
    draws = Draws(5, n_rows=len(task.train), batch_size=32, n_masks=9)
    x, y = task.train_data
    trainer = Trainer(config, 5)
    norms = []
    for step, rate in enumerate([0, 1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3, 1e-3]):
        rows, keys = draws.rows(step)[0], draws.keys(step)[0]
        loss = functional.cross_entropy(model(x[rows], masks(keys, model.mask_shapes(32), 0.1)), y[rows])
        optimizer.zero_grad()
        loss.backward()
        if config is CLIPPED:
            norms.append(clip_grad_norm_(model.parameters(), 0.9))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        trainer.advance(1)
        assert trainer.loss == loss.item()
        for name, parameter in trainer.model.named_parameters():
            assert torch.equal(parameter, model.get_parameter(name)), f"{name} after step {step + 1}"
    assert not norms or min(norms) < 0.9 < max(norms)
    (state,) = trainer.states()
    for name, parameter in model.named_parameters():
        assert torch.equal(state.first[name], optimizer.state[parameter]["exp_avg"])
        assert torch.equal(state.second[name], optimizer.state[parameter]["exp_avg_sq"])


@pytest.mark.parametrize(
    ("warmup", "expected"), [(0, [1, 1, 1, 1]), (1, [0, 1, 1, 1]), (4, [0, 0.25, 0.5, 0.75, 1, 1])]
)
def test_the_rate_rises_from_0(warmup, expected):
    trainer = Trainer(replace(TINY, warmup=warmup, lr=0.01))
    rates: list[float] = []
    trainer.optimizer.register_step_pre_hook(lambda *_: rates.append(trainer.optimizer.param_groups[0]["lr"]))
    trainer.advance(len(expected))
    assert rates == pytest.approx([0.01 * share for share in expected])


def test_decay_acts_on_all_parameters():
    """The first step shows that biases, norms and embeddings are decayed like weights."""
    config = replace(TINY, warmup=0, lr=0.1)
    start = dict(Trainer(config).model.named_parameters())
    decayed, plain = trained(config, steps=1), trained(replace(config, weight_decay=0.0), steps=1)
    for name, parameter in decayed.model.named_parameters():
        difference = plain.model.get_parameter(name) - parameter
        torch.testing.assert_close(difference, 0.1 * 0.5 * start[name], rtol=1e-3, atol=1e-7)


def test_hooks_of_the_optimizer_see_every_step():
    trainer = Trainer(TINY)
    seen: list[int] = []
    trainer.optimizer.register_step_post_hook(lambda *_: seen.append(trainer.step))
    for n in (1, 0, 4, 2):
        trainer.advance(n)
    assert trainer.step == len(seen) == 7


def test_the_seed_determines_the_run():
    one, same, other = (trained(seed=seed, steps=3) for seed in (2, 2, 3))
    assert_same(one.states()[0], same.states()[0])
    assert one.evaluate() == same.evaluate()
    assert not torch.equal(one.task.train, other.task.train)
    assert not torch.equal(one.model.head.weight, other.model.head.weight)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)  # the global state has no effect
        assert_same(trained(seed=2, steps=3).states()[0], one.states()[0])


def test_an_observer_in_eval_mode_changes_nothing():
    trainer = trained()
    for _ in range(3):
        trainer.model.eval()
        trainer.advance(1)
    assert_same(trainer.states()[0], trained(steps=3).states()[0])


def test_it_learns():
    """It memorises half of a table of 42 pairs."""
    config = replace(TINY, task=TaskConfig(size=7), model=replace(TINY.model, dropout=0.0), lr=1e-2, weight_decay=0.0)
    trainer = Trainer(config)
    (start,) = trainer.evaluate()
    assert start["train_loss"] == pytest.approx(math.log(7), abs=1)
    trainer.advance(150)
    (end,) = trainer.evaluate()
    assert end["train_loss"] < 0.1
    assert end["train_accuracy"] == 1


def test_a_loss_that_is_not_finite_stops_the_run():
    trainer = trained(steps=2)
    with torch.no_grad():
        trainer.model.head.weight[0, 0] = math.nan
    (before,) = trainer.states()
    with pytest.raises(FloatingPointError, match=r"a finite loss, got nan at step 3; lower lr.*after step 2"):
        trainer.advance(5)
    (after,) = trainer.states()
    before.parameters["head.weight"][0, 0] = after.parameters["head.weight"][0, 0] = 0  # nan is not itself
    assert_same(after, before)
    with torch.no_grad():
        trainer.model.head.weight[0, 0] = 0
    trainer.advance(1)  # training continues after the repair
    assert trainer.step == 3


# States


def test_resumed_training_equals_uninterrupted_training():
    whole, states = Trainer(TINY, 1), []
    for _ in range(6):
        states += whole.states()
        whole.advance(1)
    assert [state.step for state in states] == list(range(6))
    used = trained(seed=1, steps=4)
    for state in states:
        for trainer in (Trainer(TINY, 1), used):  # a new trainer, and one that has trained
            trainer.load([state])
            assert trainer.step == state.step
            assert_same(trainer.states()[0], state)
            trainer.advance(6 - state.step)
            assert_same(trainer.states()[0], whole.states()[0])
            assert trainer.evaluate() == whole.evaluate()


def test_a_state_is_a_copy():
    trainer = trained(steps=2)
    (state,) = trainer.states()
    names = [name for name, _ in trainer.model.named_parameters()]
    for part in (state.parameters, state.first, state.second):
        assert list(part) == names
        for name, value in part.items():
            assert value.shape == trainer.model.get_parameter(name).shape
            assert (value.dtype, value.device.type, value.requires_grad) == (torch.float32, "cpu", False)
    trainer.advance(1)
    other = Trainer(TINY)
    other.load([state])
    other.advance(1)
    assert_same(state, trained(steps=2).states()[0])
    for value in state.parameters.values():
        value.zero_()
    assert_same(other.states()[0], trainer.states()[0])


def test_moments_before_the_first_step_are_zero():
    (state,) = Trainer(TINY).states()
    assert state.step == 0
    for part in (state.first, state.second):
        assert all((value == 0).all() for value in part.values())


# Evaluation


def by_hand(logits: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    chances = logits.double().softmax(1)[torch.arange(len(y)), y]
    right = sum(int(row.argmax()) == answer for row, answer in zip(logits, y.tolist(), strict=True))
    return -chances.log().mean().item(), right / len(y)


def test_curves_match_their_definitions():
    trainer = trained(steps=4)
    (before,) = trainer.states()
    (curves,) = trainer.evaluate()
    assert_same(trainer.states()[0], before)
    expected = {}
    with torch.no_grad():
        for split, (x, y) in (("train", trainer.task.train_data), ("test", trainer.task.test_data)):
            expected[f"{split}_loss"], expected[f"{split}_accuracy"] = by_hand(trainer.model(x), y)
        draws = Draws(0, n_rows=len(trainer.task.train), batch_size=32, n_masks=9)
        rows, drawn = draws.rows(4)[0], masks(draws.keys(4)[0], trainer.model.mask_shapes(32), 0.1)
        x, y = (part[rows] for part in trainer.task.train_data)
        expected["train_batch_loss"], expected["train_batch_accuracy"] = by_hand(trainer.model(x, drawn), y)
    assert curves == pytest.approx(expected, rel=1e-5)


def test_an_evaluation_uses_the_batch_of_the_next_step():
    trainer, batches = trained(steps=2), []
    handle = trainer.model.register_forward_pre_hook(lambda _module, inputs: batches.append(inputs))
    trainer.advance(1)
    (learnt,) = batches
    handle.remove()
    other = trained(steps=2)
    other.model.register_forward_pre_hook(lambda _module, inputs: batches.append(inputs))
    other.evaluate()
    of_batch_size = [inputs for inputs in batches[1:] if len(inputs[0]) == 32]
    assert len(of_batch_size) == 1
    assert torch.equal(of_batch_size[0][0], learnt[0])
    for one, two in zip(of_batch_size[0][1], learnt[1], strict=True):
        assert torch.equal(one, two)


def test_evaluating_changes_nothing():
    trainer = trained()
    for _ in range(4):
        trainer.evaluate()
        trainer.states()
        trainer.advance(1)
    assert_same(trainer.states()[0], trained(steps=4).states()[0])


@pytest.mark.parametrize("steps", [0, 1, 2, 9, 10, 11, 99, 100, 1000, 4321])
@pytest.mark.parametrize(("every", "per_decade"), [(200, 12), (7, 0), (10_000, 3), (1, 1)])
def test_evaluation_steps(steps, every, per_decade):
    found = replace(TINY, steps=steps, every=every, per_decade=per_decade).evaluations()
    log = {round(10 ** (i / per_decade)) for i in range(100)} if per_decade else set()
    assert found == [step for step in range(steps + 1) if step % every == 0 or step in log or step == steps]
    assert found[0] == 0
    assert found[-1] == steps


def test_train_yields_at_the_evaluation_steps():
    found = list(train(TINY, 1))
    assert [evaluation.step for evaluation in found] == [0, 1, 3, 6, 8] == TINY.evaluations()
    trainer = Trainer(TINY, 1)
    for evaluation in found:
        trainer.advance(evaluation.step - trainer.step)
        assert [evaluation.curves] == trainer.evaluate()
    assert len({evaluation.curves["test_loss"] for evaluation in found}) == 4  # the first step has a rate of 0


@pytest.mark.parametrize("step", [0, 2, 3, 7, 8])
def test_train_continues_from_a_state(step):
    (state,) = trained(seed=1, steps=step).states()
    found = list(train(TINY, 1, state=state))
    assert found == [evaluation for evaluation in train(TINY, 1) if evaluation.step >= step]


def test_the_model_can_be_observed_between_evaluations():
    trainer = Trainer(TINY)
    for (evaluation,) in evaluations(trainer, TINY):
        assert trainer.step == evaluation.step
        x, y = trainer.task.test_data
        assert by_hand(trainer.model(x), y)[0] == pytest.approx(evaluation.curves["test_loss"], rel=1e-5)


def test_the_example_of_the_package():
    result = doctest.testmod(reference)
    assert result.attempted
    assert not result.failed


# Settings


def test_defaults_are_the_papers():
    config = TrainConfig()
    assert (config.lr, config.betas, config.eps, config.weight_decay) == (1e-3, (0.9, 0.98), 1e-8, 0)
    assert (config.warmup, config.batch_size, config.model.dropout) == (10, 512, 0.1)


def test_bfloat16_is_for_training_only():
    """The curves of whole splits are the same for the same parameters; batch losses and later steps differ."""
    half = Trainer(replace(TINY, precision="bfloat16"))
    full = Trainer(TINY)
    (one,), (other,) = half.evaluate(), full.evaluate()
    for name in one:
        assert (one[name] == other[name]) == (name != "train_batch_loss") or name == "train_batch_accuracy"
    assert one["train_batch_loss"] == pytest.approx(other["train_batch_loss"], rel=0.05)
    for trainer in (half, full):
        trainer.advance(3)
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.float32}
    assert not torch.equal(half.model.head.weight, full.model.head.weight)
    torch.testing.assert_close(half.model.head.weight, full.model.head.weight, rtol=0, atol=5e-3)


@pytest.mark.parametrize(
    ("name", "value"), [("steps", -1), ("warmup", -1), ("batch_size", 0), ("every", 0), ("per_decade", -1)]
)
def test_errors_for_settings_out_of_range(name, value):
    with pytest.raises(ValueError, match=rf"Expected {name} of at least .* got {value}; give"):
        TrainConfig(**{name: value})


def test_error_for_an_unknown_precision():
    with pytest.raises(ValueError, match="a precision among float32, tf32, bfloat16, got 'float16'"):
        TrainConfig(precision="float16")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # raised inside the compiler of torch
def test_compiled_training_is_the_same():
    eager, compiled = Trainer(CLIPPED), Trainer(CLIPPED, compiled=True)
    for trainer in (eager, compiled):
        trainer.advance(4)
    assert compiled.evaluate()[0] == pytest.approx(eager.evaluate()[0], rel=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_a_gpu_is_the_same():
    there, here = Trainer(TINY, 1, device="cuda"), Trainer(TINY, 1)
    for trainer in (there, here):
        trainer.advance(20)
    assert there.evaluate()[0] == pytest.approx(here.evaluate()[0], rel=1e-4)
    (state,) = there.states()
    there.advance(5)
    again = Trainer(TINY, 1, device="cuda")
    again.load([state])
    again.advance(5)
    assert_same(again.states()[0], there.states()[0])


@pytest.mark.parametrize("make", [lambda config: Trainer(config), lambda config: Ensemble(config, [0])])
def test_tf32_needs_a_gpu(make):
    with pytest.raises(ValueError, match="Expected a GPU for precision tf32, got cpu"):
        make(TrainConfig(precision="tf32"))


@pytest.mark.slow
def test_bfloat16_follows_float32():
    """The losses of seeds differ by more than 10 %; those of bfloat16 must agree within 2 %."""
    config = TrainConfig(task=TaskConfig(size=23), batch_size=128, steps=200, every=50, per_decade=0)
    exact, rounded = (
        np.array([(e.curves["train_loss"], e.curves["test_loss"]) for e in train(replace(config, precision=precision))])
        for precision in ("float32", "bfloat16")
    )
    assert exact[-1, 0] < 0.5 * exact[0, 0]  # the model has learnt
    assert not np.array_equal(exact, rounded)
    np.testing.assert_allclose(rounded, exact, rtol=0.02)


@pytest.mark.parametrize(
    "values",
    [
        {"lr": -1e-3}, {"lr": math.nan}, {"eps": -1.0}, {"weight_decay": math.inf}, {"betas": (0.9, 1.0)},
        {"clip_norm": 0.0}, {"clip_norm": math.nan}, {"clip_norm": math.inf},
    ],
)  # fmt: skip
def test_errors_for_invalid_rates(values):
    with pytest.raises(ValueError, match=f"Expected.*{next(iter(values))}.*, got"):
        TrainConfig(**values)
