"""The contract of a probe, as checks for a probe of your own.

>>> from probe import MutualInfoProbe
>>> from probe.testing import check_probe
>>> check_probe(MutualInfoProbe())

A probe for certain models is checked on one of these, which a function like :func:`example` makes:

>>> from probe import FourierProbe
>>> from probe.testing import token_example
>>> check_probe(FourierProbe(), token_example)

Each check is a function ``check_*(probe, example)`` with the parameters of :func:`check_probe`; see :data:`CHECKS`.
A check raises an AssertionError that names the fault.
"""

import copy
import pickle
import random
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from probe.base import Observer
from probe.errors import ModelChangedError, ProbeWarning
from probe.forward.isolation import restored_random_states, seed_cpu
from probe.forward.saved_values import as_bytes
from probe.forward.snapshot import generator
from probe.forward.training import TrainingContext
from probe.recording.files import read_netcdf, save
from probe.recording.reading import load
from probe.schedule import every
from probe.series import validate

__all__ = [
    "CHECKS",
    "Example",
    "ExampleNet",
    "check_copies",
    "check_exceptions",
    "check_not_fitted",
    "check_parameters",
    "check_probe",
    "check_recording",
    "check_same_twice",
    "check_second_attach",
    "check_series",
    "check_training_untouched",
    "example",
    "relu_example",
    "state_of",
    "token_example",
]

Example = Callable[..., tuple[Any, dict[str, tuple[Tensor, Tensor]]]]
_REGISTRIES = frozenset(vars(nn.Module()))
_HOOKS = sorted(name for name in _REGISTRIES if "hooks" in name)
_HOOKS_OF_PARAMETERS = ("_backward_hooks", "_post_accumulate_grad_hooks")


class ExampleNet(nn.Module):
    """A small network with all that a probe can disturb: batch norm, dropout, a frozen part in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.first: nn.Module = nn.Linear(6, 12)
        self.norm = nn.BatchNorm1d(12)
        self.frozen = nn.Sequential(nn.Linear(12, 12), nn.Dropout(0.5)).eval()
        self.drop = nn.Dropout(0.2)
        self.act: nn.Module = nn.GELU()
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
    """Return a model and data for the checks.

    Parameters
    ----------
    seed
        Seed of the weights and inputs. The global random state stays unchanged.

    Returns
    -------
    model : ExampleNet
        In training mode, for inputs of shape (n, 6), with 3 outputs.
    data : dict
        The splits ``train`` (24 rows) and ``test`` (16 rows), with integer targets from 0 to 2.

    See Also
    --------
    token_example : The same with tokens as inputs.

    Examples
    --------
    >>> from probe.testing import example
    >>> model, data = example()
    >>> {split: tuple(x.shape) for split, (x, y) in data.items()}
    {'train': (24, 6), 'test': (16, 6)}
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = ExampleNet()
        x = torch.randn(40, 6)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    return model, {"train": (x[:24], y[:24]), "test": (x[24:], y[24:])}


def token_example(seed: int = 0) -> tuple[ExampleNet, dict[str, tuple[Tensor, Tensor]]]:
    """Return a model and data as :func:`example`, but with inputs of shape (n,), tokens from 0 to 6, and an embedding.

    Parameters
    ----------
    seed
        Seed of the weights and inputs. The global random state stays unchanged.

    See Also
    --------
    example : The same with vectors as inputs.

    Examples
    --------
    >>> from probe.testing import token_example
    >>> model, data = token_example()
    >>> data["train"][0].shape, model.first
    (torch.Size([24]), Embedding(7, 12))
    """
    model, data = example(seed)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model.first = nn.Embedding(7, 12)
        return model, {split: (torch.randint(7, (len(y),)), y) for split, (_, y) in data.items()}


def relu_example(seed: int = 0) -> tuple[ExampleNet, dict[str, tuple[Tensor, Tensor]]]:
    """Return a model and data as :func:`example`, but with ReLU, so that the model is piecewise linear.

    Parameters
    ----------
    seed
        Seed of the weights and inputs. The global random state stays unchanged.

    See Also
    --------
    example : The same with GELU.

    Examples
    --------
    >>> from probe.testing import relu_example
    >>> model, data = relu_example()
    >>> model.act
    ReLU()
    """
    model, data = example(seed)
    model.act = nn.ReLU()
    return model, data


