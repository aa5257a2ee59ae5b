"""Batched matrix products for a GPU, which replace those of the vendor's library in compiled code.

The products of this model are many and small. The library reaches less than half of the speed of the machine for them.
Here the tiles fit the shapes, and long sums are split over the machine and summed in a fixed order. Float32 precision
comes from three TF32 products of split operands ("3xTF32"), which a GPU computes faster than one float32 product.
Without Triton, the products of the library are used.
"""

from typing import Any

import torch
from torch import Tensor
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch._inductor.pattern_matcher import stable_topological_sort
from torch.fx import Graph, Node

try:
    import triton
    import triton.language as tl
except ImportError:  # a build of torch without GPUs
    triton = None

_ATEN = torch.ops.aten
_RESHAPES = {
    _ATEN.view.default, _ATEN.reshape.default, _ATEN._unsafe_view.default, _ATEN.expand.default,
    _ATEN.unsqueeze.default, _ATEN.squeeze.dim, _ATEN.squeeze.dims,
}  # fmt: skip
_ENOUGH = 256  # programs that occupy a large GPU: about two for each multiprocessor
_LEAST = 128  # least terms of a sum for a separate program

if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator]
    def _product(  # type: ignore[no-untyped-def]
        a, b, c, S, M, N, K, part,
        a_s, a_m, a_k, b_s, b_k, b_n,
        COLUMNS: tl.constexpr, PRECISION: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    ):  # fmt: skip
        """Compute one tile (BM, BN) of c[split, s] = sum over the split's k of a[s, :, k] b[s, k, :].

        With COLUMNS, c has one more row, the sums of the columns of b, which the first tiles in each column compute.
        """
        tile, s, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
        tiles_n = tl.cdiv(N, BN)
        m = (tile // tiles_n) * BM + tl.arange(0, BM)
        n = (tile % tiles_n) * BN + tl.arange(0, BN)
        k = split * part + tl.arange(0, BK)
        end = tl.minimum(K, (split + 1) * part)
        a += s * a_s + m[:, None] * a_m + k[None, :] * a_k
        b += s * b_s + k[:, None] * b_k + n[None, :] * b_n
        total = tl.zeros((BM, BN), dtype=tl.float32)
        sums = tl.zeros((BN,), dtype=tl.float32)
        for first in range(split * part, end, BK):
            inside = k + (first - split * part) < end
            left = tl.load(a, mask=(m[:, None] < M) & inside[None, :], other=0.0)
            right = tl.load(b, mask=inside[:, None] & (n[None, :] < N), other=0.0)
            total = tl.dot(left, right, total, input_precision=PRECISION)
            if COLUMNS:
                sums += tl.sum(right, 0)
            a += BK * a_k
            b += BK * b_k
        c += (split * S + s) * (M + COLUMNS) * N
        tl.store(c + m[:, None] * N + n[None, :], total, mask=(m[:, None] < M) & (n[None, :] < N))
        if COLUMNS:
            tl.store(c + M * N + n, sums, mask=(n < N) & (tile < tiles_n))


def plan(s: int, m: int, n: int, k: int, *, transposed: bool = False) -> tuple[int, int, int]:
    """Return tile sizes `bm`, `bn` and the number of splits of the sum for `(s, m, k) @ (s, k, n)`.

    The rule was measured on an H100. `transposed` means that the columns of the second operand, not its rows, are
    contiguous.
    """
    most = max(1, min(8, k // _LEAST))
    bm, bn = (64, 32) if transposed else (32, 64)
    if s * _tiles(m, n, 128, 64) * most >= _ENOUGH:
        bm, bn = 128, 64
    splits = 1
    while s * _tiles(m, n, bm, bn) * splits < _ENOUGH and 2 * splits <= most:
        splits *= 2
    return bm, bn, splits


def _tiles(m: int, n: int, bm: int, bn: int) -> int:
    return -(-m // bm) * -(-n // bn)


def available() -> bool:
    """Return whether Triton is installed."""
    return triton is not None


@torch.library.custom_op("reference::product", mutates_args=(), device_types="cuda")
def product(a: Tensor, b: Tensor, precision: str, bm: int, bn: int, splits: int, columns: bool) -> Tensor:
    """Return the parts of the sum a @ b: `(S, M, K)`, `(S, K, N)` to `(splits, S, M, N)`.

    With `columns`, `a` gets a last row of ones. The result `(splits, S, M + 1, N)` ends with the sums of the columns
    of b.
    """
    (s, m, k), n = a.shape, b.shape[2]
    c = a.new_empty((splits, s, m + columns, n))
    _product[(_tiles(m, n, bm, bn), s, splits)](
        a, b, c, s, m, n, k, -(-k // splits), *a.stride(), *b.stride(),
        COLUMNS=int(columns), PRECISION=precision, BM=bm, BN=bn, BK=32, num_warps=4, num_stages=3,
    )  # fmt: skip
    return c


@product.register_kernel("cpu")
def _(a: Tensor, b: Tensor, precision: str, bm: int, bn: int, splits: int, columns: bool) -> Tensor:
    """Compute the same sums by torch, for tests."""
    if columns:
        a = torch.cat([a, a.new_ones(a.shape[0], 1, a.shape[2])], 1)
    part = -(-a.shape[2] // splits)
    pieces = zip(a.split(part, 2), b.split(part, 1), strict=True)
    found = a.new_zeros((splits, a.shape[0], a.shape[1], b.shape[2]))
    for i, (left, right) in enumerate(pieces):
        found[i] = left @ right
    return found


@product.register_fake
def _(a: Tensor, b: Tensor, precision: str, bm: int, bn: int, splits: int, columns: bool) -> Tensor:
    return a.new_empty((splits, a.shape[0], a.shape[1] + columns, b.shape[2]))


class Products(CustomGraphPass):
    """Compiler pass that replaces every float32 matrix product of a graph by `product`.

    It replaces batched products, and single products, which the compiler makes of a batch of one. If the columns of the
    second operand are summed too, as for the gradient of a bias, one product computes both.
    """

    def __init__(self, precision: str) -> None:
        self.precision = precision

    def __call__(self, graph: Graph) -> None:
        """Rewrite `graph`."""
        sums = list(graph.find_nodes(op="call_function", target=_ATEN.sum.dim_IntList))
        for target in (_ATEN.bmm.default, _ATEN.mm.default):
            for node in graph.find_nodes(op="call_function", target=target):
                if node.meta["val"].dtype == torch.float32:
                    columns = next((each for each in sums if _sums_columns(each, node.args[1])), None)
                    if columns:
                        sums.remove(columns)
                    self._replace(graph, node, columns)
        stable_topological_sort(graph)  # a sum may precede its product

    def _replace(self, graph: Graph, node: Node, columns: Node | None) -> None:
        def call(target: Any, *arguments: Any) -> Node:
            made = graph.call_function(target, arguments)
            made.meta["val"] = target(*(x.meta["val"] if isinstance(x, Node) else x for x in arguments))
            return made

        a: Any
        b: Any
        with graph.inserting_before(node):
            single = node.target == _ATEN.mm.default
            a, b = (call(_ATEN.unsqueeze.default, x, 0) if single else x for x in node.args)
            (s, m, k), n = a.meta["val"].shape, b.meta["val"].shape[2]
            tiles = plan(s, m, n, k, transposed=b.meta["val"].stride(2) != 1)
            parts = call(torch.ops.reference.product.default, a, b, self.precision, *tiles, columns is not None)
            total = call(_ATEN.sum.dim_IntList, parts, [0])
            replaced = [(node, 0, m)] + ([(columns, m, m + 1)] if columns else [])
            for old, first, last in replaced:
                rows = call(_ATEN.slice.Tensor, total, 1, first, last)
                old.replace_all_uses_with(call(_ATEN.reshape.default, rows, list(old.meta["val"].shape)))
        for old, *_ in replaced:
            graph.erase_node(old)

    def uuid(self) -> bytes:
        """Return the key of this pass in the compiler cache."""
        return get_hash_for_files((__file__,), self.precision)


def _root(node: Any) -> Any:
    """Return the tensor of which a node is a reshaped view."""
    while node.target in _RESHAPES:
        node = node.args[0]
    return node


def _sums_columns(node: Any, b: Any) -> bool:
    """Return whether a node sums the columns of `b`."""
    if _root(node.args[0]) is not _root(b):
        return False
    summed, b = node.args[0].meta["val"], b.meta["val"]
    shape = (b.shape[0] if b.ndim == 3 else 1, b.numel(), b.shape[-1])
    inner = [d % summed.ndim for d in node.args[1]] == list(range(1, summed.ndim - 1))
    return inner and (summed.shape[0], summed.numel(), summed.shape[-1]) == shape
