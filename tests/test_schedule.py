import math
import pickle
from typing import Any

import numpy as np
import pytest

from probe import at, every, log_spaced
from probe.schedule import Schedule, count, following


def steps(schedule: Schedule, stop: int) -> list[int]:
    return [step for step in range(stop + 1) if schedule(step)]


def test_every() -> None:
    assert steps(every(3), 10) == [0, 3, 6, 9]


def test_at() -> None:
    assert steps(at(np.array([7, 2, 2])), 10) == [2, 7]


@pytest.mark.parametrize("per_decade", [1, 5, 12, 50])
def test_log_spaced_without_end_holds_the_rounded_powers(per_decade: int) -> None:
    powers = {round(float(value)) for value in np.logspace(0, 5, 5 * per_decade + 1)}
    assert steps(log_spaced(per_decade=per_decade), 10**5) == sorted(powers | {0})


def test_log_spaced_with_an_end_holds_both_ends_and_even_ratios() -> None:
    found = steps(log_spaced(13, 4096), 5000)
    assert found == [0, *(2**k for k in range(13))]


def test_log_spaced_counts_small_steps_that_round_together_once() -> None:
    found = steps(log_spaced(50, 100), 200)
    assert found[:4] == [0, 1, 2, 3]
    assert found[-1] == 100
    assert len(found) <= 51


@pytest.mark.parametrize(
    "schedule",
    [every(1), every(7), at([0, 3, 5, 99]), log_spaced(), log_spaced(per_decade=1), lambda step: step % 3 == 1],
)
def test_due_steps_are_counted_as_asking_for_each_would(schedule: Schedule) -> None:
    for start, stop in [(0, 0), (0, 1), (0, 2), (1, 2), (0, 1000), (5, 11), (99, 101), (101, 1001), (20, 10)]:
        assert count(schedule, start, stop) == sum(schedule(step) for step in range(start, stop)), (start, stop)


@pytest.mark.parametrize("schedule", [every(4), at([1, 5]), log_spaced(), log_spaced(5, 50)])
def test_schedules_are_picklable(schedule: Schedule) -> None:
    assert steps(pickle.loads(pickle.dumps(schedule)), 60) == steps(schedule, 60)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: every(0), r"n >= 1 in every\(n\), got 0"),
        (lambda: log_spaced(10), "n and stop together, got n=10, stop=None"),
        (lambda: log_spaced(stop=10), "n and stop together"),
        (lambda: log_spaced(1, 10), "n >= 2 and stop >= 2"),
        (lambda: log_spaced(per_decade=0), "per_decade >= 1"),
    ],
)
def test_impossible_schedules_are_errors_with_advice(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "schedule",
    [every(1), every(7), log_spaced(), log_spaced(per_decade=3), log_spaced(8, 900), at([]), at([5, 6, 700])],
    ids=repr,
)
def test_the_next_due_step_is_that_of_the_calls(schedule: Schedule) -> None:
    steps = [step for step in range(3_000) if schedule(step)]
    for step in range(2_000):
        later = [one for one in steps if one > step][:1]
        assert following(schedule, step) == (later[0] if later else math.inf)


def test_the_next_step_can_be_due_if_the_schedule_is_any_function() -> None:
    assert following(lambda step: step == 50, 7) == 8
