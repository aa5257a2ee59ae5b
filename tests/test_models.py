"""Measure many kinds of models: the results equal docs/compatibility.md, and the training stays unchanged."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import Case, call_model, language, row, trained, tried, vectors
from compatibility import MODELS, REFUSED, Refused, refused, refused_row
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from probe import LMNProbe, MutualInfoProbe, PerformanceProbe, Snapshot
from probe.errors import ProbeWarning
from probe.forward import read_data, trace

PAGE = (Path(__file__).parent.parent / "docs" / "compatibility.md").read_text()
EVERY = [
    pytest.param(case, marks=[pytest.mark.slow] if case.slow or case.needs else [], id=case.name)
    for group in MODELS.values()
    for case in group
]
# Each second case of a group: the tests below of captured values have all of them.
HALF = [
    pytest.param(case, marks=[pytest.mark.slow] if case.slow or case.needs or i % 2 else [], id=case.name)
    for group in MODELS.values()
    for i, case in enumerate(group)
]


@pytest.mark.filterwarnings("ignore")  # the row of a case contains its warnings
@pytest.mark.parametrize("case", HALF)
def test_measurements_equal_the_page_and_the_training_is_unchanged(case: Case) -> None:
    if case.needs:
        pytest.importorskip(case.needs)
    outcome = tried(case)
    without, _ = trained(case, None)
    different = [key for key in {**without, **outcome.state} if without.get(key) != outcome.state.get(key)]
    assert not different, f"observing changed the training: {', '.join(different)}"
    assert row(case, outcome) in PAGE, "the page is out of date: python docs/benchmarks/compatibility.py"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", [case for case in EVERY if case.id not in ("complex numbers", "torch.export")])
def test_captured_values_equal_those_of_plain_hooks(case: Case) -> None:
    """Each call of each module, to the last bit. Complex numbers need a reduction; torch.export calls no modules."""
    if case.needs:
        pytest.importorskip(case.needs)
    torch.manual_seed(1)
    model, (inputs, _) = case.make()
    data, fast = read_data((inputs, None)), torch.backends.mha.get_fastpath_enabled()
    recorded = trace(model.eval(), data["all"].take(torch.arange(2), torch.device("cpu"))[0])
    snapshot = Snapshot(model, 0, data, recorded)
    sites = [site for site in recorded.order if ":" not in site and site[0] != "<" and recorded.has_rows(site)]
    sites = [site for site in sites if ".experts." not in site]  # their rows are those of another batch
    found = snapshot.outputs("all", sites, reduce="none")

    torch.manual_seed(1)
    model, (inputs, _) = case.make()
    expected = hooked(model.eval())
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.set_grad_enabled("force field" in case.name):
            call_model(model, inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    wrong = [site for site, value in found.items() if not same(value, expected[site].to(value.dtype))]
    assert not wrong, f"other values of {wrong}"


def same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def hooked(model: nn.Module) -> dict[str, Tensor]:
    """Return a mapping that plain hooks fill with the outputs of modules, by site."""
    outputs: dict[str, Tensor] = {}
    counts = Counter[str]()

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            counts[name] += 1
            numbered = any(child.isdigit() for child, _ in module.named_children())
            suffix = "" if counts[name] == 1 else f"{'#' if numbered else '.'}{counts[name]}"
            outputs[name + suffix] = first_tensor(output)

        return hook

    for name, module in model.named_modules():
        module.register_forward_hook(keep(name))
    return outputs


def first_tensor(output: Any) -> Tensor:
    """Return the tensor that a probe measures of an output."""
    while not isinstance(output, Tensor):
        if isinstance(output, PackedSequence):
            padded, lengths = pad_packed_sequence(output, batch_first=True, padding_value=torch.nan)
            return torch.stack([row.roll(len(row) - n, 0) for row, n in zip(padded, lengths.tolist(), strict=True)])
        if isinstance(output, dict):
            output = output.get("logits", next(iter(output.values())))
        else:
            output = output.logits if hasattr(output, "logits") else output[0]
    if torch._C._functorch.is_batchedtensor(output):
        output = torch._C._functorch.get_unwrapped(output)
    return output.detach().clone()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused_models_are_as_they_were(case: Refused) -> None:
    message, untouched = refused(case)
    assert case.advice in message
    assert untouched
    assert refused_row(case) in PAGE


def test_every_case_has_a_row_and_every_row_a_case() -> None:
    sections = PAGE.split("## Models")[1].split("\n## ")[0].split("\n### ")[1:]
    for (group, cases), section in zip({**MODELS, "Refused": REFUSED}.items(), sections, strict=True):
        assert section.startswith(group)
        names = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")][1:]
        assert names == [case.name for case in cases]


# -- sequences -------------------------------------------------------------------------------------------------------


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


# -- outputs whose shape depends on the batch ------------------------------------------------------------------------


class Contrast(nn.Module):
    """Scores of all pairs in a batch, as CLIP returns them."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Sequential(nn.Linear(6, 8), nn.ReLU()), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        z = self.head(self.hidden(x))
        return z @ z.T


@pytest.mark.filterwarnings("ignore:Expected the output of an input not to depend")
def test_scores_of_pairs_are_measured_in_one_batch_or_refused() -> None:
    model, (x, _) = Contrast(), vectors()
    y = torch.arange(len(x))
    with pytest.warns(ProbeWarning, match=r"in a batch of 3; pass output=, a part of what the model returns"):
        found = PerformanceProbe().fit(model, (x, y)).series_["all_loss"].item()
    assert found == pytest.approx(nn.functional.cross_entropy(model(x), y).item(), rel=1e-5)
    with pytest.raises(ValueError, match=r"one shape .* got \(16,\) and \(8,\); attach with batch_size=24"):
        PerformanceProbe().attach(model, (x, y), batch_size=16, on_error="raise").observe(0)
    with pytest.raises(ValueError, match="got 24 numbers with 24 inputs and 23 with 23"):
        LMNProbe().fit(model, (x, y))


def test_a_list_of_mappings_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Could not infer dtype of dict.*; pass tensors, .* or one mapping of tensors"):
        MutualInfoProbe().fit(Contrast(), ([{"x": row} for row in vectors()[0]], None))
