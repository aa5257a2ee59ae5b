"""What probes cost in the loops of trainers, beside monitorch: ``python docs/benchmarks/trainers_speed.py``.

Five trainings of one network by the same trainer take turns of 20 steps, each in a thread of its own: alone, with
probes attached by hand, with the adapter, with the adapter and a budget, and with monitorch. Only the training whose
turn it is runs, in one thread. All times are CPU times.

Two trainings of one kind differ by up to 12 % on a busy machine, so that a ratio of their times cannot show 1 %. The
time within the callback and the hooks of the optimizer is therefore measured by itself. With r for the time outside of
them, the ratios are (r + adapter) / (r + by hand), and (r + adapter) / r. The dispatch of hooks by trainer and
optimizer, and caches that an observation empties, are not included. Monitorch has hooks in the forward and the backward
pass, so its ratio is that of turns to those of the training alone, with quartiles.

Only the training with a budget makes all steps, the others a sixteenth. The probes take cheap statistics of
activations. A budget counts the CPU time of its own thread here, since wall time would include the turns of the others.
``--write`` puts the table into docs/trainers.md. Needs lightning, transformers, accelerate, skorch and monitorch.
"""

import argparse
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
TURN, BATCH, ROWS, WIDTH = 20, 64, 1024, 128
WAYS = {"alone": 16, "by hand": 16, "adapter": 16, "budget": 1, "monitorch": 16}  # divisors of the number of steps
BARS = (1.01, 1.02)


class Turns:
    """A training in a thread of its own, which waits for its turn at each forward pass in training mode."""

    now: "Turns"

    def __init__(self, train: Callable[[], None], tick: Callable[[], None] | None = None) -> None:
        self.go, self.stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.steps, self.seconds, self.done, self.tick = 0, list[float](), False, tick
        self.error: BaseException | None = None
        self.inside, self.nested = 0.0, False  # seconds within callbacks and hooks
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


def timed(owner: type, *names: str) -> None:
    """Count the time within methods, which can call each other, as that of the probes."""
    for name in names:
        setattr(owner, name, measured(getattr(owner, name)))


