"""Random small models in random training loops: what is captured and counted, and that the training is unchanged.

``python tests/test_random_models.py 0 1000`` checks the seeds 0 to 999 and prints each failure with its seed, so that a
run can be continued at any seed.
"""

import itertools
import random
import re
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from random_models import Drawn, N, draw, logits_of, optimizer_of, train
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from probe import (
    ActivationsProbe,
    LMNProbe,
    LocalComplexityProbe,
    Measured,
    MutualInfoProbe,
    Probe,
    ProbeSet,
    Tap,
    WeightsProbe,
    every,
    generator,
)
from probe.errors import ProbeWarning
from probe.geometry import orthonormal_frame
from probe.layer_probe import random_rows
from probe.testing import state_of

MESSAGE = re.compile(r"Expected .+, got .+; .+", re.S)
# functions whose unit changes its sign where its input does
SIMPLE = {"relu", "gelu", "silu", "tanh", "sigmoid", "elu", "leaky_relu", "prelu", "softplus", "mish"}


class Grab(Probe):
    """Keeps the values of all layers."""

    found: ClassVar[dict[str, Tensor]] = {}

    def taps(self, snapshot: Any) -> list[Tap]:
        layers = [
            site for site in snapshot.trace.order if ":" not in site and site[0] != "<" and "experts." not in site
        ]
        return [Tap(layer, "none") for layer in layers if snapshot.trace.has_rows(layer)]

    def measure(self, snapshot: Any) -> Mapping[str, Measured]:
        if snapshot.step == 0:
            layers = [tap.site for tap in self.taps(snapshot)]
            Grab.found = {name: z.clone() for name, z in snapshot.outputs("all", layers, reduce="none").items()}
        return {}


def probes_of(seed: int) -> list[Probe]:
    """Return some of the probes, with small samples."""
    chance = random.Random(seed)
    some: list[Probe] = [
        LMNProbe(max_samples=4, max_rows=60),
        LocalComplexityProbe(max_rows=80, n_directions=3),
        MutualInfoProbe(max_samples=8),
        WeightsProbe(),
        ActivationsProbe(),
    ]
    return [Grab(), *chance.sample(some, 2)]


def trained(seed: int, probes: ProbeSet | None) -> tuple[dict[str, Any], list[int]]:
    """Return the state after a few updates, and the observed steps."""
    drawn = draw(seed)
    optimizer = optimizer_of(drawn)
    counted = drawn.loop.counted
    if probes is not None:
        given = {"optimizer": optimizer, "schedule": every(2)} if counted else {}
        probes.attach(drawn.model, (drawn.inputs, drawn.targets), on_error="raise", **given)
        if not counted:
            probes.observe(0)
    observe = (lambda step: None) if counted or probes is None else probes.observe
    torch.manual_seed(seed + 1)
    train(drawn, optimizer, observe)
    steps = [] if probes is None else probes.detach().series_["step"].values.tolist()
    return state_of(drawn.model, optimizer), steps


def check_training(seed: int) -> None:
    """The training is bit-identical with and without probes; what is refused is refused with a message."""
    members = probes_of(seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            state, steps = trained(seed, ProbeSet(members))
        except (ValueError, TypeError) as error:
            assert_message(error)
            state, steps = trained(seed, ProbeSet([probe for probe in members if accepts(seed, probe)]))
        expected, _ = trained(seed, None)
    for warning in caught:
        if issubclass(warning.category, ProbeWarning):
            assert_message(warning.message)
        else:
            assert "probe/" not in warning.filename, f"{warning.category.__name__}: {warning.message}"
    changed = [name for name, value in expected.items() if state[name] != value]
    assert not changed, f"changed: {changed}"
    assert steps == ([0, 2] if draw(seed).loop.counted else [0, 1, 2, 3]), f"steps {steps}"


def assert_message(error: Any) -> None:
    assert MESSAGE.match(str(error)), f"{type(error).__name__}: {error}"


def accepts(seed: int, probe: Probe) -> bool:
    """Return whether a probe alone measures the model."""
    try:
        trained(seed, ProbeSet([probe]))
    except (ValueError, TypeError) as error:
        assert_message(error)
        return False
    return True


def check_capture(seed: int) -> None:
    """The captured values are those of plain hooks, call by call and bit by bit."""
    drawn = draw(seed)
    ProbeSet([Grab()]).fit(drawn.model, (drawn.inputs, drawn.targets))
    found, twin = Grab.found, draw(seed)
    expected: dict[str, Tensor] = {}
    names, counts = dict(twin.model.named_modules()), Counter[str]()

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            counts[name] += 1
            output = output[0] if isinstance(output, tuple) else output
            numbered = any(child.isdigit() for child, _ in module.named_children())
            label = name if counts[name] == 1 else f"{name}{'#' if numbered else '.'}{counts[name]}"
            if isinstance(output, Tensor) and output.shape[:1] == (N,) and name and "experts." not in name:
                expected[label] = output.detach().clone()

        return hook

    for name, module in names.items():
        module.register_forward_hook(keep(name))
    run(twin.model.eval(), twin.inputs)
    assert set(found) == set(expected), f"sites {sorted(set(found) ^ set(expected))}"
    if drawn.exact:
        wrong = [name for name, z in found.items() if not torch.equal(z, expected[name].to(z.dtype))]
        assert not wrong, f"other values of {wrong}"


def run(model: nn.Module, x: Tensor) -> Tensor:
    """Return the logits in evaluation mode, with the kernels that a pass of the probes uses."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            return logits_of(model(x))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class Recorder(TorchFunctionMode):
    """Records the inputs of the simple activation functions, in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "").removesuffix("_")
        if name in SIMPLE:
            self.seen.append((name, args[0].detach().clone().flatten()))
        return func(*args, **(kwargs or {}))


