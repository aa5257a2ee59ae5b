"""Measure many kinds of models: the results equal docs/compatibility.md, and the training stays unchanged."""

import contextlib
from collections import Counter, OrderedDict, deque
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES, Case, Counting, Stateful, language, row, sequences, splits, trained, tried, vectors
from torch import nn

from probe import MutualInfoProbe, PerformanceProbe
from probe.attach.side_effects import recording_side_effects, restoring
from probe.errors import ProbeWarning
from probe.testing import state_of

PAGE = (Path(__file__).parent.parent / "docs" / "compatibility.md").read_text()


@pytest.mark.filterwarnings("ignore")  # the row of a case contains its warnings
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] if c.needs else [], id=c.name) for c in CASES]
)
def test_measurements_equal_the_page_and_the_training_is_unchanged(case: Case) -> None:
    if case.needs:
        pytest.importorskip(case.needs)
    outcome = tried(case)
    without, _ = trained(case, None)
    different = [key for key in {**without, **outcome.state} if without.get(key) != outcome.state.get(key)]
    assert not different, f"observing changed the training: {', '.join(different)}"
    assert row(case, outcome, True) in PAGE, "the page is out of date: python docs/benchmarks/compatibility.py"


def test_every_case_has_a_row_and_every_row_a_case() -> None:
    table = PAGE.split("## Models")[1].split("\n## ")[0]
    names = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][1:]
    assert names == [case.name for case in CASES]


# -- models that write to themselves ---------------------------------------------------------------------------------


class Scribbler(nn.Module):
    """Model with attributes of many types, to which a test writes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(2))
        self.linear = nn.Linear(3, 3)
        self.number, self.kept, self.table = 1.5, [1, [2]], {"a": 1}
        self.queue, self.tally, self.names = deque([1], maxlen=3), Counter("ab"), {"x"}
        self.order, self.last, self.state = OrderedDict(a=1), torch.zeros(2), (torch.zeros(1), None)


WRITES = {
    "buffer in place": lambda m: m.count.add_(1),
    "buffer exchanged": lambda m: setattr(m, "count", m.count + 1),
    "buffer of another shape": lambda m: setattr(m, "count", torch.ones(5)),
    "number": lambda m: setattr(m, "number", m.number + 1),
    "list": lambda m: m.kept.append(3),
    "item of a list": lambda m: m.kept.__setitem__(0, 7),
    "mapping": lambda m: m.table.update(b=2),
    "queue": lambda m: m.queue.extend([2, 3, 4]),
    "counter": lambda m: m.tally.update("a"),
    "set": lambda m: m.names.add("y"),
    "order": lambda m: m.order.move_to_end("a") or m.order.update(b=1),
    "tensor in place": lambda m: m.last.fill_(torch.nan),
    "tensor exchanged": lambda m: setattr(m, "last", torch.ones(2)),
    "tuple": lambda m: setattr(m, "state", (torch.ones(1), None)),
    "new": lambda m: setattr(m, "fresh", torch.ones(1)),
    "in a part": lambda m: setattr(m.linear, "fresh", [1]),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_writes_of_a_pass_to_the_model_are_detected_and_restored(write: Any) -> None:
    model = Scribbler()
    objects, before = dict(vars(model)), state_of(model, None)
    with recording_side_effects(model) as places:
        write(model)
        assert state_of(model, None) != before
    assert state_of(model, None) == before
    assert len(places) == 1
    with contextlib.suppress(KeyError), restoring(places):
        write(model)
        raise KeyError  # an error makes no difference
    assert state_of(model, None) == before
    assert all(vars(model)[name] is value for name, value in objects.items()), "the objects are identical"


def test_a_model_that_writes_nothing_has_no_side_effects() -> None:
    model = Scribbler()
    model.register_buffer("empty", None)
    model.last = torch.full((2,), torch.nan)
    with recording_side_effects(model) as places:
        model.number = 3.0 / 2  # an equal number
    assert places == []


def test_restoring_does_not_disturb_a_later_backward_pass() -> None:
    model = Counting()
    loss = (model(vectors()[0]) * model.seen).sum()
    with recording_side_effects(model):
        model.eval()
        model.log.append(1)
    loss.backward()


def test_counters_count_the_passes_of_the_training_only() -> None:
    model, data = Counting(), splits(vectors())
    with pytest.warns(ProbeWarning, match=r"got writes to seen, calls, log;"):
        probe = PerformanceProbe().attach(model, data)
    for step in range(3):
        probe.observe(step)
        model(data["train"][0])
    assert (model.calls, model.seen.item(), model.log) == (3, 48, [16, 16, 16])


def test_a_carried_state_survives_an_observation() -> None:
    model, data = Stateful(), splits(sequences())
    model(data["train"][0][:5])
    carried = model.state[0]
    with pytest.warns(ProbeWarning, match="writes to state"):
        PerformanceProbe().attach(model, data).observe(0)
    assert model.state[0] is carried


# -- sequences -------------------------------------------------------------------------------------------------------


def test_padding_at_the_end_is_a_warning_if_layers_are_read_there() -> None:
    model, data = language()
    inputs, targets = data
    for probe in (MutualInfoProbe(reduce=0), MutualInfoProbe(reduce="tokens"), PerformanceProbe()):
        probe.attach(model, data)
    with pytest.warns(ProbeWarning, match=r"got padding in 12 of 24 inputs of split 'all'; pad on the left"):
        MutualInfoProbe(reduce="last").attach(model, data)
    left = {key: value.flip(1) for key, value in inputs.items()}
    MutualInfoProbe().attach(model, (left, targets[:, 0]))


def test_positions_without_a_target_are_left_out() -> None:
    model, (inputs, targets) = language()
    some = MutualInfoProbe(reduce="tokens", layers="head").fit(model, (inputs, targets)).series_
    others = torch.where(targets == -100, torch.randint(11, targets.shape), inputs["input_ids"])
    # the attention mask hides masked positions from every position with a target
    changed = {**inputs, "input_ids": torch.where(inputs["attention_mask"] == 1, inputs["input_ids"], others)}
    assert not torch.equal(changed["input_ids"], inputs["input_ids"])
    again = MutualInfoProbe(reduce="tokens", layers="head").fit(model, (changed, targets)).series_
    assert some["information_y"].notnull().all()
    torch.testing.assert_close(some["information_x"].values, again["information_x"].values)
