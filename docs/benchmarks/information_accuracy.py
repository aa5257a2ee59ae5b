"""Error of estimators of information where the truth is known: `python docs/benchmarks/information_accuracy.py`.

Prints a Markdown table of root mean square errors in bits over fresh samples. Other packages are compared where they
are installed and take the variables of a family (`pip install --target DIR npeet-plus infomeasure ennemi`, then
PYTHONPATH=DIR); what is absent is said. They see a noisy reading of the layer and the other variable; so do our
nearest-neighbour and decoder estimators. The channel and the coding rate know the noise, which is added for the
analysis and therefore known: that is their advantage, and it is the usual case.

``--errors`` prints how often the value plus or minus two standard errors over rows contains the mean over repeated
samples (`subsample_se`), and how often values lie more than three standard errors over noise from their mean (`se`).
"""

import argparse
import importlib
import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.integrate import quad
from scipy.special import digamma, gammaln
from scipy.stats import norm
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
from torch import Tensor

from probe.information import channel_information
from probe.information import coding_rate
from probe.information import decodable_information
from probe.information import ksg_information, ross_information

CLUSTERS = 8
DRAWS = 16  # of the noise of the channel, averaged: about half a second for 1,000 rows


class Case(NamedTuple):
    """One sample: the reading of a layer, and the other variable (a class or a vector); the layer if noise is ours."""

    truth: float
    reading: Tensor
    labels: Tensor | None = None
    other: Tensor | None = None
    layer: Tensor | None = None
    noise: float = 0.0  # relative


# -- families ------------------------------------------------------------------------------------------------------


