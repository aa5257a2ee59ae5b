"""Lines about a training while it runs: what the network can do, and when that changes."""

from collections.abc import Callable

FITTED, HALF, GENERALISED = 0.95, 0.5, 0.99  # accuracies at which a line is printed
_TURNED = 0.9  # of its largest value: the test loss has left its top
_PREFIX = "probe/"


class Story:
    """Writer of observations that prints a line whenever the network has learnt something new.

    Parameters
    ----------
    show : callable
        Receives each line.
    label : str
        Begins each line, for example with the seed.
    """

    def __init__(self, show: Callable[[str], object], label: str = "") -> None:
        self._show, self._label = show, label
        self._done: set[Callable[[dict[str, float]], str]] = set()
        self._top = (0.0, 0)  # largest test loss (nats), and its step
        self._most_bits = 0.0

    def __call__(self, numbers: dict[str, float], step: int) -> None:
        """Take the numbers of an observation, by their names."""
        seen = dict.fromkeys(("train_accuracy", "test_accuracy", "test_loss"), float("nan"))
        seen |= {name.removeprefix(_PREFIX): value for name, value in numbers.items()}
        seen["information"] = next((v for k, v in reversed(seen.items()) if k.startswith("information_x/train/")), 0.0)
        self._top = max(self._top, (seen["test_loss"], step), key=lambda one: one[0])
        if self._fits in self._done:
            self._most_bits = max(self._most_bits, seen["information"])
        for event in (self._starts, self._fits, self._turns, self._halfway, self._generalises):
            if event not in self._done and (text := event(seen)):
                self._done.add(event)
                self._show(f"{self._label}step {step:>5,}: {text}")

    def _starts(self, seen: dict[str, float]) -> str:
        return f"{_right(seen)}: the network guesses"

    def _fits(self, seen: dict[str, float]) -> str:
        if seen["train_accuracy"] < FITTED:
            return ""
        return f"{_right(seen)}: the network has learnt the training pairs" + (
            " by heart" if seen["test_accuracy"] < HALF else ""
        )

    def _turns(self, seen: dict[str, float]) -> str:
        if self._fits not in self._done or seen["test_loss"] > _TURNED * self._top[0]:
            return ""
        return f"the test loss falls: {seen['test_loss']:.1f} nats now, {self._top[0]:.1f} at step {self._top[1]:,}"

    def _halfway(self, seen: dict[str, float]) -> str:
        return "" if seen["test_accuracy"] < HALF else _right(seen)

    def _generalises(self, seen: dict[str, float]) -> str:
        if seen["test_accuracy"] < GENERALISED:
            return ""
        fell = seen["information"] < _TURNED * self._most_bits
        bits = f"{self._most_bits:.1f} to {seen['information']:.1f} bits"
        compressed = f"; I(T+n;X) of its last block has fallen from {bits}" if fell else ""
        return f"{_right(seen)}: the network generalises{compressed}"


def _right(seen: dict[str, float]) -> str:
    """Return both accuracies in words."""
    train, test = (f"{100 * seen[f'{split}_accuracy']:.0f} %" for split in ("train", "test"))
    return f"{train} of the training answers are right, {test} of the test answers"
