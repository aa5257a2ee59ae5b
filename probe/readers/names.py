"""What loggers call steps, losses and accuracies: which name plays which role, and which names are near.

Nothing is guessed in silence: every choice comes with a sentence, and what is unclear is an error or a sentence too.
"""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

ROLES = ("train_accuracy", "train_loss", "test_accuracy", "test_loss")
# In this order: a log has often several of them, and an epoch is coarser than a step.
AXES = (
    "step", "steps", "global_step", "trainer/global_step", "train/global_step", "train_step", "iteration",
    "iterations", "iter", "it", "_step", "epoch", "epochs", "_epoch", "train/epoch",
)  # fmt: skip
_SPLITS = {
    "train": {"train", "training", "trn", "tr"},
    "test": {"val", "valid", "validation", "eval", "evaluation", "test", "testing", "dev"},
}
_MEASURES = {"loss": {"loss"}, "accuracy": {"acc", "accuracy"}}
_FILLERS = {"epoch", "step", "avg", "mean", "metrics", "metric"}  # said beside the role, and no other measure


def role_of(name: str) -> str | None:
    """The role that a usual spelling plays: ``train/loss``, ``val_acc``, ``eval_loss``; ``loss`` alone is training's.

    A name with any other word (``train_aux_loss``, ``eval_loss_gap``) plays none.
    """
    words = [word for word in re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()) if word]
    splits = [split for word in words for split, known in _SPLITS.items() if word in known]
    measures = [measure for word in words for measure, known in _MEASURES.items() if word in known]
    if len(measures) != 1 or len(splits) > 1 or len(splits) + 1 + sum(w in _FILLERS for w in words) != len(words):
        return None
    if re.search(r"\d", name):  # the accuracy at 5, the loss of stage 2
        return None
    return f"{(splits or ['train'])[0]}_{measures[0]}"


def guess_roles(
    lengths: Mapping[str, int], given: Mapping[str, str], where: str = "the log"
) -> tuple[dict[str, str], list[tuple[str, list[str]]]]:
    """Which logged name plays which role.

    Parameters
    ----------
    lengths : mapping of str to int
        Observations of each logged name; one with fewer than four is no curve (a final test, say), if others have.
    given : mapping of str to str
        Names that the user gave, by role; they come first.
    where : str
        What the log is called in errors.

    Returns
    -------
    chosen : dict of str to str
        Role -> logged name.
    unclear : list of (role, names)
        Roles that several names could play.

    Raises
    ------
    ValueError
        A given name was not logged: near names are listed.
    """
    for role, name in given.items():
        if name not in lengths:
            raise ValueError(f"no {name!r} for {role} in {where}; {near(name, lengths)}")
    chosen, unclear = dict(given), []
    least = min(4, max(lengths.values(), default=4))
    for role in ROLES:
        fits = [n for n in lengths if role_of(n) == role and n not in chosen.values() and lengths[n] >= least]
        best = [n for n in fits if n == role] or _coarse(fits)
        if role in chosen or not best:
            continue
        if len(best) > 1:
            unclear.append((role, best))
        else:
            chosen[role] = best[0]
    return chosen, unclear


def _coarse(names: list[str]) -> list[str]:
    """Of one value logged by step and by epoch, the mean over the epoch; of a split said and not said, the said."""
    epochs = [name for name in names if name.endswith("_epoch")]
    rest = [name for name in names if not (name.endswith("_step") and f"{name[:-5]}_epoch" in names)]
    said = [name for name in rest if any(word in name.lower() for word in ("train", "trn"))]
    return epochs if len(epochs) == 1 and len(rest) == 1 else said or rest


def guess_axis(names: Iterable[str], given: str | None = None) -> str:
    """The column that the curves run over.

    Raises
    ------
    ValueError
        There is none of the usual names, or not the given one.
    """
    names = list(names)
    by_lower = {name.lower(): name for name in reversed(names)}
    if given is not None and given not in names:
        raise ValueError(f"no column {given!r} for the axis; {near(given, names)}")
    found = given or next((by_lower[name] for name in AXES if name in by_lower), None)
    if found is None:
        raise ValueError(
            f"no column of steps among {_listed(names)}: none is called {', '.join(AXES[:3])}, ... or epoch; name "
            "yours with axis= (--axis), or axis='row' to count the rows"
        )
    return found


def near(wanted: str, names: Iterable[str]) -> str:
    """Which names are near, else which there are."""
    names = list(names)
    lower = {name.lower(): name for name in names}
    close = [lower[name] for name in get_close_matches(wanted.lower(), lower, n=5, cutoff=0.4)]
    return f"near names: {', '.join(close)}" if close else f"there are: {_listed(names)}"


def _listed(names: list[str], most: int = 12) -> str:
    return (", ".join(names[:most]) or "none") + (f" and {len(names) - most} more" if len(names) > most else "")
