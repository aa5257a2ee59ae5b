"""Names that loggers give to steps, losses and accuracies: which name has which role, and which names are near.

Every choice is recorded in a note. An unclear choice is an error or a note.
"""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

ROLES = ("train_accuracy", "train_loss", "test_accuracy", "test_loss")
# In this order, because a log often has several of them, and an epoch is coarser than a step.
AXES = (
    "step", "steps", "global_step", "trainer/global_step", "train/global_step", "train_step", "iteration",
    "iterations", "iter", "it", "_step", "epoch", "epochs", "_epoch", "train/epoch",
)  # fmt: skip
SPLITS = {
    "train": {"train", "training", "trn", "tr"},
    "test": {"val", "valid", "validation", "eval", "evaluation", "test", "testing", "dev"},
}
_MEASURES = {"loss": {"loss"}, "accuracy": {"acc", "accuracy"}}
_FILLERS = {"epoch", "step", "avg", "mean", "metrics", "metric"}  # words that do not name another measure


def role_of(name: str) -> str | None:
    """Return the role of a logged name in a usual spelling, such as ``train/loss``, ``val_acc`` or ``eval_loss``.

    A name without a split, such as ``loss``, belongs to the training split.

    Parameters
    ----------
    name
        The logged name.

    Returns
    -------
    str or None
        ``train_accuracy``, ``train_loss``, ``test_accuracy`` or ``test_loss``. None for a name with any other word
        (``train_aux_loss``, ``eval_loss_gap``) or a digit.

    See Also
    --------
    guess_roles : Choose one name for each role.

    Examples
    --------
    >>> from probe.readers import role_of
    >>> role_of("val_acc"), role_of("loss"), role_of("eval_loss_gap")
    ('test_accuracy', 'train_loss', None)
    """
    words = [word for word in re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()) if word]
    splits = [split for word in words for split, known in SPLITS.items() if word in known]
    measures = [measure for word in words for measure, known in _MEASURES.items() if word in known]
    if len(measures) != 1 or len(splits) > 1 or len(splits) + 1 + sum(w in _FILLERS for w in words) != len(words):
        return None
    if re.search(r"\d", name):  # the accuracy at 5, the loss of stage 2
        return None
    return f"{(splits or ['train'])[0]}_{measures[0]}"


def guess_roles(
    lengths: Mapping[str, int], given: Mapping[str, str], where: str = "the log"
) -> tuple[dict[str, str], list[tuple[str, list[str]]]]:
    """Choose a logged name for each role.

    Parameters
    ----------
    lengths : mapping of str to int
        Number of observations of each logged name. A name with fewer than four is no curve (a final test, for example)
        if another name has more.
    given : mapping of str to str
        Names that the user gave, by role. They take precedence.
    where : str
        Description of the log in errors.

    Returns
    -------
    chosen : dict of str to str
        Role -> logged name.
    unclear : list of (role, names)
        Roles that several names fit.

    Raises
    ------
    ValueError
        If a given name was not logged. Near names are listed.

    See Also
    --------
    role_of : The role of one name.

    Examples
    --------
    >>> from probe.readers import guess_roles
    >>> guess_roles({"loss": 90, "val_loss": 9, "eval_loss": 9, "lr": 90}, {})
    ({'train_loss': 'loss'}, [('test_loss', ['val_loss', 'eval_loss'])])
    """
    for role, name in given.items():
        if name not in lengths:
            raise ValueError(f"Expected a logged name for {role} in {where}, got {name!r}; {near_names(name, lengths)}")
    chosen, unclear = dict(given), []
    least = min(4, max(lengths.values(), default=4))
    for role in ROLES:
        fits = [n for n in lengths if role_of(n) == role and n not in chosen.values() and lengths[n] >= least]
        best = [n for n in fits if n == role] or _preferred(fits)
        if role in chosen or not best:
            continue
        if len(best) > 1:
            unclear.append((role, best))
        else:
            chosen[role] = best[0]
    return chosen, unclear


def _preferred(names: list[str]) -> list[str]:
    """Prefer the mean over an epoch to the value of a step, and a name with a split to a name without."""
    epochs = [name for name in names if name.endswith("_epoch")]
    rest = [name for name in names if not (name.endswith("_step") and f"{name[:-5]}_epoch" in names)]
    with_split = [name for name in rest if any(word in name.lower() for word in ("train", "trn"))]
    return epochs if len(epochs) == 1 and len(rest) == 1 else with_split or rest


def guess_axis(names: Iterable[str], given: str | None = None) -> str:
    """Return the column of steps.

    Raises
    ------
    ValueError
        If there is none of the usual names, or not the given one.
    """
    names = list(names)
    by_lower = {name.lower(): name for name in reversed(names)}
    if given is not None and given not in names:
        raise ValueError(f"Expected a column of the table as axis, got {given!r}; {near_names(given, names)}")
    found = given or next((by_lower[name] for name in AXES if name in by_lower), None)
    if found is None:
        raise ValueError(
            f"Expected a column of steps named {', '.join(AXES[:3])}, ... or epoch, got {_listed(names)}; name yours "
            "with axis= (--axis), or number the rows with axis='row'"
        )
    return found


def near_names(wanted: str, names: Iterable[str]) -> str:
    """Return a part of a message that lists near names, or all names if none is near."""
    names = list(names)
    lower = {name.lower(): name for name in names}
    close = [lower[name] for name in get_close_matches(wanted.lower(), lower, n=5, cutoff=0.4)]
    return f"near names: {', '.join(close)}" if close else f"there are: {_listed(names)}"


def _listed(names: list[str], most: int = 12) -> str:
    return (", ".join(names[:most]) or "none") + (f" and {len(names) - most} more" if len(names) > most else "")
