"""The contract of a probe, as checks that anybody can run on a probe of their own.

>>> from probe import MutualInfoProbe
>>> from probe.testing import check_probe
>>> check_probe(MutualInfoProbe())

A probe for certain models is checked on one of those, made by a function like :func:`example`:

>>> from probe import FourierProbe
>>> from probe.testing import token_example
>>> check_probe(FourierProbe(), token_example)

Each check is also a function of its own, ``check_*(probe)``, listed in :data:`CHECKS`; each raises AssertionError with
what was broken.
"""

import copy
import pickle
import random
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from probe.base import Observer
from probe.recording.files import read_netcdf, save
from probe.recording.reading import load
from probe.schedule import every
from probe.series import validate

Example = Callable[..., tuple[Any, dict[str, tuple[Tensor, Tensor]]]]
_REGISTRIES = frozenset(vars(nn.Module()))
_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)


class ExampleNet(nn.Module):
    """A small network with what training can lose: batch norm, dropout, a frozen part in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.first: nn.Module = nn.Linear(6, 12)
        self.norm = nn.BatchNorm1d(12)
        self.frozen = nn.Sequential(nn.Linear(12, 12), nn.Dropout(0.5)).eval()
        self.drop = nn.Dropout(0.2)
        self.act = nn.GELU()
        self.head = nn.Linear(12, 3)
        self.fail = False

    def forward(self, x: Tensor) -> Tensor:
        """(n, 6) -> (n, 3)."""
        x = self.first(x)
        if self.fail:
            raise RuntimeError("asked to fail")
        x = self.act(self.norm(x))
        return self.head(self.drop(x + self.frozen(x)))


def example(seed: int = 0) -> tuple[ExampleNet, dict[str, tuple[Tensor, Tensor]]]:
    """A model and data that every probe can be tried on; draws from no global random state."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = ExampleNet()
        x = torch.randn(40, 6)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    return model, {"train": (x[:24], y[:24]), "test": (x[24:], y[24:])}


def token_example(seed: int = 0) -> tuple[ExampleNet, dict[str, tuple[Tensor, Tensor]]]:
    """As :func:`example`, but the inputs are 7 tokens, (n,), and the first layer is an embedding."""
    model, data = example(seed)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model.first = nn.Embedding(7, 12)
        return model, {split: (torch.randint(7, (len(y),)), y) for split, (_, y) in data.items()}


def check_probe(probe: Observer, example: Example = example) -> None:
    """Run all checks; AssertionError says which promise is broken.

    Parameters
    ----------
    probe
        One that has not been attached, or a set of them.
    example : callable
        ``example(seed=0)`` makes what the probe is tried on: a model with the attributes of :class:`ExampleNet`, and
        data with the splits ``train`` and ``test`` and integer targets.
    """
    for check in CHECKS:
        check(probe, example)


def check_parameters(probe: Observer, example: Example = example) -> None:
    """The constructor only stores: get_params, clone, repr and pickle work, and say the same."""
    params = probe.get_params(deep=False)
    twin = clone(probe)
    assert repr(twin) == repr(probe), f"clone changes the probe: {probe!r} becomes {twin!r}"
    for name in params:
        assert hasattr(probe, name), f"the constructor does not store its parameter {name!r}"
    assert repr(pickle.loads(pickle.dumps(probe))) == repr(probe), "pickling changes the probe"
    type(probe)()  # constructible bare


def check_not_fitted(probe: Observer, example: Example = example) -> None:
    """Before attach or fit there is no series, and it says so."""
    fresh = clone(probe)
    for verb in (lambda: fresh.series_, lambda: fresh.observe(0), lambda: fresh.due(0)):
        try:
            verb()
        except NotFittedError:
            continue
        raise AssertionError("expected NotFittedError before attach")


def check_series(probe: Observer, example: Example = example) -> None:
    """The series follows the schema, survives a file, and flags are flags."""
    model, data = example()
    found = clone(probe).fit(model, data).series_
    validate(found)
    assert found.sizes["step"] == 1, f"fit observes once, got {found.sizes['step']} steps"
    for name, array in found.data_vars.items():
        assert {"units", "long_name"} <= array.attrs.keys(), f"{name} has no units or long_name"
        assert array.dtype in (np.float64, np.int8), f"{name} is {array.dtype}, expected float64 or int8"
        if array.dtype == np.int8:
            assert set(np.unique(array)) <= {-1, 0, 1}, f"flag {name} holds {np.unique(array)}"
    assert not (found["failed"] == 1).any(), "the probe failed"
    with tempfile.TemporaryDirectory() as folder:
        path = save(found, Path(folder) / "series.nc")
        xr.testing.assert_identical(read_netcdf(path), found)


def check_same_twice(probe: Observer, example: Example = example) -> None:
    """Two observations of one model agree to the last bit, also from a clone."""
    model, data = example()
    twice = _numbers(clone(probe).attach(model, data, on_error="raise").observe(0).observe(1))
    again = _numbers(clone(probe).attach(model, data, on_error="raise").observe(0))
    xr.testing.assert_equal(twice.isel(step=0, drop=True), twice.isel(step=1, drop=True))
    xr.testing.assert_equal(twice.isel(step=0, drop=True), again.isel(step=0, drop=True))


def check_second_attach(probe: Observer, example: Example = example) -> None:
    """Attaching again behaves like a fresh probe."""
    model, data = example()
    other, _ = example(seed=1)
    used = clone(probe).attach(other, data, on_error="raise").observe(3)
    used.attach(model, data, on_error="raise").observe(0)
    fresh = clone(probe).attach(model, data, on_error="raise").observe(0)
    xr.testing.assert_equal(_numbers(used), _numbers(fresh))


