"""Other tools beside `probe` on the same small tasks: `OMP_NUM_THREADS=1 python docs/benchmarks/rivals.py --write`.

docs/rivals.md has the versions to install. A tool that is missing or fails is printed with its error. `--write` puts
the table into that page.
"""

import argparse
import copy
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import probe

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- table of rivals.py -->", "<!-- end of the table -->"
TOOLS = ("probe", "monitorch", "torch-module-monitor", "nngeom", "regioncam", "ruptures")
STEPS, EVERY = 400, 20
NOT_OFFERED = "not in its documentation"

images, labels = load_digits(return_X_y=True)
X, Y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
DATA = {"train": (X[:500], Y[:500]), "test": (X[500:], Y[500:])}


def network() -> nn.Sequential:
    """Batch norm and dropout: a tool that runs a forward pass of its own changes them unless it takes care."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))


@contextmanager
def attached_probe(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path):
    probes = probe.ProbeSet([probe.ActivationsProbe(), probe.MutualInfoProbe()])
    probes.attach(model, DATA, optimizer=optimizer, schedule=probe.every(EVERY), path=folder / "run.nc")
    yield lambda when, step: None
    probes.detach()


@contextmanager
def attached_monitorch(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path):
    from monitorch import lens
    from monitorch.inspector import PyTorchInspector
    from monitorch.visualizer import RecorderVisualizer

    chosen = [lens.OutputActivation(include=(nn.Linear,)), lens.ParameterNorm(), lens.ParameterGradientGeometry()]
    with RecorderVisualizer(os.devnull) as recorder:
        inspector = PyTorchInspector(chosen, module=model, visualizer=recorder)
        yield lambda when, step: inspector.tick_epoch() if when == "end" and step % EVERY == 0 else None


@contextmanager
def attached_module_monitor(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path):
    from torch_module_monitor import ModuleMonitor

    monitor = ModuleMonitor(monitor_step_fn=lambda step: step % EVERY == 0)
    monitor.set_module(model)
    monitor.add_activation_metric("mean", lambda x: x.mean())
    monitor.add_parameter_metric("norm", lambda x: x.norm())
    monitor.add_gradient_metric("norm", lambda x: x.norm())

    def look(when: str, step: int) -> None:
        if when == "begin":
            monitor.begin_step(step)
        elif when == "gradients":
            monitor.monitor_parameters()
            monitor.monitor_gradients()
        else:
            monitor.end_step()

    yield look
    assert monitor.get_all_metrics(), "nothing was recorded"


def train(attach: Callable | None, folder: Path, checkpoints: list[nn.Module] | None = None) -> str:
    """Return the digest of the final parameters and buffers."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batches = torch.Generator().manual_seed(1)
    with (attach or nothing)(model, optimizer, folder) as look:
        for step in range(STEPS):
            look("begin", step)
            rows = torch.randint(500, (64,), generator=batches)
            optimizer.zero_grad()
            cross_entropy(model(X[rows]), Y[rows]).backward()
            look("gradients", step)
            optimizer.step()
            look("end", step)
            if checkpoints is not None and step % EVERY == 0:
                checkpoints.append(copy.deepcopy(model))
    return hashlib.sha256(b"".join(v.numpy().tobytes() for v in model.state_dict().values())).hexdigest()


@contextmanager
def nothing(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path):
    yield lambda when, step: None


def equal_training(folder: Path) -> dict[str, Callable[[], str]]:
    alone = train(None, folder)

    def compare(attach: Callable, lines: str) -> Callable[[], str]:
        return lambda: f"{'equal bit by bit' if train(attach, folder) == alone else '**differs**'}; {lines}"

    return {
        "probe": compare(attached_probe, "no line in the loop"),
        "monitorch": compare(attached_monitorch, "1 line in the loop"),
        "torch-module-monitor": compare(attached_module_monitor, "4 lines in the loop"),
    }


def phases() -> dict[str, Callable[[], str]]:
    """Find the phases of the recorded demo, whose train accuracy passes .99 at 147 and test loss falls from 511 on."""
    series = probe.load(ROOT / "reference" / "results" / "demo.nc")
    steps, loss = series["step"].values, series["test_loss"].values

    def ours() -> str:
        markers = probe.PhaseDetector().fit(series).markers_.isel(run=0).sel(marker=["fit_end", "descent_onset", "end"])
        found = [f"{m} {s:,.0f}" for m, s in zip(markers["marker"].values, markers["step"].values, strict=True)]
        return f"{', '.join(found)}, with intervals and names"

    def cuts() -> str:
        import ruptures

        grid = np.unique(np.round(np.logspace(0, np.log10(steps[-1]), 100)))
        at = ruptures.Pelt(model="l2", jump=1, min_size=3).fit_predict(np.interp(grid, steps, loss), pen=3.0)
        return f"cuts of the test loss at steps {', '.join(f'{grid[i - 1]:,.0f}' for i in at[:-1])}, without names"

    def turns() -> str:
        import nngeom

        models: list[nn.Module] = []
        train(None, Path(), models)
        trajectory = nngeom.Trajectory.from_models([nngeom.Model(m, loss_fn=batch_loss) for m in models])
        return (
            f"other meaning: reversals of the path of the weights; on {len(models)} checkpoints of the digits: "
            f"{len(trajectory.phase_changes())}"
        )

    return {"probe": ours, "ruptures": cuts, "nngeom": turns}


