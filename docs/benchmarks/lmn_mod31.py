"""The published curve of the linear mapping number: ``python docs/benchmarks/lmn_mod31.py`` prints Markdown tables.

Addition modulo 31 as in arXiv:2310.05918, section 3: three SiLU layers, AdamW with weight decay .2, full batch, 20,000
steps, 80 % of the table trained on; lines from the first hidden layer to the logits between all 961 inputs, 21 points.
The paper leaves open the initialisation (torch's), the embedding (of 32 numbers for each operand, one table for both)
and whether the hidden layer is read before or after its activation (after). The probe is attached as to any training.
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from probe import LMNProbe

P = 31
TABLE = (0, 100, 200, 500, 1000, 2000, 3000, 4000, 5000, 6000, 7600, 9000, 11000, 13000, 15000, 17500, 20000)
# found by another program that shares no code with this one, from the same initial weights as seed 0, it seems
ELSEWHERE = {
    0: 27.9, 100: 55.7, 200: 66.4, 500: 67.4, 1000: 66.7, 2000: 63.8, 3000: 59.0, 4000: 52.1, 5000: 43.3, 6000: 34.5,
    7600: 26.0, 9000: 22.1, 11000: 18.2, 15000: 14.8, 17500: 10.2, 20000: 3.8,
}  # fmt: skip


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(P, 32)
        self.net = nn.Sequential(
            nn.Linear(64, 100), nn.SiLU(), nn.Linear(100, 100), nn.SiLU(), nn.Linear(100, P)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.embed(x).flatten(1))


def trained(seed: int, steps: int, probe: LMNProbe) -> tuple[xr.Dataset, int | None]:
    """What was observed, and the step at which 99 % of the test inputs are right."""
    torch.manual_seed(seed)
    x = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    y = x.sum(1) % P
    order = torch.randperm(len(x))
    train, test = order[: round(0.8 * len(x))], order[round(0.8 * len(x)) :]
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.2)
    looked = {0, *TABLE, *np.geomspace(200, 20000, 25).round().astype(int).tolist()}
    probe.attach(model, (x, y), batch_size=4096, on_error="raise")
    general = None
    for step in range(steps + 1):
        if step in looked or (general is None and step % 50 == 0):
            with torch.no_grad():
                logits = model(x)
            if general is None and (logits[test].argmax(1) == y[test]).float().mean() >= 0.99:
                general = step
        if step in looked:
            norm = sum(p.detach().square().sum() for p in model.parameters()) ** 0.5
            losses = {"train_loss": cross_entropy(logits[train], y[train])}
            losses |= {"test_loss": cross_entropy(logits[test], y[test]), "weight_norm": norm}
            probe.observe(step, **losses)
        optimizer.zero_grad()
        cross_entropy(model(x[train]), y[train]).backward()
        optimizer.step()
    return probe.detach().series_, general


def report(series: xr.Dataset, general: int | None) -> None:
    number = series["linear_mapping_number"].isel(split=0, layer=0, drop=True)
    known = ELSEWHERE if number.attrs["n_rows"] == P * P else {}
    weighted = series["linear_mapping_number_weighted"].isel(split=0, layer=0, drop=True)
    print("| step | LMN | elsewhere | weighted | test loss | weight norm |\n|---|---|---|---|---|---|")
    for step in (step for step in TABLE if step in number["step"]):
        at = {"step": step}
        print(
            f"| {step:,} | {number.sel(at).item():.1f} | {known.get(step, '')} | {weighted.sel(at).item():.2f} "
            f"| {series['test_loss'].sel(at).item():.2f} | {series['weight_norm'].sel(at).item():.1f} |"
        )
    told = "not reached" if general is None else f"{general:,}"
    print(f"\nTest accuracy .99 at step {told}.")
    between = series.sel(step=slice(200, general))
    loss = between["test_loss"].values
    for name, curve in {"LMN": number, "weighted LMN": weighted, "weight norm": series["weight_norm"]}.items():
        values = curve.sel(step=slice(200, general)).values
        print(f"Correlation with test loss, step 200 to there ({len(loss)} steps), {name}: ", end="")
        print(f"{np.corrcoef(values, loss)[0, 1]:.3f}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--samples", type=int, default=P * P)
    parser.add_argument("--points", type=int, default=21)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    for seed in options.seeds:
        probe = LMNProbe(max_samples=options.samples, n_points=options.points, max_rows=10**8)
        start = time.process_time()
        series, general = trained(seed, options.steps, probe)
        cost = time.process_time() - start
        print(
            f"\nSeed {seed}, N={options.samples}, {options.points} points, layer {series['layer'].values[0]}; ",
            end="",
        )
        print(f"{cost:.0f} CPU seconds, of which {series['seconds'].sum().item():.0f} s (wall) observing.\n")
        report(series, general)


if __name__ == "__main__":
    main()
