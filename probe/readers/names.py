"""Names that loggers give to steps, losses and accuracies: which name has which role, and which names are near.

Logs, DataFrames, mappings and Datasets share this table. Every choice is recorded in a note. An unclear choice is an
error or a note.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from probe.readers.spelling import (
    SPLITS as SPLITS,
    is_error_rate as is_error_rate,
    like_accuracies as like_accuracies,
    like_losses,
    parts_of,
    without_unit,
)

ROLES = ("train_accuracy", "train_loss", "test_accuracy", "test_loss")
# In this order, because a log often has several of them, and an epoch is coarser than a step.
AXES = (
    "step", "steps", "global_step", "trainer/global_step", "train/global_step", "train_step", "training_step",
    "current_steps", "iteration", "iterations", "iter", "it", "iter_num", "step_num", "num_updates", "update",
    "updates", "_step", "batch", "time/batch", "round", "training_iteration", "total_timesteps",
    "time/total_timesteps", "epoch", "epochs", "_epoch", "ep", "epoch_num", "train/epoch", "time/epoch", "tokens",
    "n_tokens", "num_tokens", "tokens_seen", "total_tokens", "samples", "n_samples", "num_samples", "samples_seen",
    "examples", "examples_seen", "time", "elapsed", "elapsed_time", "wall_time", "seconds",
)  # fmt: skip
# Notes of a log without a column or a list of steps.
ROW_NUMBERS = "steps are row numbers from 0"
VALUE_NUMBERS = "there is no list of steps, and the values are numbered from 0"
_OURS = {f"probe/{role}": role for role in ROLES}  # what probes write to the loggers of a training


def role_of(name: str) -> str | None:
    """Return the role of a logged name in a usual spelling, such as ``train/loss``, ``val_acc`` or ``eval_top1``.

    A name without a split, such as ``loss``, belongs to the training split; :func:`guess_roles` looks at the other
    names too. An error rate (``val_error_rate``, ``top1_err``) has the role of an accuracy. The names under which
    probes write their own curves to a logger, such as ``probe/train_loss``, have roles too.

    Parameters
    ----------
    name
        The logged name.

    Returns
    -------
    str or None
        ``train_accuracy``, ``train_loss``, ``test_accuracy`` or ``test_loss``. None for a name with any other word
        (``train_aux_loss``, ``eval_loss_gap``) or a digit (``val_acc_top5``). ``test_error`` is None, because it may
        be a squared error.

    See Also
    --------
    guess_roles : Choose one name for each role.

    Examples
    --------
    >>> from probe.readers import role_of
    >>> role_of("val_acc"), role_of("loss"), role_of("eval_loss_gap")
    ('test_accuracy', 'train_loss', None)
    """
    parts = parts_of(name)
    return _OURS.get(name) if parts is None else f"{parts.split or 'train'}_{parts.measure}"


def guess_roles(
    lengths: Mapping[str, int], given: Mapping[str, str], where: str = "the log"
) -> tuple[dict[str, str], list[tuple[str, list[str]]]]:
    """Choose a logged name for each role.

    A name without a split belongs to the training split, with one exception. An accuracy without a split, where no
    loss is without one (``train_loss``, ``valid_loss``, ``accuracy``: fastai, Hugging Face), belongs to the test
    split. It belongs to the training split if the test accuracy has another name, and is unclear without a test loss.
    The curves of probes, such as ``probe/train_loss``, take the roles that no other name fits.

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
        Roles that several names fit. One name alone has an unknown split.

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
    >>> guess_roles({"train_loss": 9, "valid_loss": 9, "accuracy": 9}, {})[0]["test_accuracy"]
    'accuracy'
    """
    for role, name in given.items():
        if name not in lengths:
            raise ValueError(f"Expected a logged name for {role} in {where}, got {name!r}; {near_names(name, lengths)}")
    least = min(4, max(lengths.values(), default=4))
    curves = [name for name, n in lengths.items() if n >= least and name not in given.values()]
    parts = {name: found for name in curves if (found := parts_of(name))}
    bare = [name for name, (split, measure, _) in parts.items() if not split and measure == "accuracy"]
    losses = [*parts.values(), parts_of(given.get("train_loss", ""))]
    if any(found and not found.split and found.measure == "loss" for found in losses):
        bare = []  # losses without a split belong to training, and accuracies too
    chosen, unclear = dict(given), list[tuple[str, list[str]]]()
    for role in (role for role in ROLES if role not in given):
        _choose(role, [name for name in parts if role_of(name) == role and name not in bare], chosen, unclear)
    taken = {*chosen, *(role for role, _ in unclear)}
    if "test_accuracy" in taken or "test_loss" in taken:
        role = "train_accuracy" if "test_accuracy" in taken else "test_accuracy"
        _choose(role, [] if role in taken else bare, chosen, unclear)
    elif bare and "train_accuracy" not in taken:
        unclear.append(("train_accuracy", bare[:1]))
    taken = {*chosen, *(role for role, _ in unclear)}
    ours = {role: name for name, role in _OURS.items() if name in curves and role not in taken}
    return chosen | ours, unclear


def _choose(role: str, names: list[str], chosen: dict[str, str], unclear: list[tuple[str, list[str]]]) -> None:
    """Choose one of the names that fit a role."""
    best = [name for name in names if name == role] or _preferred(names)
    if len(best) > 1:
        unclear.append((role, best))
    elif best:
        chosen[role] = best[0]


def check_clear(unclear: Sequence[tuple[str, list[str]]], where: str) -> None:
    """Raise ValueError for the first role that is unclear."""
    for role, names in unclear:
        if len(names) == 1:
            raise ValueError(
                f"Expected a name with its split in {where}, got {names[0]!r}; pass it as train_accuracy= "
                "(--train-accuracy) or test_accuracy= (--test-accuracy)"
            )
        raise ValueError(
            f"Expected one name for {role} in {where}, got {' and '.join(names)}; choose one with {role}= "
            f"(--{role.replace('_', '-')})"
        )


def _preferred(names: list[str]) -> list[str]:
    """Prefer a usual name, the mean over an epoch to the value of a step, and a name with a split to one without."""
    ranks = {name: parts.rank for name in names if (parts := parts_of(name))}
    names = [name for name, rank in ranks.items() if rank == min(ranks.values())]
    epochs = [name for name in names if name.endswith("_epoch")]
    rest = [name for name in names if not (name.endswith("_step") and f"{name[:-5]}_epoch" in names)]
    with_split = [name for name in rest if any(word in name.lower() for word in ("train", "trn"))]
    return epochs if len(epochs) == 1 and len(rest) == 1 else with_split or rest


def untaken_note(names: Iterable[str], taken: Iterable[str]) -> str:
    """Return a note about the names that resemble an accuracy or a loss and have no role; "" if there are none.

    The value of a step beside the mean over its epoch, and the curves that probes wrote, are left out of the note.
    """
    taken = {*taken}
    twins = {f"{name.removesuffix('_epoch')}_step" for name in taken}
    rest = [name for name in names if name not in taken and name not in twins and name not in _OURS.values()]
    losses = like_losses(rest)
    accuracies = [name for name in like_accuracies(rest) if name not in losses]
    kinds = {("an accuracy", "--train-accuracy or --test-accuracy"): accuracies}
    kinds |= {("a loss", "--train-loss or --test-loss"): losses}
    found = [f"like {kind} ({option}): {_listed(some, 6)}" for (kind, option), some in kinds.items() if some]
    return f"names without a role, {'; '.join(found)}" if found else ""


def guess_axis(names: Iterable[str], given: str | None = None) -> str:
    """Return the column of steps.

    Raises
    ------
    ValueError
        If there is none of the usual names, or not the given one.
    """
    names = list(names)
    usual = {without_unit(name.strip()).lower().replace(" ", "_").replace("-", "_"): name for name in reversed(names)}
    if given is not None and given not in names:
        raise ValueError(f"Expected a column of the table as axis, got {given!r}; {near_names(given, names)}")
    found = given or next((usual[name] for name in AXES if name in usual), None)
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
