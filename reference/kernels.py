"""Batched matrix products for a GPU, in place of those that the compiler would take from the vendor's library.

The products of this model are many and small, and the library's choices for them reach less than half of what the
machine can do. Here the tiles fit the shapes, long sums are split over the machine (and summed in a fixed order), and
float32 is kept by three TF32 products of split operands ("3xTF32"), which a GPU does faster than one float32 product.
Optional: without Triton, the library's products are used.
"""

import torch
from torch import Tensor
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.fx import Graph

try:
    import triton
    import triton.language as tl
except ImportError:  # a build of torch without GPUs
    triton = None

_ENOUGH = 256  # programs that keep a large GPU busy: about two for each of its multiprocessors
_LEAST = 128  # terms of a sum that are worth a program of their own

if triton is not None:

    @triton.jit
    def _product(  # type: ignore[no-untyped-def]
        a, b, c, S, M, N, K, part,
        a_s, a_m, a_k, b_s, b_k, b_n,
        PRECISION: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    ):  # fmt: skip
        """One tile (BM, BN) of c[split, s] = sum over the split's k of a[s, :, k] b[s, k, :]."""
        tile, s, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
        tiles_n = tl.cdiv(N, BN)
        m = (tile // tiles_n) * BM + tl.arange(0, BM)
        n = (tile % tiles_n) * BN + tl.arange(0, BN)
        k = split * part + tl.arange(0, BK)
        end = tl.minimum(K, (split + 1) * part)
        a += s * a_s + m[:, None] * a_m + k[None, :] * a_k
        b += s * b_s + k[:, None] * b_k + n[None, :] * b_n
        total = tl.zeros((BM, BN), dtype=tl.float32)
        for first in range(split * part, end, BK):
            inside = k + (first - split * part) < end
            left = tl.load(a, mask=(m[:, None] < M) & inside[None, :], other=0.0)
            right = tl.load(b, mask=inside[:, None] & (n[None, :] < N), other=0.0)
            total = tl.dot(left, right, total, input_precision=PRECISION)
            a += BK * a_k
            b += BK * b_k
        c += ((split * S + s) * M + m[:, None]) * N + n[None, :]
        tl.store(c, total, mask=(m[:, None] < M) & (n[None, :] < N))


def plan(s: int, m: int, n: int, k: int) -> tuple[int, int, int]:
    """Tile `(bm, bn)` and number of splits of the sum, for `(s, m, k) @ (s, k, n)`; measured on an H100."""
    most = max(1, min(8, k // _LEAST))
    bm, bn = (128, 64) if s * _tiles(m, n, 128, 64) * most >= _ENOUGH else (64, 32)
    splits = 1
    while s * _tiles(m, n, bm, bn) * splits < _ENOUGH and 2 * splits <= most:
        splits *= 2
    return bm, bn, splits


def _tiles(m: int, n: int, bm: int, bn: int) -> int:
    return -(-m // bm) * -(-n // bn)


def available() -> bool:
    """Whether these products can be used here."""
    return triton is not None


@torch.library.custom_op("reference::product", mutates_args=(), device_types="cuda")
def product(a: Tensor, b: Tensor, precision: str, bm: int, bn: int, splits: int) -> Tensor:
    """Parts of the sum a @ b: `(S, M, K)`, `(S, K, N)` to `(splits, S, M, N)`."""
    (s, m, k), n = a.shape, b.shape[2]
    c = a.new_empty((splits, s, m, n))
    _product[(_tiles(m, n, bm, bn), s, splits)](
        a, b, c, s, m, n, k, -(-k // splits), *a.stride(), *b.stride(),
        PRECISION=precision, BM=bm, BN=bn, BK=32, num_warps=4, num_stages=3,
    )  # fmt: skip
    return c


@product.register_kernel("cpu")
def _(a: Tensor, b: Tensor, precision: str, bm: int, bn: int, splits: int) -> Tensor:
    """The same sums by torch, for tests."""
    part = -(-a.shape[2] // splits)
    pieces = zip(a.split(part, 2), b.split(part, 1), strict=True)
    found = a.new_zeros((splits, a.shape[0], a.shape[1], b.shape[2]))
    for i, (left, right) in enumerate(pieces):
        found[i] = left @ right
    return found


@product.register_fake
def _(a: Tensor, b: Tensor, precision: str, bm: int, bn: int, splits: int) -> Tensor:
    return a.new_empty((splits, a.shape[0], a.shape[1], b.shape[2]))


class Products(CustomGraphPass):
    """Puts `product` in the place of every batched float32 product of a compiled graph."""

    def __init__(self, precision: str) -> None:
        self.precision = precision

    def __call__(self, graph: Graph) -> None:
        """Rewrite `graph`."""
        for node in graph.find_nodes(op="call_function", target=torch.ops.aten.bmm.default):
            a, b = (argument.meta["val"] for argument in node.args)
            if a.dtype != torch.float32:
                continue
            bm, bn, splits = plan(a.shape[0], a.shape[1], b.shape[2], a.shape[2])
            arguments = (self.precision, bm, bn, splits)
            with graph.inserting_before(node):
                parts = graph.call_function(torch.ops.reference.product.default, (*node.args, *arguments))
                parts.meta["val"] = torch.ops.reference.product.default(a, b, *arguments)
                total = graph.call_function(torch.ops.aten.sum.dim_IntList, (parts, [0]))
                total.meta["val"] = parts.meta["val"].sum(0)
            node.replace_all_uses_with(total)
            graph.erase_node(node)

    def uuid(self) -> bytes:
        """Of what was compiled with this pass."""
        return get_hash_for_files((__file__,), self.precision)
