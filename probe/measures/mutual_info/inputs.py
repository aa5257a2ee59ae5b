"""Numbers of the inputs of the rows that are measured, so that equal inputs are one input."""

from collections.abc import Sequence

from torch import Tensor

from probe.forward.data import Batch
from probe.forward.outputs import Reduce
from probe.information.discrete import label_codes
from probe.information.validation import rounding_variance

_SAME = (
    100  # rounding of a layer over that of single numbers, as variances: batches of other sizes sum in another order
)


def input_keys(batch: Batch, n_rows: int, reduce: Reduce) -> tuple[Tensor, ...]:
    """Return keys (n_rows,) of what the rows of a layer can depend on, the least that they can depend on first.

    A position of a causal model depends on its prefix only, one of another model on the whole sequence and its place.
    Nothing is returned if the rows belong neither to the inputs nor to their positions.
    """
    keys, n = batch.keys, len(batch)
    if reduce == "tokens" and n_rows > n and n_rows % n == 0:
        length = n_rows // n
        prefixes = keys.prefixes(length)
        return (*(() if prefixes is None else (prefixes.flatten(),)), keys.positions(length).flatten())
    if n_rows != n:
        return ()
    if isinstance(reduce, int) and keys.length is not None and -keys.length <= reduce < keys.length:
        prefixes = keys.prefixes(keys.length)
        return keys.whole if prefixes is None else prefixes[:, reduce], keys.whole
    return (keys.whole,)


def input_codes(z: Tensor, candidates: Sequence[Tensor]) -> Tensor | None:
    """Return codes (n,) of the inputs of finite rows (n, d); None if each row is another input, or nothing is known.

    The first candidate counts if rows with equal keys are equal. The last one counts without a test, since a network
    can be noisy.
    """
    for i, keys in enumerate(candidates):
        codes = label_codes(keys).to(z.device)
        if int(codes.max()) + 1 == len(codes):
            return None
        if i == len(candidates) - 1 or _determine(codes, z):
            return codes
    return None


def _determine(codes: Tensor, z: Tensor) -> bool:
    """Return whether rows of one code are equal up to rounding."""
    rows, sizes = z.double(), codes.bincount()
    means = rows.new_zeros(len(sizes), rows.shape[1]).index_add_(0, codes, rows) / sizes[:, None]
    within = (rows - means[codes]).square().mean()
    return bool(within <= _SAME * rounding_variance(z.dtype) * rows.square().mean())
