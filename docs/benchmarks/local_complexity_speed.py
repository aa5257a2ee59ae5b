"""What local complexity costs: ``python docs/benchmarks/local_complexity_speed.py`` prints Markdown tables.

One thread, CPU time of the process, least of several runs that take turns; memory: growth of the resident peak (Linux)
in a process of its own. The other version is the plain one: hooks on the counted layers, every vertex through the whole
model, at the best of several batch sizes; it counts the signs in the same way. Counts are compared at every point.
"By hand" is a bare loop over the layers of the multilayer perceptron, with the same arithmetic and nothing else.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import torch
from sklearn.base import clone
from torch import Tensor, nn

from probe import LocalComplexityProbe, generator
from probe.forward import trace
from probe.geometry import orthonormal_frame, sign_changes

P, RADIUS = 25, 0.05
BATCHES = {"MLP": (16, 32, 64, 256, 1000), "ResNet-18": (1, 4), "transformer": (1, 4)}  # points, of 2 P vertices each


class Residual(nn.Module):
    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.one, self.norm1 = nn.Conv2d(inside, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.two, self.norm2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.act1, self.act2 = nn.ReLU(), nn.ReLU()
        self.way = nn.Identity() if stride == 1 else nn.Conv2d(inside, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, width, h / stride, w / stride)."""
        return self.act2(self.way(x) + self.norm2(self.two(self.act1(self.norm1(self.one(x))))))


