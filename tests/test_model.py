"""The network compared with the layers of torch and with a simple implementation; causality and independence."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap
from torch.nn import functional

from reference.training import ModelConfig, Transformer
from reference.training.model import drop
from reference.training.tasks import Task, composition, division

ACTIVATIONS = {
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
}


pytestmark = pytest.mark.usefixtures("global_random_state_untouched")


@pytest.fixture(scope="module")
def task() -> Task:
    return division(59)


def build(task: Task, *, seed: int = 0, **options) -> Transformer:
    return Transformer(ModelConfig(**options), task.n_tokens, task.n_classes, seed=seed)


def small(task: Task, **options) -> Transformer:
    """Return a model in float64, so that two ways to the same numbers agree up to rounding."""
    return build(task, **{"d_model": 16, "n_heads": 2, "d_mlp": 24} | options).double()


def random_masks(model: Transformer, n: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(shape, generator=generator, dtype=torch.float64) for shape in model.mask_shapes(n)]


# What it computes


@pytest.mark.parametrize(
    ("task", "count"), [(division(96, table="paper"), 422_368), (composition(5), 428_536)], ids=["division", "S5"]
)
def test_number_of_parameters_is_that_of_the_code_of_the_paper(task, count):
    """Except the vector of a fifth position, which that code has (`max_length: 5`) and never reads."""
    assert sum(parameter.numel() for parameter in build(task).parameters()) == count - 128


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_it_equals_the_transformer_of_torch(task, activation, norm):
    """Compare values and gradients with `nn.TransformerEncoderLayer` with the same weights, in float64."""
    model = build(task, activation=activation, norm=norm).double()
    options = {"dropout": 0.0, "activation": ACTIVATIONS[activation], "batch_first": True, "norm_first": norm == "pre"}
    with torch.random.fork_rng(devices=[]):
        layers = [nn.TransformerEncoderLayer(128, 4, 512, **options).double() for _ in model.blocks]
    for layer, block in zip(layers, model.blocks, strict=True):
        read, out = layer.self_attn, block.attention.out
        parts = block.attention.q, block.attention.kv  # torch has one matrix for queries, keys and values
        weights = {name: torch.cat([getattr(part, name) for part in parts]) for name in ("weight", "bias")}
        del read.in_proj_weight, read.in_proj_bias  # parameters cannot be replaced by tensors with gradients
        read.in_proj_weight, read.in_proj_bias = weights["weight"], weights["bias"]
        read.out_proj.weight, read.out_proj.bias = out.weight, out.bias
        layer.norm1, layer.norm2, layer.linear1, layer.linear2 = block.norm1, block.norm2, block.up, block.down
    tokens, answers = task.inputs[::50], task.targets[::50]
    ahead = nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64)
    x = math.sqrt(128) * functional.embedding(tokens, model.tokens.weight) + model.positions.weight
    for layer in layers:
        x = layer(x, src_mask=ahead)
    norm, head = model.norm, model.head
    last = isinstance(norm, nn.LayerNorm)
    x = functional.layer_norm(x[:, 3], (128,), norm.weight, norm.bias) if last else x[:, 3]
    expected = functional.linear(x, head.weight, head.bias)
    torch.testing.assert_close(model(tokens), expected, rtol=0, atol=1e-10)
    parameters = list(model.parameters())
    assert last == (model.config.norm == "pre")
    for one, other in zip(
        torch.autograd.grad(functional.cross_entropy(model(tokens), answers), parameters),
        torch.autograd.grad(functional.cross_entropy(expected, answers), parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def plainly(model: Transformer, tokens: torch.Tensor, masks: list[torch.Tensor]) -> torch.Tensor:
    """A second implementation by loops over sequences, positions and heads, with explicit masks."""
    answers = []
    for n, sequence in enumerate(tokens):
        embedding, *rest = [mask[n] for mask in masks]
        x = (model.config.token_scale * model.tokens.weight[sequence] + model.positions.weight) * embedding
        for i, block in enumerate(model.blocks):
            weight, attended, hidden, output = rest[4 * i : 4 * i + 4]
            first = 4 - len(attended)  # the last block has masks for the last position only
            q, (k, v) = block.attention.q(block.norm1(x)), block.attention.kv(block.norm1(x)).chunk(2, dim=-1)
            rows = []
            for t in range(first, 4):
                heads = []
                for head, part in enumerate(torch.arange(x.shape[1]).chunk(model.config.n_heads)):
                    scores = k[: t + 1, part] @ q[t, part] / math.sqrt(len(part))
                    heads.append((scores.softmax(0) * weight[t - first, : t + 1, head]) @ v[: t + 1, part])
                rows.append(block.attention.out(torch.cat(heads)))
            x = x[first:] + torch.stack(rows) * attended
            x = x + block.down(functional.gelu(block.up(block.norm2(x))) * hidden) * output
        answers.append(model.head(model.norm(x[-1])))
    return torch.stack(answers)


@pytest.mark.parametrize("n_blocks", [1, 2, 3])
def test_each_mask_acts_at_its_place(task, n_blocks):
    model = small(task, n_blocks=n_blocks)
    tokens = task.inputs[:6]
    masks = random_masks(model, 6)
    assert len(masks) == model.n_masks == 1 + 4 * n_blocks
    with torch.no_grad():
        torch.testing.assert_close(model(tokens, masks), plainly(model, tokens, masks), rtol=0, atol=1e-10)
        for i, mask in enumerate(masks):  # and each has an effect
            others = [*masks[:i], torch.ones_like(mask), *masks[i + 1 :]]
            assert not torch.allclose(model(tokens, others), model(tokens, masks))


def test_masks_of_ones_change_nothing(task):
    model = build(task)
    x = task.inputs[:32]
    ones = [torch.ones(shape) for shape in model.mask_shapes(32)]
    assert torch.equal(model(x, ones), model(x))
    assert torch.equal(model(x, None), model(x))


def test_a_mask_of_zeros_on_the_hidden_units_leaves_the_bias_of_the_layer_behind(task):
    model = small(task, n_blocks=1)
    masks = [torch.ones(shape, dtype=torch.float64) for shape in model.mask_shapes(8)]
    masks[3] = torch.zeros(8, 1, 24, dtype=torch.float64)
    stream = []
    model.blocks[0].norm2.register_forward_pre_hook(lambda _module, inputs: stream.append(inputs[0]))
    model.norm.register_forward_pre_hook(lambda _module, inputs: stream.append(inputs[0]))
    with torch.no_grad():
        model(task.inputs[:8], masks)
        before, after = stream
        torch.testing.assert_close(after, before[:, -1] + model.blocks[0].down.bias)


def test_shapes_of_the_masks():
    shapes = build(division(7)).mask_shapes(5)
    first = [(5, 4, 4, 4), (5, 4, 128), (5, 4, 512), (5, 4, 128)]
    last = [(5, 1, 4, 4), (5, 1, 128), (5, 1, 512), (5, 1, 128)]
    assert list(shapes) == [(5, 4, 128), *first, *last]
    assert build(division(7), dropout=0.0).n_masks == 0


def test_drop():
    x = torch.arange(3.0)
    assert drop(x, None) is x
    assert drop(x, torch.tensor([2.0, 0.0, 2.0])).tolist() == [0, 0, 4]


def test_skipped_positions_change_no_answer(task):
    model, whole = small(task), small(task)
    whole.blocks[-1].attention.last = False
    seen = []
    whole.blocks[-1].register_forward_hook(lambda _module, _inputs, out: seen.append(out.shape))
    with torch.no_grad():
        torch.testing.assert_close(model(task.inputs), whole(task.inputs), rtol=0, atol=1e-12)
    assert seen == [(3422, 4, 16)]


# What it must not see


def test_later_tokens_do_not_affect_earlier_positions(task):
    model = build(task)
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
                length = 4 if index == 0 else 1  # the last block has only the last position, which attends to all
                assert seen[index].shape == (8, length, 128)
                differs = (seen[index] != before[index]).flatten(2).any(2).any(0)  # (T,)
                assert differs.tolist() == [other >= position for other in range(4 - length, 4)]


def test_block_adds_to_a_stream_that_it_reads_through_a_norm(task):
    block = build(task).blocks[0].double()
    x = torch.randn(3, 4, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # A norm removes a constant, and an addition to the stream keeps it.
    torch.testing.assert_close(block(x + 5.0), block(x) + 5.0)


def test_answer_is_read_at_the_last_token(task):
    model = build(task)
    x = task.inputs[:8]
    with torch.no_grad():
        before = model(x)
        for position in range(4):
            # A ramp, because the final norm removes a constant.
            edit = torch.zeros(4, 128).index_fill_(0, torch.tensor(position), 1.0) * torch.arange(128)
            handle = model.blocks[-1].register_forward_hook(lambda _m, _i, out, edit=edit: out + edit)
            assert torch.equal(model(x), before) == (position < 3)
            handle.remove()


def test_every_position_has_its_embedding(task):
    model = build(task)
    x = task.inputs[:8]
    with torch.no_grad():
        for position in range(4):
            before = model(x)
            model.positions.weight[position] += torch.arange(128) / 128
            assert not torch.equal(model(x), before)


def test_rows_of_a_batch_do_not_mix(task):
    model = small(task)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(task.inputs[:64][order]), model(task.inputs[:64])[order])
        torch.testing.assert_close(model(task.inputs[:1]), model(task.inputs[:64])[:1])


def test_the_answer_is_a_function_of_the_arguments(task):
    model = build(task, dropout=0.5)
    x = task.inputs[:16]
    assert torch.equal(model.train()(x), model.eval()(x))


def test_parameters_from_outside(task):
    """Call one structure with the parameters of several models, as the ensemble does."""
    models = [small(task, seed=seed) for seed in range(3)]
    tokens, masks = task.inputs[:10], random_masks(models[0], 10)
    together = {
        name: torch.stack([dict(model.named_parameters())[name].detach() for model in models])
        for name, _ in models[0].named_parameters()
    }
    with torch.no_grad():
        found = vmap(lambda parameters: functional_call(models[0], parameters, (tokens, masks)))(together)
        for model, answers in zip(models, found, strict=True):
            torch.testing.assert_close(answers, model(tokens, masks), rtol=0, atol=1e-12)


# How it starts


def test_initial_loss_is_that_of_a_random_guess(task):
    x, y = task.train_data
    # The uniform weights of the head give logits of variance 1/3, which adds about half of that to ln p.
    for seed in range(3):
        loss = functional.cross_entropy(build(task, seed=seed)(x), y).item()
        assert math.log(59) < loss < math.log(59) + 0.5


def test_initial_parameters_depend_on_the_seed_alone(task):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        model = build(task, seed=1)
    for again, same in ((build(task, seed=1), True), (build(task, seed=2), False)):
        for name in ("tokens", "positions", "head"):
            assert torch.equal(again.get_submodule(name).weight, model.get_submodule(name).weight) == same
        assert torch.equal(again.blocks[1].up.weight, model.blocks[1].up.weight) == same


def test_embeddings_start_as_configured(task):
    for options, tokens, positions in (({}, 1.0, 1.0), ({"token_std": 0.02, "position_std": 0.3}, 0.02, 0.3)):
        model = build(task, **options)
        for weight, std in ((model.tokens.weight, tokens), (model.positions.weight, positions)):
            n = weight.numel()  # to four standard errors
            assert abs(weight.std().item() / std - 1) < 4 / math.sqrt(2 * n)
            assert abs(weight.mean().item()) < 4 * std / math.sqrt(n)


def test_token_vectors_are_scaled_when_read(task):
    assert ModelConfig().token_scale == pytest.approx(math.sqrt(128), abs=1e-12)
    model, other = small(task, token_scale=3.0), small(task, token_scale=1.0)
    assert torch.equal(model.tokens.weight, other.tokens.weight)  # the initial values are not scaled
    with torch.no_grad():
        assert not torch.allclose(model(task.inputs), other(task.inputs))
        other.tokens.weight.mul_(3)
        torch.testing.assert_close(model(task.inputs), other(task.inputs))


# Bad input


def test_errors_for_wrong_sizes(task):
    with pytest.raises(ValueError, match=r"n_heads to divide d_model, got 3 heads for d_model=128; make"):
        ModelConfig(n_heads=3)
    with pytest.raises(ValueError, match=r"n_heads to divide d_model, got 0 heads"):
        ModelConfig(n_heads=0)
    with pytest.raises(ValueError, match=r"an activation among gelu, gelu_tanh, relu, got 'swish'"):
        ModelConfig(activation="swish")
    with pytest.raises(ValueError, match=r"tokens of shape \(B, 4\), got \(8, 3\); give"):
        build(task)(task.inputs[:8, :3])


@pytest.mark.parametrize("rate", [-0.1, 1.0, 10, math.nan])
def test_errors_for_dropout_rates_out_of_range(rate):
    with pytest.raises(ValueError, match=rf"dropout rate from 0 to 0.99, got {rate}; give"):
        ModelConfig(dropout=rate)