def batch_loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return cross_entropy(model.eval()(batch[0]), batch[1])


def regions() -> dict[str, Callable[[], str]]:
    """Count the regions of 32 units, without and with a scaled copy of each. Copies add no line: 166 both times."""
    torch.manual_seed(0)
    single = nn.Linear(2, 32)
    doubled = nn.Linear(2, 64)
    scale = 2.0 ** torch.randint(-2, 3, (32,))  # powers of two: float32 rounds no copy
    with torch.no_grad():
        doubled.weight.copy_(torch.cat([single.weight, single.weight * scale[:, None]]))
        doubled.bias.copy_(torch.cat([single.bias, single.bias * scale]))
    nets = [nn.Sequential(layer, nn.ReLU()) for layer in (single, doubled)]

    def ours() -> str:
        from probe.geometry import input_plane, partition_slice, perceptron, square

        made = [perceptron([(net[0].weight.detach(), net[0].bias.detach())], last=True) for net in nets]
        return counted([partition_slice(one, input_plane(square(1.0))).n_regions for one in made])

    def theirs() -> str:
        import regioncam

        found = []
        for net in nets:
            drawing = regioncam.Regioncam(size=1.0)
            drawing.add(net)
            found.append(drawing.num_faces)
        return counted(found)

    return {"probe": ours, "regioncam": theirs}


def counted(found: list[int]) -> str:
    return f"{found[0]} regions; {found[1]} with copies"


def reports(folder: Path) -> dict[str, Callable[[], str]]:
    def ours() -> str:
        from probe.report import write_report

        source = ROOT / "reference" / "results" / "demo.nc"
        path = write_report(source, folder / "ours.html", overwrite=True)
        return f"a training: linked charts and tables, {path.stat().st_size / 1e6:.1f} MB"

    def theirs() -> str:
        import nngeom

        models: list[nn.Module] = []
        train(None, folder, models)
        wrapped = [nngeom.Model(model, loss_fn=batch_loss) for model in models]
        report = nngeom.analyze(wrapped[-1], DATA["train"], checkpoints=wrapped, depth="standard")
        path = Path(report.to_html(str(folder / "theirs.html")) or folder / "theirs.html")
        return f"a model: curvature, sharpness, path of the weights, {path.stat().st_size / 1e6:.1f} MB"

    return {"probe": ours, "nngeom": theirs}


def hessian() -> dict[str, Callable[[], str]]:
    def theirs() -> str:
        import nngeom

        model = network()
        start = time.process_time()
        spectrum = nngeom.hessian_spectrum(nngeom.Model(model, loss_fn=batch_loss), DATA["train"], k=3)
        values = ", ".join(f"{value:.2f}" for value in spectrum.eigenvalues[:3])
        return f"{values} ({time.process_time() - start:.1f} CPU s)"

    return {"nngeom": theirs}


def gradients(folder: Path) -> dict[str, Callable[[], str]]:
    """Both tools of this row have recorded gradients, if the training above went through."""
    attached = {"monitorch": attached_monitorch, "torch-module-monitor": attached_module_monitor}
    return {tool: lambda attach=attach: train(attach, folder) and "works" for tool, attach in attached.items()}


def entry(run: Callable[[], str] | None) -> str:
    if run is None:
        return NOT_OFFERED
    try:
        return run()
    except Exception as error:
        return f"error: {type(error).__name__}: {str(error).splitlines()[0][:90] if str(error) else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/rivals.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        rows = {
            "a training with it, beside one without": equal_training(Path(name)),
            "phases of a training": phases(),
            "exact linear regions of 32 units (true: 166), and with a scaled copy of each (true: 166)": regions(),
            "one page to send": reports(Path(name)),
            "norms of the gradients": gradients(Path(name)),
            "the three largest eigenvalues of the Hessian": hessian(),
        }
        made = [("task", *(f"{tool} {_version(tool)}" for tool in TOOLS)), ("---",) * (len(TOOLS) + 1)]
        made += [(task, *(entry(runs.get(tool)) for tool in TOOLS)) for task, runs in rows.items()]
    table = "\n".join(f"| {' | '.join(row)} |" for row in made)
    print(table)
    if args.write:
        page = ROOT / "docs" / "rivals.md"
        before, rest = page.read_text(encoding="utf-8").split(BEGIN)
        page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


def _version(tool: str) -> str:
    try:
        return version("probe-dynamics" if tool == "probe" else tool)
    except PackageNotFoundError:
        return "is missing"


if __name__ == "__main__":
    main()
