"""What probes cost in the loops of trainers, beside monitorch: ``python docs/benchmarks/trainers_speed.py``.

Trainings of one network by the same trainer take turns of 20 steps, each in a thread of its own: alone, with the
adapter, with the adapter and a budget, and with monitorch. Only the training whose turn it is runs, in one thread. All
times are CPU times.

Two trainings of one kind differ by up to 12 % on a busy machine, so that a ratio of their times cannot show 1 %. Times
within one training are compared instead:

- c, within the callbacks of the adapter, with attach and detach, which they call;
- a, within attach and detach alone;
- h, within the hooks on the optimizer, which make the observations;
- r, outside of all these.

Probes attached by hand take a + h, so that the ratios are (r + c + h) / (r + a + h) and (r + c + h) / r. They leave out
the dispatch of hooks by trainer and optimizer, and caches that an observation empties. Monitorch has hooks in the
forward and the backward pass, so its ratio is that of turns to those of the training alone, with quartiles.

Only the training with a budget makes all 10,000 steps, once. The others make 320, three times on the small network,
once on the large one. The larger network is trained with Accelerate only, whose loop adds least to a step.

Choice of the probes: on the small network an observation of the default set takes 65 ms, of mutual information 42 ms,
of cheap statistics of activations 6.5 ms. These times were known before, and the cheapest was taken. Monitorch has its
cheapest setting: one lens, the norms of the outputs of linear layers, every 10 steps, and no file.

A budget counts the CPU time of its own thread here, since wall time would include the turns of the others. ``--write``
puts the rows into trainers_speed.json and the table into docs/trainers.md. Needs lightning, transformers, accelerate,
skorch and monitorch.
"""

import argparse
import json
import logging
import os
import random
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any
from unittest import mock

os.environ["OMP_NUM_THREADS"] = "1"  # also of threads that are made later

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import probe
from probe import ActivationsProbe, ProbeSet

PAGE = Path(__file__).parents[1] / "trainers.md"
START, END = "<!-- speed: start -->", "<!-- speed: end -->"
RESULTS = Path(__file__).with_suffix(".json")
TURN, BATCH, ROWS, SHORT = 20, 64, 1024, 320
WIDTHS, REPEATS = {"small": 128, "large": 896}, {"small": 3, "large": 1}
BARS = {"adapter": 1.01, "budget": 1.02}


class Turns:
    """A training in a thread of its own, which waits for its turn at each forward pass in training mode."""

    now: "Turns"

    def __init__(self, train: Callable[[], None], tick: Callable[[], None] | None = None) -> None:
        self.go, self.stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.steps, self.seconds, self.done, self.tick = 0, list[float](), False, tick
        self.error: BaseException | None = None
        self.inside = dict.fromkeys(("callbacks", "attach", "hooks"), 0.0)  # seconds
        self.nested = set[str]()
        self.thread = threading.Thread(target=self._run, args=(train,), daemon=True)
        self.thread.start()

    def _run(self, train: Callable[[], None]) -> None:
        self.go.acquire()
        try:
            train()
        except BaseException as error:
            self.error = error
        self.done = True
        self.stopped.release()

    def turn(self) -> None:
        """Let the training make its next steps."""
        Turns.now = self
        start = time.process_time()
        self.go.release()
        self.stopped.acquire()
        self.seconds.append(time.process_time() - start)
        if self.error is not None:
            raise self.error

    def wait(self) -> None:
        """Count a step, within the thread of the training."""
        if self.tick is not None:
            self.tick()
        self.steps += 1
        if self.steps % TURN == 0:
            self.stopped.release()
            self.go.acquire()


def timed(kind: str, owner: type, *names: str) -> None:
    """Measure the time within methods of one kind, which can call each other."""
    for name in names:
        setattr(owner, name, measured(kind, getattr(owner, name)))