def check_probe(probe: Observer, example: Example = example) -> None:
    """Run all checks of the contract.

    Parameters
    ----------
    probe : Probe or ProbeSet
        A probe that has not been attached, or a set of probes.
    example : callable
        ``example(seed=0)`` returns a model with the attributes of :class:`ExampleNet`, and data with the splits
        ``train`` and ``test`` and integer targets. A probe that requires a training context gets one for this model.

    Raises
    ------
    AssertionError
        If the probe breaks the contract. The message names the fault.

    See Also
    --------
    probe.Probe : The class to inherit from.

    Examples
    --------
    >>> from probe import WeightsProbe, check_probe
    >>> check_probe(WeightsProbe())
    """
    for check in CHECKS:
        check(probe, example)


def check_parameters(probe: Observer, example: Example = example) -> None:
    """Check that the constructor only stores its parameters, so that clone, repr and pickle work.

    Examples
    --------
    >>> from probe import WeightsProbe
    >>> from probe.testing import check_parameters
    >>> check_parameters(WeightsProbe())
    """
    params = probe.get_params(deep=False)
    twin = clone(probe)
    assert repr(twin) == repr(probe), f"Expected clone to return {probe!r}, got {twin!r}"
    for name in params:
        assert hasattr(probe, name), f"Expected the constructor to store its parameter {name!r}, got none"
    assert repr(pickle.loads(pickle.dumps(probe))) == repr(probe), f"Expected pickling to keep {probe!r}"
    type(probe)()  # every parameter has a default


def check_not_fitted(probe: Observer, example: Example = example) -> None:
    """Check that a probe without a series raises NotFittedError.

    Examples
    --------
    >>> from probe import WeightsProbe
    >>> from probe.testing import check_not_fitted
    >>> check_not_fitted(WeightsProbe())
    """
    fresh = clone(probe)
    for verb in (lambda: fresh.series_, lambda: fresh.observe(0), lambda: fresh.due(0)):
        try:
            verb()
        except NotFittedError:
            continue
        raise AssertionError("Expected NotFittedError before attach, got no error")


def check_series(probe: Observer, example: Example = example) -> None:
    """Check that the series follows the schema, is the same after a file, and has flags of 1, 0 and -1.

    Examples
    --------
    >>> from probe import WeightsProbe
    >>> from probe.testing import check_series
    >>> check_series(WeightsProbe())
    """
    model, data = example()
    found = clone(probe).fit(model, data, training=_context(probe, model, data)).series_
    validate(found)
    assert found.sizes["step"] == 1, f"Expected one step after fit, got {found.sizes['step']}"
    for name, array in found.data_vars.items():
        assert {"units", "long_name"} <= array.attrs.keys(), (
            f"Expected units and long_name of {name}, got {array.attrs}"
        )
        assert array.dtype in (np.float64, np.int8), f"Expected {name} as float64 or int8, got {array.dtype}"
        if array.dtype == np.int8:
            assert set(np.unique(array)) <= {-1, 0, 1}, f"Expected 1, 0 and -1 in flag {name}, got {np.unique(array)}"
    assert not (found["failed"] == 1).any(), "Expected a measurement, got an error of the probe"
    with tempfile.TemporaryDirectory() as folder:
        path = save(found, Path(folder) / "series.nc")
        xr.testing.assert_identical(read_netcdf(path), found)


def check_same_twice(probe: Observer, example: Example = example) -> None:
    """Check that two observations of one model agree in each bit, and the first one also in a clone of the probe.

    The clone measures under another state of the global random generators, from which a probe must not draw.

    Examples
    --------
    >>> from probe import WeightsProbe
    >>> from probe.testing import check_same_twice
    >>> check_same_twice(WeightsProbe())
    """
    model, data = example()
    options = {"on_error": "raise", "training": _context(probe, model, data)}
    attached = clone(probe).attach(model, data, **options).observe(0).observe(1)
    if attached._attached("observe").keeps_values:
        attached.observe(2)  # the first observation has no kept value, so the last two are compared
    twice = _numbers(attached)
    with _random_states(seed=1):
        again = _numbers(clone(probe).attach(model, data, **options).observe(0))
    xr.testing.assert_equal(twice.isel(step=-2, drop=True), twice.isel(step=-1, drop=True))
    same = twice.isel(step=0, drop=True).equals(again.isel(step=0, drop=True))
    assert same, "a clone measures other numbers; draw random numbers from probe.generator(self.random_state) only"