def doubled(seed: int) -> Drawn:
    """Return the model in float64."""
    drawn = draw(seed)
    drawn.model.double().eval()
    if drawn.inputs.is_floating_point():
        drawn.inputs = drawn.inputs.double()
    return drawn


def check_local_complexity(seed: int, radius: float = 0.3, directions: int = 3) -> bool:
    """Counts are those of a loop over points and vertices. Return whether there was something to compare."""
    drawn = doubled(seed)
    probe = LocalComplexityProbe(radius=radius, relative=False, n_directions=directions, max_rows=10**5)
    try:
        found = probe.fit(drawn.model, (drawn.inputs, None)).series_["local_complexity"].isel(step=0, split=0)
    except ValueError as error:
        assert_message(error)
        return False
    twin = doubled(seed)
    tokens = twin.model.kind == "tokens"
    centres = run_stem(twin) if tokens else twin.inputs
    frame = orthonormal_frame(directions, centres[0].numel(), generator=generator(0)).view(-1, *centres.shape[1:])
    counts = []
    for row, centre in zip(twin.inputs, centres, strict=True):
        signs = []
        for offset in [*frame, *-frame]:
            point = centre + radius * offset
            handle = twin.model.stem.register_forward_hook(lambda *_, point=point: point[None]) if tokens else None
            with Recorder() as recorder:
                run(twin.model, row[None] if tokens else point[None])
            if handle:
                handle.remove()
            signs.append([z.sign() for _, z in recorder.seen])
        counts.append([_differing(torch.stack(unit)) for unit in zip(*signs, strict=True)])
    sites = [str(site) for site in found["layer"].values]
    simple = [site for site in sites if re.sub(r"\.\d+$", "", site.split(":")[-1]) in SIMPLE]
    expected = np.mean(counts, 0)
    assert len(simple) == len(expected), f"{len(expected)} calls, counted {simple}"
    np.testing.assert_allclose(found.sel(layer=simple).values, expected, rtol=1e-12, err_msg="local complexity")
    return len(simple) > 0


def _differing(signs: Tensor) -> int:
    return int((signs != signs[0]).any(0).sum())


def run_stem(drawn: Drawn) -> Tensor:
    with torch.no_grad():
        return drawn.model.stem(drawn.inputs)


def check_linear_mapping(seed: int, n: int = 4) -> bool:
    """The number is that of a loop over pairs of samples. Return whether there was something to compare."""
    drawn = doubled(seed)
    layer = random.Random(seed).choice(["stem", *(f"blocks.{k}" for k in range(len(drawn.model.blocks)))])
    try:
        found = LMNProbe(layers=layer, max_samples=n).fit(drawn.model, (drawn.inputs, None)).series_
    except ValueError as error:
        assert_message(error)
        return False
    twin = doubled(seed)
    module = dict(twin.model.named_modules())[layer]
    inputs = twin.inputs[random_rows(N, n, 0)]
    values: list[Tensor] = []
    handle = module.register_forward_hook(lambda m, a, out: values.append(out[0] if isinstance(out, tuple) else out))
    for row in inputs:
        run(twin.model, row[None])
    handle.remove()
    linearity = np.eye(n)
    for i, j in itertools.combinations(range(n), 2):
        lam, y = np.linspace(0, 1, 5), []
        for share in lam:
            point = values[i] + float(share) * (values[j] - values[i])
            handle = module.register_forward_hook(lambda *_, point=point: point)
            y.append(run(twin.model, inputs[i][None]).flatten().numpy())
            handle.remove()
        columns = np.stack(y).T
        squares = [1.0 if np.ptp(column) == 0 else np.corrcoef(column, lam)[0, 1] ** 2 for column in columns]
        linearity[i, j] = linearity[j, i] = np.mean(squares)
    share = np.abs(np.linalg.eigvalsh(linearity))
    share = share[share > 0] / share.sum()
    expected = 2 ** -(share * np.log2(share)).sum()
    series = found.isel(step=0, split=0)
    if series["linear_mapping_number_still"].item() == 1:
        return False
    np.testing.assert_allclose(series["linear_mapping_number"].sel(layer=layer).item(), expected, rtol=1e-6)
    return True


def check(seed: int) -> None:
    """Check one seed; compare with the slow twins for one seed in ten."""
    check_capture(seed)
    check_training(seed)
    if seed % 10 == 0 and draw(seed).exact:
        check_local_complexity(seed)
        check_linear_mapping(seed)


@pytest.mark.filterwarnings("ignore::probe.errors.ProbeWarning")  # check_training looks at each of them
@pytest.mark.parametrize("first", [0, *(pytest.param(first, marks=pytest.mark.slow) for first in (20, 40, 60, 80))])
def test_random_models(first: int) -> None:
    for seed in range(first, first + 20):
        try:
            check(seed)
        except Exception as error:
            raise AssertionError(draw(seed).description) from error


def main(seeds: range) -> None:
    """Check these seeds and print the failures."""
    failures = 0
    for seed in seeds:
        try:
            check(seed)
        except Exception as error:
            failures += 1
            place = traceback.extract_tb(error.__traceback__)[-1].name
            text = f"{type(error).__name__}: {str(error)[:600]} ({place})"
            print(f"{draw(seed).description}\n    {text}", flush=True)
    print(f"{len(seeds)} seeds, {failures} failures")


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    main(range(*map(int, sys.argv[1:3])))
