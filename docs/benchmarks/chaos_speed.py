"""What an observation of ChaosProbe costs: ``python docs/benchmarks/chaos_speed.py`` prints a Markdown table.

One thread, CPU time of the process, least of four runs. The unit is an update of the training. The cost of an update
of the tangent is the difference between observations with windows of 40 and 20 updates and one size, over 20, less the
four updates of twins. Its floating-point operations are counted beside. ``default`` is an observation with the default
parameters, in windows of 20. It contains the quadratic model, all copies of the model and, with AdamW, 8 more products
for the preconditioned sharpness.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from probe import ChaosProbe
from probe.forward import TrainingContext

WINDOW, REPEATS = 20, 4


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, h, w) -> (n, width, h, w)."""
        return F.relu(x + self.norm2(self.two(F.relu(self.norm1(self.one(x))))))


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 512), nn.Tanh(), nn.Linear(512, 512), nn.Tanh(), nn.Linear(512, 10))


def residual() -> nn.Module:
    blocks = [Residual(16) for _ in range(4)]
    stem = nn.Conv2d(3, 16, 3, padding=1)
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def vgg() -> nn.Module:
    layers, channels = list[nn.Module](), 3
    for width in (16, 32, 64):
        for inputs in (channels, width):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        layers, channels = [*layers, nn.MaxPool2d(2)], width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 64, 10))


def transformer() -> nn.Module:
    layers = [nn.TransformerEncoderLayer(128, 4, 256, batch_first=True) for _ in range(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 128, 10))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "perceptron 784-512-512-10, 256 rows": (perceptron, (256, 784)),
    "residual network, 4 blocks of 16 channels, 32 images of 16x16": (residual, (32, 3, 16, 16)),
    "VGG-like network, 3 stages of 16 to 64 channels, 32 images of 16x16": (vgg, (32, 3, 16, 16)),
    "transformer, 2 layers of 128, 64 rows of 8 tokens": (transformer, (64, 8, 128)),
}
OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "SGD": lambda model: torch.optim.SGD(model.parameters(), 0.01, momentum=0.9),
    "AdamW": lambda model: torch.optim.AdamW(model.parameters(), 1e-3),
}


def seconds(functions: Sequence[Callable[[], object]]) -> list[float]:
    """CPU seconds of each function, the least of some, called in turn."""
    times = np.full((REPEATS, len(functions)), np.inf)
    for k, i in np.ndindex(times.shape):
        start = time.process_time()
        functions[i]()
        times[k, i] = time.process_time() - start
    return times.min(0).tolist()  # type: ignore[no-any-return]


def flops(function: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def costs(make: Callable[[], nn.Module], shape: tuple[int, ...], optimize: str) -> tuple[float, ...]:
    """Milliseconds of an update; in updates: one of the tangent, its operations, a Hessian product; default windows."""
    torch.manual_seed(0)
    model, x, y = make(), torch.randn(shape), torch.randint(10, shape[:1])
    optimizer = OPTIMIZERS[optimize](model)
    training = TrainingContext.usual(optimizer, F.cross_entropy, (x, y))
    batches = training.batches(0, WINDOW)
    training.step_fn(model, optimizer, batches[0])
    copied, copied_optimizer = training.copy(model)
    short: dict[str, Any] = {"sizes": [0.01], "n_products": 0, "quadratic": False, "window": WINDOW}
    choices = short, {**short, "window": 2 * WINDOW}, {"window": WINDOW, "n_products": 0}, {"window": WINDOW}
    # one after the other on the same model, which an observation leaves alone
    probes = [ChaosProbe(max_samples=8, **parameters) for parameters in choices]
    functions = [lambda probe=probe: probe.fit(model, (x, y), training=training) for probe in probes]  # type: ignore[misc]
    update, *found = seconds([lambda: [training.update(copied, copied_optimizer, one) for one in batches], *functions])
    update /= WINDOW
    tangent = (found[1] - found[0]) / WINDOW / update - 4
    operations = (flops(functions[1]) - flops(functions[0])) / WINDOW
    operations = operations / flops(lambda: training.update(copied, copied_optimizer, batches[0])) - 4
    product = (found[3] - found[2]) / (8 if optimize == "SGD" else 16) / update
    return 1e3 * update, tangent, operations, product, found[3] / WINDOW / update


def main() -> None:
    torch.set_num_threads(1)
    head = (
        "network",
        "optimizer",
        "update, ms",
        "tangent, updates each",
        "its operations",
        "Hessian product, updates",
        "default, windows",
    )
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")

    for network, (make, shape) in NETWORKS.items():
        for optimizer in OPTIMIZERS:
            numbers = " | ".join(f"{number:.1f}" for number in costs(make, shape, optimizer))
            print(f"| {network} | {optimizer} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
