"""Tests of ways to train: steps are counted as docs/compatibility.md states, and the training is unchanged."""

import gc
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from compatibility import TRAINING
from setups import Setup, X, Y, adam, net, row, trained, update
from torch import nn

from probe import MutualInfoProbe, PerformanceProbe, every
from probe.errors import ProbeWarning
from probe.testing import state_of

PAGE = (Path(__file__).parent.parent / "docs" / "compatibility.md").read_text()
DATA = {"train": (X, Y)}
EVERY = [
    pytest.param(setup, marks=[pytest.mark.slow] if setup.slow or setup.needs or i % 2 else [], id=setup.name)
    for group in TRAINING.values()
    for i, setup in enumerate(group)  # .ci/full runs each second one of a group
]


@pytest.mark.filterwarnings("ignore")  # what PyTorch says of some of these ways itself
@pytest.mark.parametrize("setup", EVERY)
def test_training_is_observed_as_the_page_says_and_untouched(setup: Setup) -> None:
    if setup.needs:
        pytest.importorskip(setup.needs)
    (without, _, said), (states, steps, more) = trained(setup, on=False), trained(setup, on=True)
    for one, other in zip(without, states, strict=True):
        different = [key for key in {**one, **other} if one.get(key) != other.get(key)]
        assert not different, f"observing changed the training: {', '.join(different)}"
    assert tuple(map(tuple, steps)) == setup.steps
    new = [text for text in more if text not in said]
    assert len(new) == len(setup.messages), "the probes cause no other warning"
    assert all(text.startswith(start) for text, start in zip(new, setup.messages, strict=True))
    assert row(setup, True) in PAGE, "the page is out of date: python docs/benchmarks/compatibility.py"


def test_every_way_has_a_row_and_every_row_a_way() -> None:
    sections = PAGE.split("## Training")[1].split("\n## ")[0].split("\n### ")[1:]
    for (group, ways), section in zip(TRAINING.items(), sections, strict=True):
        assert section.startswith(group)
        names = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")][1:]
        assert names == [setup.name for setup in ways]


# -- attachments that are refused -------------------------------------------------------------------------------------


def refused(model: Any, **options: Any) -> str:
    with pytest.raises((TypeError, ValueError)) as caught:
        PerformanceProbe().attach(model, DATA, **options)
    return str(caught.value)


def test_a_lazy_model_that_is_not_initialised_is_refused() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.Linear(4, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lazy modules are a feature under development
        assert "0.weight, 0.bias, 1.weight" in (message := refused(model))
        assert "Expected initialised parameters" in message
        model(X)
    PerformanceProbe().attach(model, DATA).observe(0)


def test_a_model_without_numbers_is_refused() -> None:
    assert "on the meta device" in refused(net().to("meta"))


@pytest.mark.parametrize("model", [None, lambda x: x, "net", net])
def test_what_is_no_module_is_refused(model: Any) -> None:
    assert "Expected model to be a torch.nn.Module" in refused(model)


def test_several_optimisers_at_once_are_refused() -> None:
    model = net()
    assert "give the one that steps last" in refused(model, optimizer=[adam(model), adam(model)])


def test_an_average_is_not_counted_by_the_optimiser_of_the_model() -> None:
    model = net()
    average = torch.optim.swa_utils.AveragedModel(model)
    assert "A copy that is not trained itself" in refused(average, optimizer=adam(model))


def test_a_step_recorded_in_a_cuda_graph_warns_and_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replays of a graph call no hooks. The test sets the state of the stream, so it needs no GPU."""
    model = net()
    optimizer = adam(model)
    probe = PerformanceProbe().attach(model, DATA, optimizer=optimizer, schedule=every(1))
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_initialized", lambda: True)
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        with pytest.warns(ProbeWarning, match="recorded in a CUDA graph"):
            update(model, optimizer)
    update(model, optimizer)
    assert probe.detach().series_["step"].values.tolist() == [0, 1]


def test_probes_that_are_collected_after_their_folder_was_removed_warn(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    PerformanceProbe().attach(net(), DATA, path=folder / "run.nc").observe(0)  # in a circle of references
    shutil.rmtree(folder)
    with pytest.warns(ProbeWarning, match="the probes no longer exist, so observations that its journal lacks are"):
        gc.collect()


def test_observing_makes_no_collective(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wrapper makes all collectives, and an observation does not call the wrapper."""
    from torch import distributed as dist

    def called(*_: Any) -> None:
        raise AssertionError("the wrapper was called")

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        used = nn.parallel.DistributedDataParallel(net())
        monkeypatch.setattr(nn.parallel.DistributedDataParallel, "forward", called)
        with pytest.raises(AssertionError, match="was called"):
            used(X)
        MutualInfoProbe().attach(used, DATA).observe(0).detach()
    finally:
        dist.destroy_process_group()


def test_the_state_that_is_compared_sees_each_kind_of_change() -> None:
    model = net()
    before = state_of(model, None)
    model.counter = [1]  # type: ignore[assignment]
    after = state_of(model, None)
    assert [key for key in after if before.get(key) != after[key]] == ["attributes of the model"]
    model.counter.append(2)  # type: ignore[union-attr, operator]
    assert state_of(model, None) != after


@pytest.mark.parametrize("wanted", [(torch.float64, "cpu"), (torch.float32, "meta"), (torch.bfloat16, "meta")], ids=str)
def test_a_model_sees_the_defaults_of_its_user_and_a_probe_those_of_pytorch(wanted: tuple[torch.dtype, str]) -> None:
    seen: dict[str, list[Any]] = {"model": [], "probe": []}

    def look(who: str) -> None:
        seen[who].append((torch.get_default_dtype(), torch.get_default_device().type))

    class Looks(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            look("model")
            return super().forward(x)

    class LooksToo(PerformanceProbe):
        def taps(self, snapshot: Any) -> Any:
            look("probe")
            return super().taps(snapshot)

        def measure(self, snapshot: Any) -> Any:
            look("probe")
            return super().measure(snapshot)

    model = Looks(6, 3)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(wanted[0])
        with torch.device(wanted[1]):
            LooksToo().attach(model, DATA).observe(0)
            assert torch.get_default_device().type == wanted[1]
    finally:
        torch.set_default_dtype(before)
    assert set(seen["model"]) == {wanted}
    assert set(seen["probe"]) == {(torch.float32, "cpu")}