def check_training_untouched(probe: Observer, example: Example = example) -> None:
    """Training with the probe equals training without it, bit by bit."""
    without, with_probe = _trained(None, example), _trained(probe, example)
    different = [key for key in {**without, **with_probe} if without.get(key) != with_probe.get(key)]
    assert not different, f"observing changed the training: {', '.join(different)}"


def check_exceptions(probe: Observer, example: Example = example) -> None:
    """An error in the forward pass leaves nothing behind, is flagged if the probe makes one, and goes on."""
    import warnings

    model, data = example()
    before = state_of(model, None)
    attached = clone(probe).attach(model, data)
    passes: list[int] = []
    counter = model.register_forward_pre_hook(lambda *_: passes.append(1))
    attached.observe(0)
    counter.remove()
    expected = [0, int(bool(passes)), 0]  # a probe that reads parameters alone has nothing that could fail
    model.fail = True
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attached.observe(1)
    model.fail = False
    attached.observe(2)
    failed = attached.series_["failed"].max("probe").values
    assert failed.tolist() == expected, f"a failing forward pass is flagged {failed.tolist()}, expected {expected}"
    assert caught or expected == [0, 0, 0], "a failing forward pass gives no warning"
    attached.detach()
    after = state_of(model, None)
    different = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    assert not different, f"an exception left traces: {', '.join(different)}"


def check_copies(probe: Observer, example: Example = example) -> None:
    """An attached model can be copied and pickled; copies of the probe carry the series, not the attachment."""
    model, data = example()
    optimizer = torch.optim.AdamW(model.parameters())
    attached = clone(probe).attach(model, data, optimizer=optimizer, on_error="raise")
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert state_of(twin, None) == state_of(model, None), "a copy of the attached model differs from it"
    for carried in (copy.deepcopy(attached), pickle.loads(pickle.dumps(attached))):
        xr.testing.assert_identical(carried.series_, attached.series_)
    pickle.loads(pickle.dumps(optimizer))
    attached.detach()


def check_recording(probe: Observer, example: Example = example) -> None:
    """What is recorded to a file is what the probe shows, and resuming appends to it."""
    model, data = example()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.nc"
        attached = clone(probe).attach(model, data, path=path, on_error="raise").observe(0).observe(5)
        xr.testing.assert_identical(load(path), attached.series_)
        attached.detach()
        resumed = clone(probe).attach(model, data, path=path, mode="resume", on_error="raise").observe(5).observe(9)
        assert load(path)["step"].values.tolist() == [0, 5, 9], "resume does not append"
        resumed.detach()
        xr.testing.assert_identical(read_netcdf(path), resumed.series_)


CHECKS: tuple[Callable[[Observer, Example], None], ...] = (
    check_parameters,
    check_not_fitted,
    check_series,
    check_same_twice,
    check_second_attach,
    check_training_untouched,
    check_exceptions,
    check_copies,
    check_recording,
)


def _numbers(probe: Observer) -> xr.Dataset:
    """The series without the times that observing and training took."""
    return probe.series_.drop_vars([name for name, array in probe.series_.items() if array.attrs.get("units") == "s"])


def _trained(probe: Observer | None, example: Example) -> dict[str, Any]:
    """Train the example for a few steps; all that training could notice, as comparable values."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        torch.manual_seed(7)
        np.random.seed(7)  # noqa: NPY002
        random.seed(7)
        model, data = example()
        model.train()
        model.frozen.eval()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        attached = probe and clone(probe).attach(model, data, optimizer=optimizer, schedule=every(2), on_error="raise")
        x, y = data["train"]
        for _ in range(6):
            rows = torch.randint(len(x), (8,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        if attached:
            attached.detach()
        return state_of(model, optimizer)
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    """All that training could notice, by what it is, as values that compare: equal means equal to the last bit."""
    state: dict[str, Any] = {
        "random state of torch": torch.get_rng_state().numpy().tobytes(),
        "random state of numpy": str(np.random.get_state()),  # noqa: NPY002
        "random state of Python": random.getstate(),
    }
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        state[f"value of {name}"] = _bytes(tensor)
        state[f"gradient of {name}"] = None if tensor.grad is None else _bytes(tensor.grad)
        state[f"requires_grad of {name}"] = tensor.requires_grad
    for name, module in model.named_modules():
        state[f"training flag of {name or 'the model'}"] = module.training
        state[f"attributes of {name or 'the model'}"] = {
            key: _readable(value) for key, value in vars(module).items() if key not in _REGISTRIES
        }
        state[f"hooks of {name or 'the model'}"] = [len(getattr(module, kind, ())) for kind in _HOOKS]
    if optimizer is not None:
        state["hooks of the optimiser"] = len(optimizer._optimizer_step_post_hooks)
        for i, entry in optimizer.state_dict()["state"].items():
            for key, value in entry.items():
                state[f"optimiser state {key} of parameter {i}"] = _readable(value)
    return state


def _readable(value: Any) -> Any:
    """An attribute, as far as it can be compared."""
    if isinstance(value, Tensor):
        return _bytes(value)
    if isinstance(value, (list, tuple, deque)):
        return [_readable(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    if isinstance(value, dict):
        return {str(key): _readable(item) for key, item in value.items()}
    return value if isinstance(value, (bool, int, float, str)) else type(value).__name__


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
