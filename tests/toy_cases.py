"""Observations on the toy device, in a process of their own: PyTorch can register one such device, and for ever.

``python tests/toy_cases.py`` prints a JSON with the waits of each case, and whether the numbers are those of the CPU.
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from toy_device import device_at_work, on_device, waits

from probe import ActivationsProbe, LMNProbe, LocalComplexityProbe, MutualInfoProbe, NeuralCollapseProbe, ProbeSet
from probe.forward import row_buffer
from probe.measures import RobustnessProbe, WeightsProbe


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.act, self.down = nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.act(self.up(x)))


class Noisy(nn.Module):
    """Becomes random, so that the condition of equal passes has another outcome."""

    random = False

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(1).item() if self.random else x


def model(n_layers: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), Noisy(), *(Block() for _ in range(n_layers)), nn.Linear(8, 3))


def rows(n_blocks: int = 2) -> dict[str, tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    n = 16 * n_blocks
    return {split: (torch.randn(n, 4), torch.arange(n) % 3) for split in ("train", "test")}


def default_set() -> list[Any]:
    return [MutualInfoProbe(), LocalComplexityProbe(), LMNProbe(max_samples=12)]


def observed(
    probes: list[Any], network: nn.Module, data: Any, between: Callable[[nn.Module], None] = lambda _: None
) -> tuple[list[int], Any]:
    """Return the number of waits of three observations, and the series."""
    found = ProbeSet(probes).attach(network, data, batch_size=16, on_error="raise")
    counts = []
    for step in range(3):
        if step == 2:
            between(network)
        counts.append(len(waits(lambda step=step: found.observe(step))))  # type: ignore[misc]
    return counts, found.detach().series_.drop_vars("seconds")


def case(n_layers: int = 2, n_blocks: int = 2, data_there: bool = False) -> Mapping[str, Any]:
    counts, there = observed(
        default_set(), on_device(model(n_layers)), on_device(rows(n_blocks)) if data_there else rows(n_blocks)
    )
    _, here = observed(default_set(), model(n_layers), rows(n_blocks))
    return {"waits": counts, "equal": bool(there.identical(here)) or bool(there.equals(here))}


def random_later() -> Mapping[str, Any]:
    """A model that is random at the third observation, where the second one found equal passes."""

    def begin(network: nn.Module) -> None:
        network[1].random = True  # type: ignore[index, union-attr, assignment]

    counts, series = observed([LMNProbe(max_samples=8)], on_device(model()), rows(), begin)
    return {"waits": counts, "flags": series["linear_mapping_number_unrepeatable"].values[:, 0, 0].tolist()}


def wrong_class_later() -> Mapping[str, Any]:
    """Targets that become classes without an output."""
    data = rows()

    def begin(_: nn.Module) -> None:
        data["test"][1][3] = 7

    try:
        observed([MutualInfoProbe()], on_device(model()), data, begin)
    except ValueError as error:
        return {"error": str(error)}
    return {}


def little_pinned_memory() -> Mapping[str, Any]:
    """Rows beyond the pinned memory arrive, with a wait for each block."""
    row_buffer.MAX_PINNED = 2000
    return case()


def others() -> Mapping[str, Any]:
    """The waits of an observation by other probes, with two layers, with five, and with six blocks of rows."""
    found = {}
    makes = {
        "ActivationsProbe": lambda: ActivationsProbe(),
        'ActivationsProbe(device="cpu")': lambda: ActivationsProbe(device="cpu"),
        "NeuralCollapseProbe": lambda: NeuralCollapseProbe(),
        'NeuralCollapseProbe(device="cpu")': lambda: NeuralCollapseProbe(device="cpu"),
        "WeightsProbe": lambda: WeightsProbe(),
        "RobustnessProbe": lambda: RobustnessProbe(),
        "LocalComplexityProbe with all variants": lambda: LocalComplexityProbe(
            variants=("count", "distance", "density")
        ),
    }
    for name, make in makes.items():
        sizes = ((2, 2), (5, 2), (2, 6))
        found[name] = [observed([make()], on_device(model(layers)), rows(blocks))[0][1] for layers, blocks in sizes]
    return found


CASES: dict[str, Callable[[], Mapping[str, Any]]] = {
    "two layers": case,
    "five layers": lambda: case(n_layers=5),
    "six blocks": lambda: case(n_blocks=6),
    "data on the device": lambda: case(data_there=True),
    "random later": random_later,
    "wrong class later": wrong_class_later,
    "others": others,
    "little pinned memory": little_pinned_memory,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    results = {}
    for name in sys.argv[1:] or CASES:
        with device_at_work():
            results[name] = CASES[name]()
    print(json.dumps(results))