def normals(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def read(layer: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """With noise relative to the total variance, as `channel_information` adds it."""
    sigma = noise * layer.var(0, correction=0).sum().sqrt()
    return layer + sigma * normals(*layer.shape, generator=generator)


def bit(snr: float) -> float:
    """Information that a reading of one equally likely bit +-a has about it; snr = a^2 / sigma^2."""
    return 1 - quad(lambda n: norm.pdf(n) * np.logaddexp(0, -2 * snr - 2 * snr**0.5 * n) / np.log(2), -12, 12)[0]


def hypercube(snr: float, of: str) -> Callable[[torch.Generator], Case]:
    """{-1, 1}^10 turned into 32 dimensions, all corners; the classes are the first 5 bits."""

    def make(generator: torch.Generator) -> Case:
        corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=10)), dtype=torch.float64)
        layer = corners @ torch.linalg.qr(normals(32, 32, generator=generator))[0][:10]
        noise = 1 / math.sqrt(10 * snr)
        reading = read(layer, noise, generator)
        if of == "X":
            return Case(10 * bit(snr), reading, other=layer, layer=layer, noise=noise)
        return Case(5 * bit(snr), reading, torch.arange(1024) // 32, layer=layer, noise=noise)

    return make


def clusters(generator: torch.Generator) -> Case:
    labels = torch.arange(800) % CLUSTERS
    layer = normals(CLUSTERS, 16, generator=generator)[labels]
    return Case(math.log2(CLUSTERS), read(layer, 0.02, generator), labels, layer=layer, noise=0.02)


def two_points(snr: float) -> Callable[[torch.Generator], Case]:
    def make(generator: torch.Generator) -> Case:
        labels = torch.arange(1000) % 2
        layer, noise = (2.0 * labels - 1)[:, None].double(), 1 / math.sqrt(snr)
        return Case(bit(snr), read(layer, noise, generator), labels, layer=layer, noise=noise)

    return make


def normal_layer(d: int) -> Callable[[torch.Generator], Case]:
    """T = X normal, read with noise of its own variance in each dimension: half a bit each."""

    def make(generator: torch.Generator) -> Case:
        layer, noise = normals(1000, d, generator=generator), 1 / math.sqrt(d)
        return Case(d / 2, read(layer, noise, generator), other=layer, layer=layer, noise=noise)

    return make


def student(d: int, rho: float, nu: float = math.inf) -> Callable[[torch.Generator], Case]:
    """Two vectors of d dimensions, correlated pair by pair; Student-t with nu degrees of freedom, or normal."""

    def f(v: float) -> float:
        return gammaln(v / 2) - v / 2 * digamma(v / 2)

    tails = 0.0 if math.isinf(nu) else f(nu) + f(nu + 2 * d) - 2 * f(nu + d)
    truth = (tails - d / 2 * math.log(1 - rho**2)) / math.log(2)

    def make(generator: torch.Generator) -> Case:
        x, y = normals(2, 1000, d, generator=generator)
        y = rho * x + math.sqrt(1 - rho**2) * y
        if math.isinf(nu):
            return Case(truth, x, other=y)
        chi2 = normals(1000, int(nu), generator=generator).square().sum(1, keepdim=True)
        return Case(truth, x * (nu / chi2).sqrt(), other=y * (nu / chi2).sqrt())

    return make


FAMILIES = {
    **{f"hypercube, I(T+n; X), snr {snr}": hypercube(snr, "X") for snr in (0.1, 1, 4)},
    **{f"hypercube, I(T+n; Y), snr {snr}": hypercube(snr, "Y") for snr in (0.1, 1, 4)},
    "8 far clusters in 16 dimensions": clusters,
    **{f"two points, snr {snr}": two_points(snr) for snr in (0.25, 1, 4)},
    **{f"normal layer of {d} read with noise": normal_layer(d) for d in (1, 4, 16)},
    **{f"normal, {d} + {d}, rho {rho}": student(d, rho) for d, rho in ((1, 0.5), (1, 0.9), (3, 0.7), (10, 0.5))},
    **{f"Student-t (3), {d} + {d}, rho .7": student(d, 0.7, 3) for d in (1, 3)},
}

# -- estimators: None where one does not take the variables --------------------------------------------------------

Estimator = Callable[[Case, torch.Generator], float | None]


def channel(case: Case, generator: torch.Generator) -> float | None:
    if case.layer is None:
        return None
    args, settings = (case.layer, case.labels), {"noise": case.noise, "generator": generator}
    draws = [channel_information(*args, **settings) for _ in range(DRAWS)]
    return float(np.mean([(found.y or found.x).value for found in draws]))


def rate(case: Case, generator: torch.Generator) -> float | None:
    return None if case.layer is None or case.other is None else coding_rate(case.layer, noise=case.noise).upper


def neighbours(case: Case, generator: torch.Generator) -> float | None:
    if case.labels is not None:
        return ross_information(case.reading, case.labels).value
    return None if case.other is None else ksg_information(case.reading, case.other).value


def decodable(case: Case, generator: torch.Generator) -> float | None:
    if case.labels is not None:
        return decodable_information(case.reading, case.labels).value
    if case.other is None or case.other.shape[1] > 1:
        return None
    return decodable_information(case.reading, case.other[:, 0], continuous=True).value


def scikit_learn(case: Case, generator: torch.Generator) -> float | None:
    """One feature at a time, so single ones only."""
    if case.reading.shape[1] > 1:
        return None
    if case.labels is not None:
        return mutual_info_classif(case.reading.numpy(), case.labels.numpy(), random_state=0)[0] / math.log(2)
    return mutual_info_regression(case.reading.numpy(), case.other[:, 0].numpy(), random_state=0)[0] / math.log(2)


def npeet(package: Any, case: Case) -> float | None:
    if case.labels is not None:
        return package.micd(case.reading.numpy(), case.labels.numpy()[:, None], warning=False)
    return package.mi(case.reading.numpy(), case.other.numpy())


def infomeasure(package: Any, case: Case) -> float | None:
    """KSG between vectors; it has no class variable."""
    if case.other is None:
        return None
    return package.mutual_information(case.reading.numpy(), case.other.numpy(), approach="ksg", k=3, base=2)


def ennemi(package: Any, case: Case) -> float | None:
    """One feature at a time, so single ones only."""
    if case.reading.shape[1] > 1:
        return None
    y = case.other[:, 0] if case.labels is None else case.labels
    found = package.estimate_mi(y.numpy(), case.reading.numpy(), discrete_y=case.labels is not None)
    return float(np.asarray(found)[0, 0]) / math.log(2)


OURS: dict[str, Estimator] = {
    "channel": channel,
    "coding rate": rate,
    "KSG / Ross": neighbours,
    "decodable": decodable,
}
PACKAGES = {"npeet_plus": npeet, "infomeasure": infomeasure, "ennemi": ennemi}


def others() -> Iterator[tuple[str, Estimator]]:
    yield "scikit-learn", scikit_learn
    for name, estimate in PACKAGES.items():
        try:
            package = importlib.import_module(name)
        except ImportError as error:
            print(f"{name} is left out: {error}")
            continue
        yield name, lambda case, generator, package=package, estimate=estimate: estimate(package, case)


def errors(make: Callable[[torch.Generator], Case], estimators: dict[str, Estimator], repeats: int) -> tuple:
    """Truth, and the root mean square error of each estimator that takes the variables."""
    squares: dict[str, list[float]] = {}
    for seed in range(repeats):
        case = make(torch.Generator().manual_seed(seed))
        for name, estimate in estimators.items():
            value = estimate(case, torch.Generator().manual_seed(1000 + seed))
            if value is not None:
                squares.setdefault(name, []).append((value - case.truth) ** 2)
    return case.truth, {name: math.sqrt(np.mean(s)) for name, s in squares.items()}


# -- errors --------------------------------------------------------------------------------------------------------

Source = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]  # (rows, generator) -> activations and classes


