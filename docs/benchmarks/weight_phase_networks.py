"""WeightPhaseProbe on networks at initialisation, and both probes on modular addition.

    python docs/benchmarks/weight_phase_networks.py start [--seeds 40]
    python docs/benchmarks/weight_phase_networks.py addition [--seeds 1] [--steps 20000]

``start`` counts how often a layer of an untrained network is called mixed, with directions that come from its weights.
``addition`` trains one hidden layer of squares on a + b modulo 23, from two one-hot vectors, as in arXiv:2310.03789.
"""

import argparse
from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from probe import FeatureLearningProbe, PerformanceProbe, ProbeSet, WeightPhaseProbe


P, WIDTH = 23, 256
PHASES = "GFL", "GMFL-I", "GMFL-II", "undecided"


def networks() -> dict[str, nn.Module]:
    """Return untrained networks for 46 inputs and 23 classes."""
    return {
        "linear layers, uniform (default)": nn.Sequential(
            nn.Linear(2 * P, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, P)
        ),
        "Gaussian weights, tanh": nn.Sequential(
            gaussian(2 * P, 256), nn.Tanh(), gaussian(256, 256), nn.Tanh(), gaussian(256, P)
        ),
        "convolutions": nn.Sequential(
            nn.Unflatten(1, (1, 2, P)), nn.Conv2d(1, 256, (2, 3)), nn.ReLU(), nn.Conv2d(256, 256, (1, 3)), nn.ReLU(),
            nn.Flatten(), nn.Linear(256 * 19, P),
        ),
    }  # fmt: skip


def gaussian(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer with Gaussian weights."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    return layer


def pairs() -> tuple[Tensor, Tensor]:
    """Return all pairs of tokens as two one-hot vectors, and their sums modulo P."""
    a, b = torch.cartesian_prod(torch.arange(P), torch.arange(P)).T
    return torch.cat([one_hot(a, P), one_hot(b, P)], 1).float(), (a + b) % P


def start(seeds: int) -> None:
    """Print the phases of untrained layers of 200 units or more, in percent."""
    print("| network | directions | layers | GFL | GMFL-I | GMFL-II | undecided |")
    for name in networks():
        for directions in ("agop", "targets", "fourier"):
            counts: Counter[str] = Counter()
            for seed in range(seeds):
                torch.manual_seed(seed)
                model = networks()[name]
                options = {"layers": "0", "period": P} if directions == "fourier" else {"n_directions": 2}
                if directions == "fourier" and name == "convolutions":
                    continue
                series = WeightPhaseProbe(directions=directions, **options).fit(model, pairs()).series_
                large = series["weight_phase_n_units"] >= 200
                values = series["weight_phase"].where(large, drop=True)
                for value in values.values.flatten():
                    counts[PHASES[3 if value != value else int(value)]] += 1
            total = sum(counts.values())
            if total:
                shares = " | ".join(f"{100 * counts[phase] / total:.1f}" for phase in PHASES)
                print(f"| {name} | {directions} | {total} | {shares} |", flush=True)


class Square(nn.Module):
    """The square, as a layer that probes can select."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x^2."""
        return x.square()


class Squares(nn.Module):
    """One hidden layer with the square as activation function."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * P, WIDTH, bias=False)
        self.square = Square()
        self.read_out = nn.Linear(WIDTH, P, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 2 P) -> (n, P)."""
        return self.read_out(self.square(self.hidden(x)))


def addition(seed: int, steps: int, share: float = 0.6) -> None:
    """Train on a share of the pairs with AdamW, and print the numbers of both probes."""
    torch.manual_seed(seed)
    model, (x, y) = Squares(), pairs()
    order = torch.randperm(len(x))
    cut = int(share * len(x))
    data = {"train": (x[order[:cut]], y[order[:cut]]), "test": (x[order[cut:]], y[order[cut:]])}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1.0)
    probes = ProbeSet(
        [
            PerformanceProbe(),
            WeightPhaseProbe(layers="hidden", directions="fourier", period=P),
            FeatureLearningProbe(layers="square"),
        ]
    ).attach(model, data, optimizer=optimizer, on_error="raise")
    inputs, targets = data["train"]
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    report(probes.detach().series_)


def report(series: object) -> None:
    """Print one row for every fourth observation."""
    names = (
        "train_accuracy",
        "test_accuracy",
        "phase",
        "fraction",
        "p_gap",
        "kurtosis",
        "deviation",
        "read_out",
        "scale",
    )
    features = "feature_deviation", "read_out_accuracy", "logit_scale"
    print("step", *names)
    for row in series.isel(step=slice(None, None, 3)).transpose("step", ...).step.values:  # type: ignore[attr-defined]
        one = series.sel(step=row, layer="hidden")  # type: ignore[attr-defined]
        square = series.sel(step=row, layer="square", split="test")  # type: ignore[attr-defined]
        phase = one["weight_phase"].item()
        print(
            row, *(f"{one[name].item():.2f}" for name in ("train_accuracy", "test_accuracy")),
            PHASES[3 if phase != phase else int(phase)],
            *(f"{one[f'weight_phase_{name}'].item():.3f}" for name in ("droplet_fraction", "p_gap", "kurtosis")),
            *(f"{square[name].item():.3f}" for name in features),
            flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("start", "addition"))
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--steps", type=int, default=20_000)
    arguments = parser.parse_args()
    if arguments.part == "start":
        start(arguments.seeds or 40)
    for seed in range(arguments.seeds or 1 if arguments.part == "addition" else 0):
        addition(seed, arguments.steps)
