"""Batched matrix products: sums, splits, and the pass that inserts them into a compiled graph."""

import shutil

import pytest
import torch

from reference.training.kernels import Products, available, plan, product

SHAPES = [  # (s, m, n, k): those of a step, and one that is no multiple of a tile
    (1, 2048, 256, 128), (8, 512, 96, 128), (8, 128, 512, 2048), (32, 128, 128, 512), (3, 33, 40, 130),
]  # fmt: skip


def compiles(test):
    """Mark a test that compiles: it is slow, needs a compiler, and torch uses deprecated functions there."""
    test = pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")(test)
    return pytest.mark.slow(pytest.mark.filterwarnings("ignore::DeprecationWarning")(test))


def operands(s: int, m: int, n: int, k: int, *, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(s, k, m, generator=generator).mT, torch.randn(s, k, n, generator=generator)
    return a.to(device), b.to(device)


def error(found: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> float:
    truth = a.double() @ b.double()
    return ((found.double() - truth).norm() / truth.norm()).item()


@pytest.mark.parametrize("shape", SHAPES)
def test_every_term_of_a_split_sum_counts_once(shape):
    a, b = operands(*shape)
    bm, bn, splits = plan(*shape)
    parts = product(a, b, "tf32x3", bm, bn, splits, False)
    assert parts.shape == (splits, *(shape[i] for i in (0, 1, 2)))
    assert error(parts.sum(0), a, b) < 1e-6
    assert splits == 1 or error(parts[0], a, b) > 0.1  # one part is not the whole sum


def test_sums_of_columns_are_appended():
    a, b = operands(3, 33, 40, 300)
    found = product(a, b, "tf32x3", 32, 64, 2, True).sum(0)
    torch.testing.assert_close(found[:, :33], a @ b, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[:, 33], b.sum(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("s", [1, 8, 32])
def test_plan_occupies_a_large_gpu_if_the_sum_is_long_enough(s):
    for m, n, k in ((128, 384, 2048), (512, 128, 2048), (2048, 384, 128), (512, 128, 128)):
        bm, bn, splits = plan(s, m, n, k)
        programs = s * -(-m // bm) * -(-n // bn) * splits
        assert programs >= 128 or k // splits < 256 or splits == 8
        assert k // splits >= 128  # each program has enough terms
        assert splits in (1, 2, 4, 8)


class Seeing(Products):
    """The pass, which records its calls."""

    def __init__(self):
        super().__init__("tf32x3")
        self.calls = []

    def __call__(self, graph):
        super().__call__(graph)
        graph.lint()
        self.calls = [(node.target, node.args) for node in graph.nodes if node.op == "call_function"]

    def uuid(self):
        return None  # compile each time


@compiles
@pytest.mark.parametrize(("multiply", "members"), [(torch.bmm, 2), (torch.bmm, 1), (torch.mm, None)])
def test_pass_replaces_the_products_of_a_compiled_function(multiply, members):
    a, b = operands(members or 1, 48, 40, 300)
    a, b = (a, b) if members else (a[0], b[0])
    seeing = Seeing()

    def function(a, b):
        return multiply(a, b).relu()

    compiled = torch.compile(function, dynamic=False, options={"post_grad_custom_pre_pass": seeing})
    torch.testing.assert_close(compiled(a, b), function(a, b), rtol=1e-5, atol=1e-5)
    targets = {target for target, _ in seeing.calls}
    assert torch.ops.reference.product.default in targets
    assert not {torch.ops.aten.bmm.default, torch.ops.aten.mm.default} & targets


@compiles
@pytest.mark.parametrize("first", [True, False], ids=["bias first", "weights first"])
def test_gradients_of_weights_and_bias_become_one_product(first):
    x, g = torch.randn(2, 60, 3, 8), torch.randn(2, 60, 3, 10)
    seeing = Seeing()

    def function(x, g):
        if first:
            bias = g.sum((1, 2)).cos()
        weights = x.reshape(2, -1, 8).mT @ g.reshape(2, -1, 10)
        other = g.reshape(2, -1, 10) @ weights.mT  # columns of another operand
        return weights, bias if first else g.sum((1, 2)).cos(), other.sum((0, 1)), g.sum((0, 1))

    compiled = torch.compile(function, dynamic=False, options={"post_grad_custom_pre_pass": seeing})
    for found, expected in zip(compiled(x, g), function(x, g), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with_columns = [args[-1] for target, args in seeing.calls if target == torch.ops.reference.product.default]
    assert sorted(with_columns) == [False, True]


@compiles
def test_pass_ignores_other_precisions():
    a, b = (x.bfloat16() for x in operands(2, 16, 16, 16))
    compiled = torch.compile(torch.bmm, options={"post_grad_custom_pre_pass": Products("tf32x3")})
    torch.testing.assert_close(compiled(a, b), torch.bmm(a, b))


def test_the_compiler_cache_distinguishes_precisions():
    assert Products("tf32x3").uuid() != Products("tf32").uuid()


@pytest.mark.gpu
@pytest.mark.skipif(not (torch.cuda.is_available() and available()), reason="needs a GPU with Triton")
@pytest.mark.parametrize("shape", SHAPES)
def test_three_tf32_products_are_as_accurate_as_float32(shape):
    a, b = operands(*shape, device="cuda")
    bm, bn, splits = plan(*shape)
    assert error(product(a, b, "tf32x3", bm, bn, splits, False).sum(0), a, b) < 1e-6  # one TF32 product: 3e-4
