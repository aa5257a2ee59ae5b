"""Odds of the settings that arXiv:2504.12700 may have used: `python docs/benchmarks/paper_settings.py`.

The seeds of a setting predict a few numbers of a further run at steps where the published curve has points: accuracy on
the training batch and test accuracy (logit), and test loss (logarithm). The prediction is a multivariate Student t. The
covariance of seeds is pooled over the settings with two blocks and dropout, so that settings with two seeds can be
compared. The odds of a setting against the default are the ratio of the densities of the published run; all settings
have the same prior probability. The numbers were chosen before the odds were computed. They are few, because there are
few seeds.
"""

import argparse

import numpy as np
import xarray as xr
from scipy.stats import multivariate_t

from reference.claims.two_phases import Evidence, published

SETTINGS = {
    "paper-division": "default",
    "paper-beta2": "Adam's second beta .999",
    "paper-decay-.01": "weight decay .01",
    "paper-decay-1": "weight decay 1",
    "paper-epochs": "batches without replacement",
    "paper-post-norm": "norms after each addition",
    "paper-no-dropout": "no dropout",
    "paper-relu": "ReLU",
    "paper-depth-1": "one block",
    "paper-depth-4": "four blocks",
}
POINTS = (
    ("train_batch_accuracy", 1600),
    ("test_accuracy", 1600),
    ("test_loss", 2600),
    ("test_accuracy", 5000),
    ("test_loss", 10_000),
)
LAST = 10_000  # last step of the shortest setting that is compared there; later evaluations of the others are not used
ALIKE = ("paper-division", "paper-beta2", "paper-decay-.01", "paper-epochs", "paper-post-norm", "paper-relu")


def scaled(name: str, values: np.ndarray) -> np.ndarray:
    if name == "test_loss":
        return np.log(values)
    inside = np.clip(values, 0.5 / 512, 1 - 0.5 / 512)  # a batch of 512 cannot distinguish .999 from 1
    return np.log(inside / (1 - inside))


def numbers(curves: xr.Dataset) -> np.ndarray:
    """Return the values (run, points): means of the curve within 10 % of each step, since published points scatter."""
    found = []
    for name, step in POINTS:
        curve = curves[name].dropna("step", how="all").sel(step=slice(None, LAST))
        near = curve.sel(step=slice(0.9 * step, 1.1 * step))
        values = near.mean("step") if near.sizes["step"] else curve.interp(step=step)
        found.append(scaled(name, np.atleast_1d(values.values)))
    return np.array(found).T


def log_odds(groups: dict[str, np.ndarray], target: np.ndarray) -> dict[str, float]:
    """Return the log odds of each setting against the default, from the numbers that its runs have."""
    alike = [rows for name, rows in groups.items() if name in ALIKE and np.isfinite(rows).all()]
    freedom = sum(len(rows) - 1 for rows in alike)
    scatter = sum((rows - rows.mean(0)).T @ (rows - rows.mean(0)) for rows in alike)

    def log_density(rows: np.ndarray, there: np.ndarray) -> float:
        k = there.sum()
        shape = scatter[np.ix_(there, there)] / (freedom - k + 1) * (1 + 1 / len(rows))
        return float(multivariate_t(rows[:, there].mean(0), shape, df=freedom - k + 1).logpdf(target[there]))

    found = {}
    for name, rows in groups.items():
        there = np.isfinite(rows).all(0)
        found[name] = log_density(rows, there) - log_density(groups["paper-division"], there)
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    evidence, groups = Evidence(), {}
    for name in SETTINGS:
        try:
            groups[name] = numbers(evidence.ours(name).curves)
        except FileNotFoundError as error:
            print(f"not compared: {error}")
    published_numbers = numbers(published("division").expand_dims("run"))[0]
    found = log_odds(groups, published_numbers)
    print("| setting | seeds | odds against the default | " + " | ".join(f"{n}, {s:,}" for n, s in POINTS) + " |")
    print("|---" * (3 + len(POINTS)) + "|")
    print("| published | 1 | | " + " | ".join(f"{value:.2f}" for value in published_numbers) + " |")
    for name, rows in groups.items():
        odds = np.exp(found[name])
        text = f"{odds:.2g}" if odds > 1e-4 else "less than 1e-4"
        spread = rows.std(0, ddof=1) if len(rows) > 1 else np.full(rows.shape[1], np.nan)
        pairs = zip(rows.mean(0), spread, strict=True)
        cells = " | ".join("-" if np.isnan(m) else f"{m:.2f}" + f" ({s:.2f})" * int(s > 0) for m, s in pairs)
        print(f"| {SETTINGS[name]} | {len(rows)} | {text} | {cells} |")
    print("\nMean (standard deviation) over seeds of logits of accuracies and of logarithms of losses.")
    print("A dash means that the seeds were not trained to this step.")


if __name__ == "__main__":
    main()
