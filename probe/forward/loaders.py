"""Fixed rows of a data loader, as (inputs, targets) for ``attach``."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

from torch import Tensor

from probe.errors import warn_user
from probe.forward.batching import seeded
from probe.forward.data import Batch
from probe.forward.loader_batches import chosen_batches, holds_tensors, kept_generators, normalised
from probe.forward.padding import joined

TARGETS = ("labels", "label", "label_ids", "targets", "target", "y")
_AUTO = "auto"


def from_loader(
    loader: Any,
    n: int,
    *,
    inputs: str | int | Sequence[str | int] | None = None,
    targets: str | int | None = _AUTO,
    random_state: int | None = None,
    collate: Callable[[list[Any]], Any] | None = None,
    pad: Mapping[str | int, float] | None = None,
) -> tuple[Any, Tensor | None]:
    """Return n fixed rows of a data loader or a dataset, as the pair (inputs, targets) that ``attach`` takes.

    Parameters
    ----------
    loader : DataLoader, Dataset, or iterable of batches
        A ``DataLoader`` of a dataset with numbered rows is not iterated: its dataset gives the rows, and its
        ``collate_fn`` joins them, so all have the same padding. A dataset is anything with ``len()`` and ``[i]`` that
        is no list or tuple, such as one of Hugging Face. Any other iterable yields batches, and may have no length.
    n : int
        Number of rows. If there are fewer, all are returned with a warning.
    inputs : str, int, or list of them, optional
        What the model takes of a batch: names in a mapping, or positions in a tuple. One name or position gives
        ``model(x)``, a list gives ``model(**x)`` or ``model(*x)``. Default: every tensor except the targets.
    targets : str, int or None
        Name or position of the targets. ``"auto"``: the one of ``labels``, ``label``, ``label_ids``, ``targets``,
        ``target`` and ``y`` in a mapping, and the second of two items of a tuple. None: the batch has none, or they
        stay among the inputs, because the model derives further inputs from its ``labels``, as T5 does.
    random_state : int, optional
        None: the first n rows, whatever the order of the loader. Otherwise the seed of a random choice, and of what
        dataset and ``collate_fn`` draw.
    collate : callable, optional
        Function that joins a list of rows of a dataset, such as ``DataCollatorWithPadding(tokenizer)``. It receives the
        columns ``inputs`` and ``targets`` if ``inputs`` is a list of names. Default: ``default_collate`` of PyTorch.
        With it, an iterable yields rows in place of batches.
    pad : mapping, optional
        Value at padding by name or position, for iterables whose batches have different lengths. Default: 0 for
        ``attention_mask``, -100 for integer targets, and the value at positions that ``attention_mask`` leaves out.

    Returns
    -------
    inputs : Tensor, tuple or dict
    targets : Tensor or None

    Raises
    ------
    TypeError
        If the loader is neither a dataset nor an iterable of batches of tensors.
    ValueError
        If ``n`` is less than 2, no row exists, the targets are ambiguous, a name does not exist, batches have other
        lengths without a known value for padding, tensors of a batch have other numbers of rows, or rows of an
        iterable are to be chosen at random.

    Warns
    -----
    probe.errors.ProbeWarning
        If there are fewer than n rows, an iterator loses the batches that were read, or entries of a batch that are no
        tensors are left out.

    See Also
    --------
    probe.shared : Mark an argument that all inputs share.
    probe.ProbeSet.attach : Takes the pair, or ``{split: pair}``.

    Notes
    -----
    Global random states and the generator of the loader stay unchanged. A sampler that chooses rows, such as
    ``SubsetRandomSampler`` or ``DistributedSampler``, restricts the rows to its own. Labels of a causal language model
    are returned as they are; ``attach(targets_shift=)`` moves them, and recognises most of them.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> from probe import from_loader
    >>> loader = DataLoader(TensorDataset(torch.arange(10.0).view(10, 1), torch.arange(10)), 2, shuffle=True)
    >>> x, y = from_loader(loader, 4)
    >>> x.shape, y.tolist()
    (torch.Size([4, 1]), [0, 1, 2, 3])
    """
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 2:
        raise ValueError(f"Expected at least 2 rows as n, got {n!r}; pass more, since measures compare inputs")
    with kept_generators(loader), seeded(0 if random_state is None else random_state):
        batches = chosen_batches(loader, n, random_state, collate, _columns(inputs, targets))
    if not batches:
        raise ValueError(f"Expected rows in the {type(loader).__name__}, got none; check the dataset or its filter")
    pairs = [_split(normalised(batch), inputs, targets) for batch in batches]
    tokenizer = getattr(getattr(loader, "collate_fn", None), "tokenizer", None)
    found, found_targets = joined(pairs, n, pad or {}, tokenizer)
    rows_found = len(Batch(found, None))
    if rows_found < n:
        warn_user(f"Expected {n} rows, got {rows_found}; all of them are used. Pass n={rows_found} to confirm")
    return found, found_targets


def _columns(inputs: Any, targets: Any) -> set[str] | None:
    """Return the names that a collator receives. None: all."""
    if inputs is None or isinstance(inputs, (str, int)):
        return None
    return {*inputs, *(TARGETS if targets == _AUTO else [] if targets is None else [targets])}


def _split(batch: Any, inputs: Any, targets: Any) -> tuple[Any, Any]:
    """Return inputs and targets of one batch."""
    if isinstance(batch, Mapping):
        return _split_mapping(batch, inputs, targets)
    if not isinstance(batch, tuple):
        return batch, None
    items = batch
    if targets == _AUTO and inputs is None and len(items) > 2:
        raise ValueError(
            f"Expected batches (inputs, targets), got {len(items)} items; pass their positions, such as targets=1 and "
            "inputs=0, or inputs=[0, 2] for several arguments"
        )
    for name in [targets, *(inputs if isinstance(inputs, (list, tuple)) else [inputs])]:
        if name not in (None, _AUTO) and not (isinstance(name, int) and -len(items) <= name < len(items)):
            raise ValueError(f"Expected positions in a batch of {len(items)} items, got {name!r}; pass numbers")
    place = (1 if len(items) == 2 and inputs in (None, 0) else None) if targets == _AUTO else targets
    own = [i for i in range(len(items)) if place is None or i != place % len(items)] if inputs is None else inputs
    single = own if isinstance(own, int) else own[0] if inputs is None and len(own) == 1 else None
    chosen = items[single] if single is not None else tuple(items[i] for i in own)
    return chosen, None if place is None else items[place]


def _split_mapping(batch: Mapping[Any, Any], inputs: Any, targets: Any) -> tuple[Any, Any]:
    name = targets
    if targets == _AUTO:
        there = [key for key in TARGETS if key in batch]
        if len(there) > 1:
            raise ValueError(
                f"Expected one name of targets in a batch, got {', '.join(there)}; pass targets= and, if the others "
                "are no arguments of the model, inputs=[names]"
            )
        name = there[0] if there else None
    own = [key for key in batch if key != name] if inputs is None else inputs
    for key in [*([] if name is None else [name]), *([own] if isinstance(own, str) else own)]:
        if key not in batch:
            raise ValueError(f"Expected {key!r} in a batch, got {', '.join(map(str, batch))}; correct the name")
    found = None if name is None else batch[name]
    if isinstance(own, str):
        return batch[own], found
    if other := [str(key) for key in own if not holds_tensors(batch[key])] if inputs is None else []:
        warn_user(
            f"Expected tensors in a batch, got other objects as {', '.join(other)}, which are left out; name the "
            "arguments of the model with inputs=[...]"
        )
    return {key: batch[key] for key in own if str(key) not in other}, found
