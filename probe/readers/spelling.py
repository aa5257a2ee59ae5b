"""Spelling of logged names: the split and the measure that a name contains, and which names resemble a curve."""

import re
from collections.abc import Iterable
from typing import NamedTuple

SPLITS = {
    "train": {"train", "training", "trn", "tr", "trainset", "learn"},
    "test": {
        *("val", "valid", "validation", "validating", "vld", "valset", "eval", "evaluation", "test", "testing"),
        *("testset", "tst", "te", "va", "dev", "holdout", "heldout"),
    },
}
MEASURES = {"loss": {"loss", "losses"}, "accuracy": {"acc", "accs", "accuracy", "accuracies"}}
# Words that do not name another measure.
_FILLERS = {
    *("epoch", "step", "iter", "avg", "mean", "average", "metrics", "metric", "set", "data", "history", "curve"),
    *("overall", "global", "running", "list", "value", "values", "pct", "percent", "percentage"),
}
_NUMBERED = {"valid", "validation", "eval", "test", "val"}  # sets of boosted trees: validation_0, valid_1
_ALL_SPLITS = set[str]().union(*SPLITS.values())
_ACCURACY_KINDS = {"topone", "categorical", "sparse", "binary", "token", "multiclass", "class", "classification"}
_LOSS_KINDS = {"total", "ce", "xent", "nll", "bce", "cross", "entropy", "crossentropy", "lm", "language", "batch"}
_LOSS_WORDS = {"xent", "nll", "bce", "crossentropy", "logloss", "mlogloss"}  # losses without the word "loss"
_SQUARES = {"mse", "rmse"}
_ERRORS = {"err", "error", "errors", "merror", "errs"}
_ERROR_KINDS = {"topone", "rate", "rates", "multi", "class", "classification"}
_TOP_ONE = re.compile(r"top[-_@ ]?1(?!\d)|(?<=acc)@?1(?!\d)|(?<=accuracy)@?1(?!\d)|prec@?1(?!\d)")
_JOINED = re.compile(r"(?<![a-z])(train|test|valid|val|eval|dev)(loss|losses|accs?|accuracy|err|error)(?![a-z])")
_NO_CURVES = {"scale", "scaler", "weight", "lr", "time", "lambda", "coef", "spike", "patience", "best", "min", "max"}

_UNIT = re.compile(
    r"\s*[(\[]\s*(?:(?:nats?|bits?)(?:\s?/\s?\w+| per \w+)?|k|thousands?|m|millions?|s|secs?|seconds?|min|minutes?|h|"
    r"hours?|%|percent|per cent|1|-|a\.?u\.?|steps?|epochs?|iterations?|batches|tokens|samples)\s*[)\]]\s*",
    re.IGNORECASE,
)
_PERCENT = {"pct", "percent", "percentage"}
_LONGEST = 200  # characters of a usual name


class Parts(NamedTuple):
    """The content of a name.

    Attributes
    ----------
    split : str
        "train", "test", or "" for none.
    measure : str
        "loss" or "accuracy".
    rank : int
        0: plain name; 1: a kind of loss or accuracy, or a numbered set; 2: an error rate, or a loss without this word;
        3: a squared error.
    """

    split: str
    measure: str
    rank: int


def without_unit(name: str) -> str:
    """Return a name without a unit in brackets at its end, as in "train loss (nats)"."""
    place = max(name.rfind("("), name.rfind("["))
    end = name[place:] if place > 0 and len(name) <= _LONGEST else ""
    return name[:place].rstrip() if end and _UNIT.fullmatch(end) else name


def has_percent(name: str) -> bool:
    """Return whether a name states percent as the unit, as in "val acc (%)" and "val_acc_pct"."""
    return len(name) <= _LONGEST and ("%" in name or bool(_PERCENT & {*re.split(r"[^a-z]+", name.lower())}))


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case; "topone" stands for top1, acc1 and their like."""
    if len(name) > _LONGEST:
        return [name]
    text = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", re.sub(r"([a-z])([A-Z])", r"\1_\2", without_unit(name))).lower()
    text = _JOINED.sub(r"\1 \2", _TOP_ONE.sub(" topone ", text.replace("'s", "")))
    return [word for word in re.split(r"[^a-z0-9]+", text) if word]


def parts_of(name: str) -> Parts | None:
    """Return the parts of a usual name; None for a name with any other word, or with a digit."""
    words = words_of(name)
    numbered = [i for i, word in enumerate(words) if i and word.isdigit() and words[i - 1] in _NUMBERED]
    words = [word for i, word in enumerate(words) if i not in numbered]
    if any(re.search(r"\d", word) for word in words):  # the accuracy at 5, the loss of stage 2
        return None
    splits = {split for word in words for split, known in SPLITS.items() if word in known}
    rest = {word for word in words if word not in _FILLERS | _ALL_SPLITS}
    found = _measure(rest)
    if found is None or len(splits) > 1:
        return None
    return Parts("".join(splits), found[0], max(found[1], int(bool(numbered))))


def _measure(words: set[str]) -> tuple[str, int] | None:
    """Return measure and rank of the words that remain without split and fillers."""
    for measure, kinds in (("loss", _LOSS_KINDS), ("accuracy", _ACCURACY_KINDS)):
        if named := words & MEASURES[measure]:
            rest = words - named
            return (measure, int(bool(rest))) if rest <= kinds else None
    if words & _ERRORS:
        kinds = words - _ERRORS
        is_rate = bool(kinds) or "merror" in words
        return ("accuracy", 2) if is_rate and (kinds <= _ERROR_KINDS or kinds == {"binary"}) else None
    if words in ({"topone"},):
        return "accuracy", 1
    if {"cross", "entropy"} <= words or words & _LOSS_WORDS:
        return ("loss", 2) if words <= _LOSS_KINDS | _LOSS_WORDS | {"binary", "multi"} else None
    return ("loss", 3) if len(words) == 1 and words <= _SQUARES else None


def is_error_rate(name: str) -> bool:
    """Return whether a name is that of an error rate, as ``test_error``, ``val_err`` or ``error_rate``."""
    return bool(_ERRORS & {*words_of(name)})


def like_accuracies(names: Iterable[str]) -> list[str]:
    """Return the names that resemble an accuracy or an error rate."""
    return [name for name in names if _resembles(name, MEASURES["accuracy"] | _ERRORS, r"(top|prec)[-_@ ]?\d")]


def like_losses(names: Iterable[str]) -> list[str]:
    """Return the names that resemble a loss."""
    known = MEASURES["loss"] | _LOSS_WORDS | _SQUARES | {"perplexity", "ppl", "bpb", "entropy"}
    return [name for name in names if _resembles(name, known, "loss")]


def _resembles(name: str, known: set[str], pattern: str) -> bool:
    words = {re.sub(r"\d", "", word) for word in words_of(name)}
    return (
        len(name) <= _LONGEST
        and not _NO_CURVES & words
        and (bool(known & words) or re.search(pattern, name.lower()) is not None)
    )