def check_second_attach(probe: Observer, example: Example = example) -> None:
    """Check that a probe that is attached again measures like a new one.

    Examples
    --------
    >>> from probe import WeightsProbe
    >>> from probe.testing import check_second_attach
    >>> check_second_attach(WeightsProbe())
    """
    model, data = example()
    other, _ = example(seed=1)
    used = clone(probe).attach(other, data, on_error="raise", training=_context(probe, other, data)).observe(3)
    options = {"on_error": "raise", "training": _context(probe, model, data)}
    used.attach(model, data, **options).observe(0)
    fresh = clone(probe).attach(model, data, **options).observe(0)
    xr.testing.assert_equal(_numbers(used), _numbers(fresh))


def check_training_untouched(probe: Observer, example: Example = example) -> None:
    """Check that training with the probe equals training without it in each bit, and that nothing had to be restored.

    Observations restore most of what is written to a model, see :func:`probe.forward.isolated`. The forward pass of the
    example must not write to it in evaluation mode.

    Examples
    --------
    >>> from probe import WeightsProbe
    >>> from probe.testing import check_training_untouched
    >>> check_training_untouched(WeightsProbe())
    """
    without = _trained(None, example)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Expected observations that write to the model only", ProbeWarning)
        try:
            with_probe = _trained(probe, example)
        except (ModelChangedError, ProbeWarning) as error:
            raise AssertionError(f"Expected a probe that writes nothing to the model, got this: {error}") from error
    different = [key for key in {**without, **with_probe} if without.get(key) != with_probe.get(key)]
    assert not different, (
        f"Expected the same training with and without the probe, got changes of {', '.join(different)}"
    )


def check_exceptions(probe: Observer, example: Example = example) -> None:
    """Check that an error in a forward pass is flagged, leaves the model unchanged, and does not stop the probe.

    Examples
    --------
    >>> from probe import WeightsProbe
    >>> from probe.testing import check_exceptions
    >>> check_exceptions(WeightsProbe())
    """
    model, data = example()
    before = state_of(model, None)
    attached = clone(probe).attach(model, data, training=_context(probe, model, data))
    passes: list[int] = []
    counter = model.register_forward_pre_hook(lambda *_: passes.append(1))
    attached.observe(0)
    counter.remove()
    expected = [0, int(bool(passes)), 0]  # a probe that reads parameters only makes no forward pass
    model.fail = True
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attached.observe(1)
    model.fail = False
    attached.observe(2)
    failed = attached.series_["failed"].max("probe").values
    assert failed.tolist() == expected, (
        f"Expected the flags of a failing forward pass to be {expected}, got {failed.tolist()}"
    )
    assert caught or expected == [0, 0, 0], "Expected a warning of a failing forward pass, got none"
    attached.detach()
    after = state_of(model, None)
    different = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    assert not different, f"Expected the model unchanged after an error, got changes of {', '.join(different)}"


def check_copies(probe: Observer, example: Example = example) -> None:
    """Check that an attached model can be copied, and that copies of the probe carry the series.

    Examples
    --------
    >>> from probe import WeightsProbe
    >>> from probe.testing import check_copies
    >>> check_copies(WeightsProbe())
    """
    model, data = example()
    optimizer = torch.optim.AdamW(model.parameters())
    training = _context(probe, model, data, optimizer)
    attached = clone(probe).attach(model, data, optimizer=optimizer, on_error="raise", training=training)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert state_of(twin, None) == state_of(model, None), (
            "Expected a copy equal to the attached model, got a difference"
        )
    for carried in (copy.deepcopy(attached), pickle.loads(pickle.dumps(attached))):
        xr.testing.assert_identical(carried.series_, attached.series_)
    pickle.loads(pickle.dumps(optimizer))
    attached.detach()


def check_recording(probe: Observer, example: Example = example) -> None:
    """Check that the file holds the series of the probe, and that a resumed recording appends to it.

    Examples
    --------
    >>> from probe import WeightsProbe
    >>> from probe.testing import check_recording
    >>> check_recording(WeightsProbe())
    """
    model, data = example()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.nc"
        options = {"path": path, "on_error": "raise", "training": _context(probe, model, data)}
        attached = clone(probe).attach(model, data, **options).observe(0).observe(5)
        xr.testing.assert_identical(load(path), attached.series_)
        attached.detach()
        resumed = clone(probe).attach(model, data, mode="resume", **options).observe(5).observe(9)
        assert load(path)["step"].values.tolist() == [0, 5, 9], (
            "Expected a resumed recording to append, got other steps"
        )
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


