"""How far training is: a bar, or a plain line now and then."""

import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

_TELL = 15.0  # seconds between lines


class Progress:
    """What a job shows of its seeds.

    Parameters
    ----------
    name : str
        Of the configuration.
    total : int
        Steps of a run.
    bar : bool
        A bar, which wants a terminal of its own, else lines.
    """

    def __init__(self, name: str, total: int, *, bar: bool) -> None:
        self._name, self._total, self._wanted = name, total, bar
        self._bar: Any = None
        self._told: tuple[float, int] | None = None  # when, and at which step

    def show(self, step: int, seeds: Sequence[int], accuracies: Sequence[float]) -> None:
        """These seeds have come to this step, with these test accuracies."""
        accuracy = f"test accuracy {sum(accuracies) / len(accuracies):.3f}" if accuracies else ""
        if self._wanted:
            self._draw(step, seeds, accuracy)
            return
        now = time.monotonic()
        when, since = self._told or (now, step)
        if self._told is None or step < since:
            self._told = now, step
        elif now - when >= _TELL:
            speed = (step - since) / (now - when)
            left = _clock((self._total - step) / speed) if speed else "unknown"
            count = f"step {step:,}/{self._total:,}"
            self.say(f"{named(seeds)}: {count}, {speed:.3g} steps/s, ETA {left}, {accuracy}")
            self._told = now, step

    def _draw(self, step: int, seeds: Sequence[int], accuracy: str) -> None:
        if self._bar is None:
            self._bar = tqdm(total=self._total, initial=step, unit="step", desc=f"{self._name} {named(seeds)}")
        self._bar.set_postfix_str(accuracy, refresh=False)
        self._bar.update(step - self._bar.n)

    def say(self, line: str) -> None:
        """Print a line at once: several processes may share the output."""
        if self._bar is not None:
            self._bar.clear()
        print(f"{self._name} {line}", flush=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def named(seeds: Sequence[int]) -> str:
    """Seeds in words."""
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