def measured(kind: str, own: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        turns = Turns.now
        if kind in turns.nested:
            return own(*args, **kwargs)
        turns.nested.add(kind)
        start = time.thread_time()
        try:
            return own(*args, **kwargs)
        finally:
            turns.inside[kind] += time.thread_time() - start
            turns.nested.remove(kind)

    return call


class Net(nn.Module):
    """Perceptron with two hidden layers, which waits for its turn."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = [nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        if self.training:
            Turns.now.wait()
        logits = self.layers(x)
        return logits if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}


def rows(n: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 64, generator=torch.Generator().manual_seed(n))
    return x, x[:, :10].argmax(1)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3)


def probes(budget: float | None = None) -> ProbeSet:
    return ProbeSet([ActivationsProbe(ranks=False)], budget=budget)


DATA = {"train": rows(256), "test": rows(255)}
EPOCH = ROWS // BATCH  # steps


# -- trainers: each takes a network, the number of steps, and None or the probes of the adapter ------------------------


def by_lightning(model: nn.Module, steps: int, way: Any) -> None:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = model

        def forward(self, x: Tensor) -> Any:
            return self.net(x)

        def training_step(self, batch: Any, index: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return adam(self)

    callback = None
    if way is not None:
        callback = probe.adapters.lightning.ProbeCallback(way, DATA, model="net")
    lightning.Trainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[callback] if callback else [],
    ).fit(Module(), DataLoader(TensorDataset(*rows(ROWS)), BATCH, shuffle=True))  # fmt: skip


def by_transformers(model: nn.Module, steps: int, way: Any) -> None:
    import transformers

    callback = None
    if way is not None:
        callback = probe.adapters.huggingface.ProbeCallback(way, DATA)
    x, y = rows(ROWS)
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder, max_steps=steps, per_device_train_batch_size=BATCH, use_cpu=True, report_to="none",
            disable_tqdm=True, save_strategy="no",
        )  # fmt: skip
        data = [{"x": one, "labels": label} for one, label in zip(x, y, strict=True)]
        callbacks = [callback] if callback else []
        used = transformers.Trainer(model, arguments, train_dataset=data, callbacks=callbacks)
        used.remove_callback(transformers.PrinterCallback)
        used.train()


def by_accelerate(model: nn.Module, steps: int, way: Any) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    loader = DataLoader(TensorDataset(*rows(ROWS)), BATCH, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, adam(model), loader)

    def loop() -> None:
        step = 0
        while step < steps:
            for x, y in loader:
                optimizer.zero_grad()
                accelerator.backward(F.cross_entropy(model(x), y))
                optimizer.step()
                step += 1
                if step == steps:
                    break

    if way is None:
        loop()
        return
    with probe.adapters.accelerate.ProbeContext(accelerator, way, DATA, model, optimizer):
        loop()


def by_skorch(model: nn.Module, steps: int, way: Any) -> None:
    import skorch

    callback = None
    if way is not None:
        callback = probe.adapters.skorch.ProbeCallback(way, DATA)
    x, y = rows(ROWS)
    skorch.NeuralNetClassifier(
        model, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.AdamW, lr=1e-3, max_epochs=steps // EPOCH,
        batch_size=BATCH, train_split=None, verbose=0, callbacks=[callback] if callback else [],
        iterator_train__shuffle=True,
    ).fit(x.numpy(), y.numpy())  # fmt: skip


TRAINERS = {
    "lightning": by_lightning,
    "transformers": by_transformers,
    "accelerate": by_accelerate,
    "skorch": by_skorch,
}


def training(train: Callable[..., None], network: str, steps: int, way: str, every: int) -> Turns:
    torch.manual_seed(0)
    model = Net(WIDTHS[network])
    if way == "monitorch":
        from monitorch.inspector import PyTorchInspector
        from monitorch.lens import OutputNorm
        from monitorch.visualizer import RecorderVisualizer

        recorder = RecorderVisualizer(os.devnull).__enter__()
        lens = OutputNorm(include=(nn.Linear,))
        inspector = PyTorchInspector([lens], module=model, visualizer=recorder, is_active_fn=lambda k: k % every == 0)
        return Turns(lambda: train(model, steps, None), inspector.tick_epoch)
    ways: dict[str, Any] = {"alone": None, "adapter": probes(), "budget": probes(0.01)}
    return Turns(lambda: train(model, steps, ways[way]))


def compare(train: Callable[..., None], network: str, steps: dict[str, int], every: int) -> dict[str, Turns]:
    """Let trainings take turns until all have ended."""
    trainings = {way: training(train, network, n // EPOCH * EPOCH, way, every) for way, n in steps.items()}
    while left := [one for one in trainings.values() if not one.done]:
        for one in random.sample(left, len(left)):
            one.turn()
    return trainings


def per_step(one: Turns) -> dict[str, float]:
    """Return the times of a step in milliseconds."""
    callbacks, attach, hooks = (1e3 * one.inside[kind] / one.steps for kind in ("callbacks", "attach", "hooks"))
    rest = 1e3 * sum(one.seconds) / one.steps - callbacks - hooks
    return {"step": rest, "by hand": attach + hooks, "adapter": callbacks + hooks}


def times(train: Callable[..., None], network: str, steps: int, every: int) -> dict[str, Any]:
    """Return the times of all trainings by one trainer."""
    short = dict.fromkeys(("alone", "adapter", "monitorch"), SHORT)
    compare(train, network, dict.fromkeys(short, 2 * EPOCH), every)  # warms up
    repeats = [compare(train, network, short, every) for _ in range(REPEATS[network])]
    budget = compare(train, network, {"budget": steps}, every)["budget"]
    pairs = [pair for one in repeats for pair in zip(one["monitorch"].seconds, one["alone"].seconds, strict=True)]
    return {
        "adapter": [per_step(one["adapter"]) for one in repeats],
        "budget": per_step(budget) | {"steps": budget.steps},
        "monitorch": [a / b for a, b in pairs],
    }


COLUMNS = ["trainer", "network", "step, ms", "probes by hand, ms", "adapter, ms", "adapter / by hand"]
COLUMNS += ["`budget=.01` / alone", "monitorch / alone"]


def row(name: str, network: str, found: dict[str, Any]) -> str:
    """Return the row of the table: medians, with the range of the repeats and the quartiles of monitorch."""
    medians = {key: statistics.median(one[key] for one in found["adapter"]) for key in ("step", "by hand", "adapter")}
    ratios = sorted((one["step"] + one["adapter"]) / (one["step"] + one["by hand"]) for one in found["adapter"])
    budget = 1 + found["budget"]["adapter"] / found["budget"]["step"]
    low, middle, high = statistics.quantiles(found["monitorch"], n=4)
    spread = f" ({ratios[0]:.4f} to {ratios[-1]:.4f})" if len(ratios) > 1 else ""
    cells = [name, network, f"{medians['step']:.2f}", f"{medians['by hand']:.3f}", f"{medians['adapter']:.3f}"]
    cells += [bold(statistics.median(ratios), BARS["adapter"], 4) + spread, bold(budget, BARS["budget"], 3)]
    return f"| {' | '.join([*cells, f'{middle:.3f} ({low:.3f} to {high:.3f})'])} |"


def bold(value: float, bar: float, digits: int) -> str:
    return f"**{value:.{digits}f}**" if value > bar else f"{value:.{digits}f}"


def instrument() -> None:
    timed("hooks", resolve_name("probe.attach.step_hook:StepHook"), "__call__", "starts")
    timed("attach", ProbeSet, "attach", "detach")
    adapters = probe.adapters
    timed("callbacks", adapters.lightning.ProbeCallback, "on_train_start", "on_train_batch_end", "on_train_end")
    events = ("on_train_begin", "on_step_end", "on_epoch_end", "on_train_end")
    timed("callbacks", adapters.huggingface.ProbeCallback, *events)
    events = ("on_train_begin", "on_batch_end", "on_epoch_end", "on_train_end")
    timed("callbacks", adapters.skorch.ProbeCallback, *events)
    timed("callbacks", adapters.accelerate.ProbeContext, "__enter__", "__exit__", "_report")


def write(found: dict[str, dict[str, Any]]) -> None:
    """Add rows to the results, and put the table of all into the page."""
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    known |= json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 5))
    RESULTS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    ordered = sorted(known, key=lambda key: (key.endswith("large"), key))
    text = "\n".join(head + [row(*key.split(", "), known[key]) for key in ordered])
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    PAGE.write_text(f"{before}{START}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=list(TRAINERS))
    parser.add_argument("--networks", nargs="+", choices=WIDTHS, default=list(WIDTHS))
    parser.add_argument("--steps", type=int, default=10_000, help="of the training with a budget")
    parser.add_argument("--every", type=int, default=10, help="steps between two of monitorch")
    parser.add_argument("--write", action="store_true", help=f"into {RESULTS.name} and {PAGE.name}")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    mock.patch("probe.attach.budget.time", SimpleNamespace(perf_counter=time.thread_time)).start()
    instrument()
    for network in args.networks:
        for name in args.trainers if network == "small" else {"accelerate"} & set(args.trainers):
            found = times(TRAINERS[name], network, args.steps, args.every)
            key = f"{name} {version(name)}"
            print(row(key, network, found), flush=True)
            if args.write:
                write({f"{key}, {network}": found})


if __name__ == "__main__":
    main()
