import math
from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional

from reference.model import Config, Transformer
from reference.tasks import Task, division
from reference.train import TrainConfig, batches, make_optimizer, train


@pytest.fixture(autouse=True)
def _global_random_state_untouched() -> Iterator[None]:
    """Whatever a test does here, nothing may draw from torch's global generator or seed it."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small matrices gain nothing from a second thread, and on a busy machine wait for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def task() -> Task:
    return division(59)


def build(task: Task, *, seed: int = 0, **options) -> Transformer:
    return Transformer(Config(n_tokens=task.n_tokens, n_classes=task.n_classes, **options), seed=seed)


def run(model: Transformer, task: Task, config: TrainConfig) -> list[tuple[int, float]]:
    return list(train(model, task, *make_optimizer(model, config), config))


# The table


@pytest.mark.parametrize("p", [3, 7, 59])
def test_table_is_division(p):
    task = division(p)
    a, operation, b, equals = task.inputs.unbind(1)
    assert task.inputs.dtype == task.targets.dtype == torch.int64
    assert torch.equal(task.targets * b % p, a)  # the defining property; no inverse is computed here
    assert set(zip(a.tolist(), b.tolist(), strict=True)) == {(i, j) for i in range(p) for j in range(1, p)}
    assert len(a) == p * (p - 1)
    assert operation.unique().tolist() == [p]
    assert equals.unique().tolist() == [p + 1]
    assert (task.n_tokens, task.n_classes) == (p + 2, p)
    for divisor in range(1, p):  # dividing by b permutes the numbers
        assert task.targets[b == divisor].sort().values.tolist() == list(range(p))


def test_split_is_disjoint_complete_and_decided_by_the_seed(task):
    assert len(task.targets) == 3422
    assert torch.cat([task.train, task.test]).sort().values.tolist() == list(range(3422))
    assert len(division(59, fraction=0.3).train) == round(0.3 * 3422)
    assert torch.equal(division(59).train, task.train)
    assert not torch.equal(division(59, seed=1).train, task.train)
    x, y = task.test_data
    assert torch.equal(x, task.inputs[task.test])
    assert torch.equal(y, task.targets[task.test])
    # A prefix is a sample of the whole: the numerators of the first 200 pairs are not just the small ones.
    assert task.train_data[0][:200, 0].unique().numel() > 40


@pytest.mark.parametrize("p", [-7, 0, 1, 2, 4, 49, 96])
def test_only_odd_primes_divide(p):
    with pytest.raises(ValueError, match=rf"Expected a prime.* came {p}\. Give"):
        division(p)


@pytest.mark.parametrize("p", [59.0, "59", True])
def test_p_must_be_an_integer(p):
    with pytest.raises(TypeError, match=r"Expected an int as p, came .* Give a prime"):
        division(p)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 50, math.nan])
def test_fraction_must_lie_between_0_and_1(fraction):
    with pytest.raises(ValueError, match=rf"Expected a fraction between 0 and 1.* came {fraction}\. Give"):
        division(59, fraction=fraction)


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_no_split_may_be_empty(fraction):
    with pytest.raises(ValueError, match=r"leaves pairs in both splits.* of 6 pairs"):
        division(3, fraction=fraction)


# The network


def test_parameter_count(task):
    vocabulary, d, hidden, answers = 61, 128, 512, 59
    block = 2 * (2 * d) + (3 * d * d + 3 * d) + (d * d + d) + (d * hidden + hidden) + (hidden * d + d)
    expected = vocabulary * d + 4 * d + 2 * block + 2 * d + (d * answers + answers)
    assert sum(parameter.numel() for parameter in build(task).parameters()) == expected == 412_731


def test_earlier_positions_do_not_see_later_tokens(task):
    model = build(task).eval()
    seen: dict[int, torch.Tensor] = {}
    for index, block in enumerate(model.blocks):
        block.register_forward_hook(lambda _module, _inputs, out, index=index: seen.update({index: out}))
    tokens = task.inputs[:8]
    with torch.no_grad():
        model(tokens)
        before = dict(seen)
        for position in range(4):
            changed = tokens.clone()
            changed[:, position] = (changed[:, position] + 1) % task.n_tokens
            model(changed)
            for index in before:
                length = 4 if index == 0 else 1  # the last block keeps the last position only, which sees all
                assert seen[index].shape == (8, length, 128)
                differs = (seen[index] != before[index]).flatten(2).any(2).any(0)  # (T,)
                assert differs.tolist() == [other >= position for other in range(4 - length, 4)]


def test_block_adds_to_a_stream_that_it_reads_through_a_norm(task):
    block = build(task).blocks[0].double()
    x = torch.randn(3, 4, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # A norm does not see a constant, and what adds to the stream passes it on unchanged.
    torch.testing.assert_close(block(x + 5.0), block(x) + 5.0)


def test_answer_is_read_at_the_last_token(task):
    model = build(task).eval()
    x = task.inputs[:8]
    with torch.no_grad():
        before = model(x)
        for position in range(4):
            # A ramp, because the final norm takes away a constant.
            edit = torch.zeros(4, 128).index_fill_(0, torch.tensor(position), 1.0) * torch.arange(128)
            handle = model.blocks[-1].register_forward_hook(lambda _m, _i, out, edit=edit: out + edit)
            assert torch.equal(model(x), before) == (position < 3)
            handle.remove()


def test_every_position_has_its_embedding(task):
    model = build(task).eval()
    x = task.inputs[:8]
    with torch.no_grad():
        for position in range(4):
            before = model(x)
            model.positions.weight[position] += torch.arange(128) / 128
            assert not torch.equal(model(x), before)


def test_attention_equals_a_plain_softmax_in_float64(task):
    attention = build(task).blocks[0].attention.double()
    x = torch.randn(3, 4, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts = functional.linear(x, attention.qkv.weight, attention.qkv.bias).split(128, dim=-1)
    heads = []
    for head in range(4):
        q, k, v = (part[..., 32 * head : 32 * (head + 1)] for part in parts)
        scores = (q @ k.mT / math.sqrt(32)).masked_fill(torch.ones(4, 4).triu(1).bool(), -math.inf)
        heads.append(scores.softmax(-1) @ v)
    expected = torch.cat(heads, dim=-1) @ attention.out.weight.T + attention.out.bias
    torch.testing.assert_close(attention(x), expected)


def test_initial_loss_is_that_of_a_guess(task):
    x, y = task.train_data
    # The head's uniform weights give logits of variance 1/3, which costs about half of that above ln p.
    for seed in range(3):
        loss = functional.cross_entropy(build(task, seed=seed)(x), y).item()
        assert math.log(59) < loss < math.log(59) + 0.5


def test_rows_of_a_batch_do_not_mix(task):
    model = build(task).double().eval()
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(task.inputs[:64][order]), model(task.inputs[:64])[order])
        torch.testing.assert_close(model(task.inputs[:1]), model(task.inputs[:64])[:1])


def test_seed_alone_decides_the_start(task):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        model = build(task, seed=1)
    for again, same in ((build(task, seed=1), True), (build(task, seed=2), False)):
        assert torch.equal(again.head.weight, model.head.weight) == same
        assert torch.equal(again.tokens.weight, model.tokens.weight) == same
    assert model.tokens.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.positions.weight.std().item() == pytest.approx(0.02, rel=0.2)


def test_dropout_acts_in_training_only(task):
    model = build(task, dropout=0.5)
    x = task.inputs[:16]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        assert not torch.equal(model(x), model(x))
        model.eval()
        assert torch.equal(model(x), model(x))


def test_wrong_sizes_are_named(task):
    with pytest.raises(ValueError, match=r"n_heads to divide d_model, came 3 heads for d_model=128\. Make"):
        build(task, n_heads=3)
    with pytest.raises(ValueError, match=r"tokens of shape \(B, 4\), came \(8, 3\)\. Give"):
        build(task)(task.inputs[:8, :3])


# Training


def test_two_trainings_are_bit_identical(task):
    config = TrainConfig(steps=5, batch_size=128)
    models = [build(task), build(task)]
    losses = [run(model, task, config) for model in models]
    assert losses[0] == losses[1]
    assert [step for step, _ in losses[0]] == [1, 2, 3, 4, 5]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)
    assert run(build(task), task, TrainConfig(steps=5, batch_size=128, seed=1)) != losses[0]


def test_an_observer_in_eval_mode_changes_nothing(task):
    config = TrainConfig(steps=3, batch_size=32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = run(build(task, dropout=0.1), task, config)
        torch.manual_seed(0)
        model, seen = build(task, dropout=0.1), []
        for step, batch_loss in train(model, task, *make_optimizer(model, config), config):
            model.eval()
            seen.append((step, batch_loss))
    assert seen == expected


def test_loss_falls(task):
    losses = [loss for _, loss in run(build(task), task, TrainConfig(steps=30, batch_size=128))]
    assert losses[0] == pytest.approx(math.log(59), abs=0.5)
    assert sum(losses[-5:]) / 5 < losses[0] - 0.1


def test_warmup_is_linear(task):
    config = TrainConfig(steps=12, batch_size=8)
    model = build(task, d_model=8, d_mlp=8)
    optimizer, scheduler = make_optimizer(model, config)
    rates = []
    optimizer.register_step_pre_hook(lambda *_: rates.append(optimizer.param_groups[0]["lr"]))
    list(train(model, task, optimizer, scheduler, config))
    assert rates == pytest.approx([1e-4 * step for step in range(1, 11)] + [1e-3, 1e-3])


def test_decay_acts_on_all_parameters(task):
    model = build(task, d_model=8, d_mlp=8)
    optimizer, _ = make_optimizer(model, TrainConfig(warmup=0, lr=0.1, weight_decay=0.5))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for old, new in zip(before, model.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old * (1 - 0.1 * 0.5))


def test_batches_are_drawn_with_replacement_from_the_training_split():
    task = division(5, fraction=0.5)
    x, y = next(batches(task, TrainConfig(batch_size=512)))
    assert x.shape == (512, 4)
    pairs = {(*row, answer) for row, answer in zip(x.tolist(), y.tolist(), strict=True)}
    whole = zip(*(part.tolist() for part in task.train_data), strict=True)
    assert pairs == {(*row, answer) for row, answer in whole}  # 10 pairs: all are drawn, many times


def test_a_loss_that_is_not_finite_stops_the_run(task):
    config = TrainConfig(steps=5)
    model = build(task, d_model=8, d_mlp=8)
    steps = train(model, task, *make_optimizer(model, config), config)
    assert [next(steps)[0], next(steps)[0]] == [1, 2]
    with torch.no_grad():
        model.head.weight[0, 0] = math.nan
    before = model.head.bias.detach().clone()
    with pytest.raises(FloatingPointError, match=r"Expected a finite loss, came nan at step 3 .* Lower lr"):
        next(steps)
    assert torch.equal(model.head.bias, before)


@pytest.mark.parametrize(("name", "value"), [("steps", -1), ("warmup", -1), ("batch_size", 0)])
def test_impossible_settings_are_named(name, value):
    with pytest.raises(ValueError, match=rf"Expected {name} of at least .* came {value}\. Give"):
        TrainConfig(**{name: value})