def measured(own: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        turns = Turns.now
        if turns.nested:
            return own(*args, **kwargs)
        turns.nested, start = True, time.thread_time()
        try:
            return own(*args, **kwargs)
        finally:
            turns.inside += time.thread_time() - start
            turns.nested = False

    return call


class Net(nn.Module):
    """Perceptron of 64-128-128-10 units, which waits for its turn."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10)]
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


class Hand:
    """Probes attached by hand, in a callback of the user."""

    def __init__(self) -> None:
        self.probes = probes()

    def start(self, model: nn.Module, optimizer: Any) -> None:
        self.probes.attach(model, DATA, optimizer=optimizer)

    def stop(self) -> None:
        self.probes.detach()


# -- trainers: each takes a network, the number of steps, and None, Hand or the probes of the adapter ------------------


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

    class Own(lightning.Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            way.start(module.net, trainer.optimizers[0])

        def on_train_end(self, trainer: Any, module: Any) -> None:
            way.stop()

    callback = Own() if isinstance(way, Hand) else None
    if isinstance(way, ProbeSet):
        callback = probe.adapters.lightning.ProbeCallback(way, DATA, model="net")
    lightning.Trainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[callback] if callback else [],
    ).fit(Module(), DataLoader(TensorDataset(*rows(ROWS)), BATCH, shuffle=True))  # fmt: skip


def by_transformers(model: nn.Module, steps: int, way: Any) -> None:
    import transformers

    class Own(transformers.TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            way.start(kwargs["model"], kwargs["optimizer"])

        def on_train_end(self, *_: Any, **__: Any) -> None:
            way.stop()

    callback = Own() if isinstance(way, Hand) else None
    if isinstance(way, ProbeSet):
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

    if isinstance(way, ProbeSet):
        with probe.adapters.accelerate.ProbeContext(accelerator, way, DATA, model, optimizer):
            loop()
        return
    if way is not None:
        way.start(model, optimizer)
    loop()
    if way is not None:
        way.stop()


def by_skorch(model: nn.Module, steps: int, way: Any) -> None:
    import skorch

    class Own(skorch.callbacks.Callback):
        def on_train_begin(self, net: Any, *_: Any, **__: Any) -> None:
            way.start(net.module_, net.optimizer_)

        def on_train_end(self, *_: Any, **__: Any) -> None:
            way.stop()

    callback = Own() if isinstance(way, Hand) else None
    if isinstance(way, ProbeSet):
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


def training(train: Callable[..., None], steps: int, way: str, every: int) -> Turns:
    torch.manual_seed(0)
    model = Net()
    if way == "monitorch":
        from monitorch.inspector import PyTorchInspector
        from monitorch.lens import OutputNorm
        from monitorch.visualizer import RecorderVisualizer

        recorder = RecorderVisualizer(os.devnull).__enter__()
        lens = OutputNorm(include=(nn.Linear,))
        inspector = PyTorchInspector([lens], module=model, visualizer=recorder, is_active_fn=lambda k: k % every == 0)
        return Turns(lambda: train(model, steps, None), inspector.tick_epoch)
    ways: dict[str, Any] = {
        "alone": None, "by hand": Hand(), "adapter": probes(), "budget": probes(0.01),
    }  # fmt: skip
    return Turns(lambda: train(model, steps, ways[way]))


def compare(train: Callable[..., None], steps: int, every: int) -> dict[str, Turns]:
    """Let the trainings take turns until all have ended."""
    trainings = {way: training(train, steps // k // EPOCH * EPOCH, way, every) for way, k in WAYS.items()}
    while left := [one for one in trainings.values() if not one.done]:
        for one in random.sample(left, len(left)):
            one.turn()
    return trainings


def row(name: str, found: dict[str, Turns]) -> str:
    """Return the row of the table."""
    outside = {way: (sum(one.seconds) - one.inside) / one.steps for way, one in found.items()}
    inside = {way: one.inside / one.steps for way, one in found.items()}
    short = statistics.mean(outside[way] for way in ("alone", "by hand", "adapter"))
    values = [(short + inside["adapter"]) / (short + inside["by hand"]), 1 + inside["budget"] / outside["budget"]]
    cells = [f"**{value:.3f}**" if value > bar else f"{value:.3f}" for value, bar in zip(values, BARS, strict=True)]
    pairs = [a / b for a, b in zip(found["monitorch"].seconds[1:-1], found["alone"].seconds[1:-1], strict=True)]
    low, middle, high = statistics.quantiles(pairs, n=4)
    each = [f"{1e3 * short:.2f}", f"{1e3 * inside['by hand']:.3f}", f"{1e3 * inside['adapter']:.3f}"]
    return f"| {' | '.join([f'{name} {version(name)}', *each, *cells, f'{middle:.3f} ({low:.3f} to {high:.3f})'])} |"


COLUMNS = ["trainer", "step, ms", "by hand, ms", "adapter, ms", "adapter / by hand", "`budget=.01` / alone"]
HEAD = f"| {' | '.join([*COLUMNS, 'monitorch / alone'])} |\n|---|---|---|---|---|---|---|"


def instrument() -> None:
    timed(resolve_name("probe.attach.step_hook:StepHook"), "__call__", "starts")
    timed(Hand, "start", "stop")
    adapters = probe.adapters
    timed(adapters.lightning.ProbeCallback, "on_train_start", "on_train_batch_end", "on_train_end")
    hooks = ("on_train_begin", "on_step_end", "on_epoch_end", "on_train_end")
    timed(adapters.huggingface.ProbeCallback, *hooks)
    timed(adapters.skorch.ProbeCallback, "on_train_begin", "on_batch_end", "on_epoch_end", "on_train_end")
    timed(adapters.accelerate.ProbeContext, "__enter__", "__exit__", "_report")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=list(TRAINERS))
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=10, help="steps between two of monitorch")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    mock.patch("probe.attach.budget.time", SimpleNamespace(perf_counter=time.thread_time)).start()
    instrument()
    lines = [HEAD]
    print(HEAD)
    for name in args.trainers:
        compare(TRAINERS[name], 64 * EPOCH, args.every)  # warms up
        lines.append(row(name, compare(TRAINERS[name], args.steps, args.every)))
        print(lines[-1], flush=True)
    if args.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
        text = "\n".join(lines)
        PAGE.write_text(f"{before}{START}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