def _context(
    probe: Observer, model: nn.Module, data: Any, optimizer: torch.optim.Optimizer | None = None
) -> TrainingContext | None:
    """Return a training context of an example for a probe that requires one, else None."""
    if not any("training" in member.requires for member in probe._members().values()):
        return None
    x, y = data["train"]

    def step_fn(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        loss.backward()
        optimizer.step()
        return loss

    def batches(step: int, n: int) -> list[Tensor]:
        # the same ones at each step, so that two observations of one model can be compared
        return [torch.randperm(len(x), generator=generator(k))[:8] for k in range(n)]

    return TrainingContext(optimizer or torch.optim.SGD(model.parameters(), lr=0.1), step_fn, batches)


def _numbers(probe: Observer) -> xr.Dataset:
    """Return the series without the times of observing and training."""
    return probe.series_.drop_vars([name for name, array in probe.series_.items() if array.attrs.get("units") == "s"])


@contextmanager
def _random_states(seed: int) -> Iterator[None]:
    """Seed the global random generators of torch, numpy and Python inside, and restore their states at the end."""
    with restored_random_states():
        torch.manual_seed(seed)  # of the GPUs, too
        seed_cpu(seed)
        yield


@_random_states(seed=7)
def _trained(probe: Observer | None, example: Example) -> dict[str, Any]:
    """Train the example for a few steps, and return the state of the training as comparable values."""
    model, data = example()
    model.train()
    model.frozen.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    attached = None
    if probe is not None:
        training = _context(probe, model, data, optimizer)
        attached = clone(probe).attach(
            model, data, optimizer=optimizer, schedule=every(2), on_error="raise", training=training
        )
    x, y = data["train"]
    for _ in range(6):
        rows = torch.randint(len(x), (8,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    if attached is not None:
        attached.detach()
    return state_of(model, optimizer)


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    """Return all that can influence a training, by name, as values that are equal only if each bit is.

    Parameters
    ----------
    model
        Values, gradients, ``requires_grad``, training flags, attributes, classes, submodules and number of hooks are
        included.
    optimizer
        State and number of hooks are included. None: no optimizer.

    Returns
    -------
    dict
        Comparable values by name, and the global random states of PyTorch (CPU), numpy and Python.

    Examples
    --------
    >>> import torch
    >>> from probe.testing import state_of
    >>> model = torch.nn.Linear(2, 1)
    >>> before = state_of(model, None)
    >>> _ = model.eval()
    >>> [name for name, value in state_of(model, None).items() if value != before[name]]
    ['training flag of the model']
    """
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    state: dict[str, Any] = {
        "random state of torch": torch.get_rng_state().numpy().tobytes(),
        "random state of numpy": (numpy_state[1].tobytes(), *numpy_state[2:]),
        "random state of Python": random.getstate(),
    }
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        state[f"value of {name}"] = _bytes(tensor)
        state[f"gradient of {name}"] = None if tensor.grad is None else _bytes(tensor.grad)
        state[f"requires_grad of {name}"] = tensor.requires_grad
        state[f"hooks of {name}"] = [len(getattr(tensor, kind) or ()) for kind in _HOOKS_OF_PARAMETERS]
    for name, module in model.named_modules():
        state[f"training flag of {name or 'the model'}"] = module.training
        state[f"attributes of {name or 'the model'}"] = {
            key: _readable(value) for key, value in vars(module).items() if key not in _REGISTRIES
        }
        state[f"hooks of {name or 'the model'}"] = [len(getattr(module, kind, ())) for kind in _HOOKS]
        state[f"class of {name or 'the model'}"] = type(module).__qualname__
        state[f"other buffers of {name or 'the model'}"] = sorted(module._non_persistent_buffers_set)
    if optimizer is not None:
        state["hooks of the optimiser"] = len(optimizer._optimizer_step_post_hooks)
        for i, entry in optimizer.state_dict()["state"].items():
            for key, value in entry.items():
                state[f"optimiser state {key} of parameter {i}"] = _readable(value)
    return state


def _readable(value: Any) -> Any:
    """Return an attribute as a value that can be compared, or the name of its class."""
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
    return as_bytes(tensor.detach().cpu()).numpy().tobytes()