def far_class(distance: float) -> Source:
    """About 2 % of the rows in a class at this distance, which determines the variance."""

    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        y = (torch.rand(n, generator=generator) < 0.02).long()
        return torch.randn(n, 16, generator=generator) + distance / 4 * y[:, None], y

    return draw


def lognormal_norms(spread: float) -> Source:
    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        z = torch.nn.functional.normalize(torch.randn(n, 16, generator=generator))
        return z * (spread * torch.randn(n, 1, generator=generator)).exp(), torch.randint(4, (n,), generator=generator)

    return draw


def relu_rows(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    weight = torch.randn(16, 32, generator=torch.Generator().manual_seed(5)) / 4
    x = torch.randn(n, 16, generator=generator)
    return (x @ weight).relu(), (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()


SOURCES: dict[str, tuple[Source, float, str]] = {
    "2 % of the rows in a far class": (far_class(100), 0.2, "relative"),
    "the same, noise 0.05": (far_class(100), 0.05, "relative"),
    "the same, nearer class": (far_class(25), 0.2, "relative"),
    "the same, absolute noise": (far_class(100), 3.0, "absolute"),
    "lognormal norms, s = 1": (lognormal_norms(1), 0.2, "relative"),
    "lognormal norms, s = 1.5": (lognormal_norms(1.5), 0.2, "relative"),
    "lognormal norms, s = 1, absolute noise": (lognormal_norms(1), 0.5, "absolute"),
    "ReLU rows": (relu_rows, 0.2, "relative"),
    "ReLU rows, noise 0.5": (relu_rows, 0.5, "relative"),
    "ReLU rows, absolute noise, near the ceiling": (relu_rows, 0.5, "absolute"),
}


def normal(n: int) -> Tensor:
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(1))


def far_rows(n: int, k: int) -> Tensor:
    return (torch.arange(n) < k).float()[:, None]


FIXED: dict[str, tuple[Tensor, float]] = {
    **{f"{n} normal rows, noise {noise}": (normal(n), noise) for n in (4, 8, 16, 64) for noise in (0.15, 0.4)},
    "512 normal rows, noise 0.1 (97 % of the ceiling)": (normal(512), 0.1),
    "512 normal rows, noise 0.06 (99.7 %)": (normal(512), 0.06),
    "512 normal rows, noise 0.2": (normal(512), 0.2),
    "1 far row of 1,000, noise 9.5": (far_rows(1000, 1), 9.5),
    "10 far rows of 510, noise 2": (far_rows(510, 10), 2.0),
    "100 far rows of 400, noise 1": (far_rows(400, 100), 1.0),
}


def parts(found: list[Any], which: str, error: str) -> tuple[np.ndarray, np.ndarray]:
    estimates = [getattr(result, which) for result in found]
    return np.array([e.value for e in estimates]), np.array([getattr(e, error) for e in estimates])


def print_errors(repeats: int) -> None:
    print("| rows of the source | N | about | mean | sd | median error | NaN | coverage of +- 2 |")
    print("|---|---|---|---|---|---|---|---|")
    for (name, (draw, noise, convention)), n in itertools.product(SOURCES.items(), (512, 128)):
        found = []
        for seed in range(repeats):
            generator = torch.Generator().manual_seed(seed)
            z, y = draw(n, generator)
            settings = {"noise": noise, "convention": convention, "subsample_se": True, "generator": generator}
            found.append(channel_information(z, y, **settings))
        for which in "xy":
            values, errors = parts(found, which, "subsample_se")
            known = ~np.isnan(errors)
            inside = (abs(values - values.mean()) < 2 * errors)[known].mean() if known.any() else math.nan
            middle = np.median(errors[known]) if known.any() else math.nan
            cells = f"{values.mean():.3f} | {values.std():.3f} | {middle:.3f} | {1 - known.mean():.2f} | {inside:.3f}"
            print(f"| {name} | {n} | {which.upper()} | {cells} |", flush=True)
    print("\n| fixed rows | about | mean | sd | mean error | NaN | beyond 3 |\n|---|---|---|---|---|---|---|")
    for name, (z, noise) in FIXED.items():
        generator = torch.Generator().manual_seed(0)
        y = torch.arange(len(z)) % 2 if z.shape[1] > 1 else z[:, 0].long()
        found = [channel_information(z, y, noise=noise, generator=generator) for _ in range(repeats)]
        for which in "xy":
            values, errors = parts(found, which, "se")
            known = ~np.isnan(errors)
            beyond = (abs(values - values.mean()) > 3 * errors)[known].mean() if known.any() else math.nan
            middle = errors[known].mean() if known.any() else math.nan
            cells = f"{values.mean():.4f} | {values.std():.4f} | {middle:.4f} | {1 - known.mean():.2f} | {beyond:.3f}"
            print(f"| {name} | {which.upper()} | {cells} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--errors", action="store_true", help="measure the standard errors instead")
    args = parser.parse_args()
    if args.errors:
        torch.set_num_threads(1)
        return print_errors(args.repeats)
    warnings.simplefilter("ignore")  # those of other packages
    theirs = dict(others())
    estimators = {**OURS, **theirs}
    print(f"Root mean square error in bits, {args.repeats} samples of 800 to 1,024 rows. Ours: {', '.join(OURS)};")
    print(f"recommended is the channel ({DRAWS} draws) where the noise is one's own, else nearest neighbours.\n")
    print(f"| family | truth | {' | '.join(estimators)} | recommended / best other |")
    print(f"|---|---|{'---|' * len(estimators)}---|")
    for family, make in FAMILIES.items():
        truth, found = errors(make, estimators, args.repeats)
        best = min((found[name] for name in theirs if name in found), default=math.nan)
        ratio = found.get("channel", found["KSG / Ross"]) / best
        cells = [f"{found[name]:.3f}" if name in found else "-" for name in estimators]
        print(f"| {family} | {truth:.3f} | {' | '.join(cells)} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