class Tokens(nn.Module):
    def __init__(self, d: int = 512, depth: int = 6, length: int = 32) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(1000, d), nn.Parameter(torch.randn(length, d))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(d, 8, 4 * d, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        self.head = nn.Linear(d, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """(n, T) -> (n, T, 1000)."""
        h = self.embed(x) + self.place
        for block in self.blocks:
            h = block(h)
        return self.head(h)


def resnet() -> nn.Module:
    widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
    blocks = [Residual(*sizes) for sizes in [*widths, (512, 512, 1)]]
    first = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def mlp() -> nn.Module:
    layers = [nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(200, 10))


def case(name: str, points: int, dtype: torch.dtype) -> tuple[nn.Module, Tensor, list[str], str]:
    """Model, inputs, counted layers, stem."""
    torch.manual_seed(0)
    if name == "MLP":
        return mlp().to(dtype), torch.rand(points, 784, dtype=dtype), ["0", "2", "4", "6"], "<input>"
    if name == "ResNet-18":
        model, x = resnet().to(dtype).eval(), torch.rand(points, 3, 32, 32, dtype=dtype)
        return model, x, [site for site in trace(model, x[:2]).activations], "<input>"
    model, x = Tokens().to(dtype).eval(), torch.randint(1000, (points, 32))
    return model, x, [f"blocks.{i}.linear1" for i in range(6)], "embed"


def plain(model: nn.Module, x: Tensor, sites: Sequence[str], stem: str, batch: int) -> dict[str, Tensor]:
    """Every vertex through the whole model, with hooks; {site: counts (n,)}."""
    found: dict[str, list[Tensor]] = {site: [] for site in sites}
    modules, handles = dict(model.named_modules()), []

    def count(site: str, z: Tensor) -> None:
        found[site].append(sign_changes(z.reshape(-1, 2 * P, *z.shape[1:])))

    for site in sites:
        if ":" in site:
            hook = modules[site.split(":")[0]].register_forward_pre_hook(lambda m, a, site=site: count(site, a[0]))
        else:
            hook = modules[site].register_forward_hook(lambda m, a, z, site=site: count(site, z))
        handles.append(hook)
    with torch.no_grad():
        start = x if stem == "<input>" else modules[stem](x)
        frame = orthonormal_frame(P, start[0].numel(), generator=generator(0)).to(start)
        offsets = RADIUS * torch.cat([frame, -frame]).view(-1, *start.shape[1:])
        now: list[Tensor] = []
        if stem != "<input>":
            handles.append(modules[stem].register_forward_hook(lambda m, a, z: now[0]))
        for at in torch.arange(len(x)).split(batch):
            now[:] = [(start[at][:, None] + offsets).flatten(0, 1)]
            model(now[0] if stem == "<input>" else x[at].repeat_interleave(2 * P, 0))
    for handle in handles:
        handle.remove()
    return {site: torch.cat(values) for site, values in found.items()}


@torch.no_grad()
def by_hand(model: Any, x: Tensor, block: int = 40) -> list[Tensor]:
    """The counts of a chain of linear layers and ReLUs, the first affine map computed once: nothing but arithmetic."""
    first, *others = model
    steps = RADIUS * orthonormal_frame(P, x.shape[1], generator=generator(0)).to(x) @ first.weight.T
    base, offsets = first(x), torch.cat([steps, -steps])[:, None]
    counts = [sign_changes(base + torch.stack([offsets.amin(0), offsets.amax(0)]), 0)]
    for points in base.split(block):
        z = (points + offsets).flatten(0, 1)
        for layer in others:
            z = z.relu_() if isinstance(layer, nn.ReLU) else layer(z)
            if not isinstance(layer, nn.ReLU):
                counts.append(sign_changes(z.view(2 * P, -1, z.shape[1]), 0))
    return counts


def the_probe(sites: Sequence[str], stem: str) -> LocalComplexityProbe:
    """The probe that counts at these sites."""
    layers = [site.split(":")[0] for site in sites]
    probe = LocalComplexityProbe(layers=layers, radius=RADIUS, relative=False, n_directions=P, max_rows=10**9)
    return probe.set_params(stem=None if stem == "<input>" else stem)


def ours(model: nn.Module, x: Tensor, sites: Sequence[str], stem: str) -> Callable[[], object]:
    """One observation by the attached probe, with all that it does beside counting."""
    probe = the_probe(sites, stem).attach(model, (x, None), on_error="raise")
    steps = count()
    return lambda: probe.observe(next(steps))


def each_point(x: Tensor, probe: LocalComplexityProbe, model: nn.Module) -> dict[str, Tensor]:
    """The probe's counts at each single point, {site: (n,)}: a split for each point, which holds the point twice."""
    data = {str(i): (torch.stack([row, row]), None) for i, row in enumerate(x)}
    found = clone(probe).fit(model, data).series_["local_complexity"].isel(step=0)
    return {str(site): torch.from_numpy(found.sel(layer=site).values) for site in found["layer"].values}


def times(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """CPU seconds of each, the least of several; the calls take turns."""
    found = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            found[name] = min(found[name], time.process_time() - start)
    return found


def peak(name: str, points: int, dtype: torch.dtype, batch: int) -> float:
    """Growth of the peak resident memory in MiB by one observation (batch 0) or one plain pass, in a fresh process."""
    code = f"""
import re, runpy, torch
from pathlib import Path
torch.set_num_threads(1)
names = runpy.run_path({__file__!r}, run_name="measured")
def resident(which):
    return int(re.search(which + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
small = names["case"]({name!r}, 2, {dtype})
names["ours"](*small)()
given = names["case"]({name!r}, {points}, {dtype})
observe = names["ours"](*given)
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
names["plain"](*given, {batch}) if {batch} else observe()
print(resident("VmHWM") - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def row(name: str, points: int, dtype: torch.dtype, repeats: int) -> str:
    given = case(name, points, dtype)
    calls: dict[str, Callable[[], object]] = {
        str(batch): lambda batch=batch: plain(*given, batch) for batch in BATCHES[name] if batch <= points
    }
    bare: dict[str, Callable[[], object]] = {}
    if name == "MLP":
        bare["by hand"] = lambda: by_hand(given[0], given[1])
    found = times({**calls, "ours": ours(*given), **bare}, repeats)
    batch = min(calls, key=lambda key: found[key])
    one, other = plain(*given, int(batch)), each_point(given[1], the_probe(*given[2:]), given[0])
    same = torch.stack([one[site] == other[site] for site in one]).double().mean().item()
    hand = f"{found['by hand']:.3f} ({found[batch] / found['by hand']:.2f})" if bare else ""
    parameters = sum(parameter.numel() for parameter in given[0].parameters())
    return (
        f"| {name}, {parameters:,} parameters | {str(dtype).removeprefix('torch.')} | {points * 2 * P:,} | "
        f"{found[batch]:.3f} (batch {int(batch) * 2 * P}) | {found['ours']:.3f} | {found[batch] / found['ours']:.2f} | "
        f"{hand} | {same:.4%} | {peak(name, points, dtype, int(batch)):.0f} | {peak(name, points, dtype, 0):.0f} |"
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=25, help="runs of each, of which the least counts")
    parser.add_argument("--points", type=int, default=8, help="points of the two large models (82 in the budget)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread; P={P}, radius {RADIUS}\n")
    columns = ["model", "type", "rows", "plain, CPU s", "probe, CPU s", "ratio", "by hand, CPU s (ratio)"]
    columns += ["equal counts", "plain, MiB", "probe, MiB"]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for dtype in (torch.float32, torch.float64):
        print(row("MLP", 1000, dtype, options.repeats), flush=True)
    for name in ("ResNet-18", "transformer"):
        print(row(name, options.points, torch.float32, 2), flush=True)


if __name__ == "__main__":
    main()
