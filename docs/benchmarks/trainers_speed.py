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

**The timers' own cost.** A timer that is read after a step can take longer than the hook that it times, because the
caches hold other data. Each place therefore has a control within the same training, which is an empty function. At a
random half of the steps, the timer is around the hook. At the other half, the timer is around the empty function, and
the hook comes after it. The caches are alike, so the difference of the two means is the cost of the hook. It includes
the time in which the hook loads its own data into the caches. It is multiplied by the number of steps. Calls of more
than 0.5 ms are observations, attach and detach. They are timed at every step, and nothing is subtracted.

Two checks need no timer around a hook. The column "account and loop" is 1 + the account of the session
(``observing_share``, with attach) + the time of the hooks of the probes in a loop where nothing is due. The caches of a
loop are warm, so this is a lower bound. ``--switch`` makes another training, whose hooks are switched off at a random
half of the steps where nothing is due. It prints how much longer the steps with hooks take.

Only the training with a budget makes all 10,000 steps, twice on the small network and once on the large one. The others
make 320, three times on the small network, once on the large one. The larger network is trained with Accelerate only.

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
import math
import os
import random
import statistics
import tempfile
import threading
import time
import warnings
from collections import defaultdict
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
WIDTHS, REPEATS, BUDGETS = {"small": 128, "large": 896}, {"small": 3, "large": 1}, {"small": 2, "large": 1}
LONG = 5e-4  # seconds; a longer call has done work that was due
BARS, KINDS = {"adapter": 1.01, "budget": 1.02}, ("callbacks", "attach", "hooks")


class Place:
    """Times in seconds of the calls of one method, see the text above."""

    def __init__(self) -> None:
        self.calls, self.long = 0, 0.0  # short calls, and the time of the others
        self.hooks, self.controls = list[float](), list[float]()  # timers around the method, and around nothing

    def add(self, seconds: float, controlled: bool) -> None:
        if seconds > LONG:
            self.long += seconds
            return
        self.calls += 1
        if not controlled:
            self.hooks.append(seconds)

    @property
    def short(self) -> float:
        """The time of all short calls without that of the timers."""
        if not (self.hooks and self.controls):
            return 0.0
        return self.calls * (statistics.fmean(self.hooks) - statistics.fmean(self.controls))

    @property
    def error(self) -> float:
        """Standard error of :attr:`short`."""
        sides = [one for one in (self.hooks, self.controls) if len(one) > 1]
        return self.calls * math.sqrt(sum(statistics.variance(one) / len(one) for one in sides))

    @property
    def timers(self) -> float:
        """The time of the timers, as far as they measure it."""
        return self.calls * statistics.fmean(self.controls) if self.controls else 0.0


class Turns:
    """A training in a thread of its own, which waits for its turn at each forward pass in training mode."""

    now: "Turns"
    probes: Any = None

    def __init__(self, train: Callable[[], None], tick: Callable[[], None] | None = None) -> None:
        self.go, self.stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.steps, self.seconds, self.done, self.tick = 0, list[float](), False, tick
        self.error: BaseException | None = None
        self.places = defaultdict[tuple[str, str], Place](Place)  # by kind and name
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


Wrap = Callable[[str, str, Callable[..., Any]], Callable[..., Any]]


def empty(*_: Any, **__: Any) -> None:
    """Do nothing: the control of a hook."""


def measured(kind: str, name: str, own: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        turns = Turns.now
        if kind in turns.nested:
            return own(*args, **kwargs)
        turns.nested.add(kind)
        place, control = turns.places[kind, name], random.random() < 0.5
        if control:
            start = time.thread_time()
            empty(*args, **kwargs)
            place.controls.append(time.thread_time() - start)
        start = time.thread_time()
        try:
            return own(*args, **kwargs)
        finally:
            place.add(time.thread_time() - start, control)
            turns.nested.remove(kind)

    return call


class Switch:
    """Check of the hooks without timers around them: they are on and off at random where nothing is due."""

    on = True

    def __init__(self, steps: int) -> None:
        due = probe.schedule.log_spaced()
        near = (range(step - 4, step + 5) for step in range(steps + 1) if due(step) or step == steps)
        self.due = {step for steps_near in near for step in steps_near}
        self.steps, self.counts, self.since = 0, False, 0.0
        self.times: dict[bool, list[float]] = {True: [], False: []}  # seconds of steps

    def tick(self) -> None:
        """End the time of a step, and choose at random whether the next one has hooks."""
        if self.counts:
            self.times[Switch.on].append(time.thread_time() - self.since)
        self.steps += 1
        self.counts = self.steps not in self.due
        Switch.on = not self.counts or random.random() < 0.5
        self.since = time.thread_time()

    def difference(self) -> tuple[float, float]:
        """Return the time of the hooks of a step in microseconds, and its standard error."""
        # a tenth of the steps is cut at each end, because other processes disturb some
        cut = [sorted(one)[len(one) // 10 : -(len(one) // 10)] for one in (self.times[True], self.times[False])]
        error = math.sqrt(sum(statistics.variance(one) / len(one) for one in cut))
        return 1e6 * (statistics.fmean(cut[0]) - statistics.fmean(cut[1])), 1e6 * error


def switched(kind: str, name: str, own: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: own(*args, **kwargs) if Switch.on else None


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
    turns = Turns(lambda: train(model, steps, ways[way]))
    turns.probes = ways[way]
    return turns


def compare(train: Callable[..., None], network: str, steps: dict[str, int], every: int) -> dict[str, Turns]:
    """Let trainings take turns until all have ended."""
    trainings = {way: training(train, network, n // EPOCH * EPOCH, way, every) for way, n in steps.items()}
    while left := [one for one in trainings.values() if not one.done]:
        for one in random.sample(left, len(left)):
            one.turn()
    return trainings


def per_step(one: Turns) -> dict[str, float]:
    """Return the times of a step in milliseconds: those of the columns, and what they consist of."""
    scale = 1e3 / one.steps
    of = {kind: [place for (its, _), place in one.places.items() if its == kind] for kind in KINDS}
    callbacks, attach, hooks = (scale * sum(place.long + place.short for place in of[kind]) for kind in KINDS)
    outer = of["callbacks"] + of["hooks"]
    timers = scale * sum(place.timers for place in outer)
    rest = scale * sum(one.seconds) - callbacks - hooks - timers
    parts: dict[str, float] = {"quiet": scale * sum(place.short for place in outer), "timers": timers}
    parts["quiet error"] = scale * math.sqrt(sum(place.error**2 for place in outer))
    parts |= {
        f"{name}, us a call": 1e6 * place.short / place.calls for (_, name), place in one.places.items() if place.short
    }
    return {"step": rest, "by hand": attach + hooks, "adapter": callbacks + hooks} | parts


def of_budget(one: Turns, loop: float) -> dict[str, float]:
    """Return the times of a step of a training with a budget, and the check without timers."""
    share = float(one.probes.series_["observing_share"][-1])
    found = per_step(one) | {"steps": one.steps, "account": share, "loop": loop}
    return found | {"ratio": 1 + found["adapter"] / found["step"], "check": 1 + share + loop / found["step"]}


def loop_of_hooks(calls: int = 10_000) -> float:
    """Return the mean time in milliseconds of the hooks on an optimizer where nothing is due, with warm caches."""
    model = nn.Linear(64, 10)
    optimizer, attached = adam(model), probes(0.01)
    attached.attach(model, DATA, optimizer=optimizer, schedule=probe.schedule.at([0]))
    hooks = [*optimizer._optimizer_step_pre_hooks.values(), *optimizer._optimizer_step_post_hooks.values()]
    start = time.thread_time()
    for _ in range(calls):
        for hook in hooks:
            hook(optimizer, (), {})
    seconds = time.thread_time() - start
    attached.detach()
    return 1e3 * seconds / calls


def times(train: Callable[..., None], network: str, steps: int, every: int, loop: float) -> dict[str, Any]:
    """Return the times of all trainings by one trainer."""
    short = dict.fromkeys(("alone", "adapter", "monitorch"), SHORT)
    compare(train, network, dict.fromkeys(short, 2 * EPOCH), every)  # warms up
    repeats = [compare(train, network, short, every) for _ in range(REPEATS[network])]
    budgets = [compare(train, network, {"budget": steps}, every)["budget"] for _ in range(BUDGETS[network])]
    pairs = [pair for one in repeats for pair in zip(one["monitorch"].seconds, one["alone"].seconds, strict=True)]
    return {
        "adapter": [per_step(one["adapter"]) for one in repeats],
        "budget": [of_budget(one, loop) for one in budgets],
        "monitorch": [a / b for a, b in pairs],
    }


COLUMNS = ["trainer", "network", "step, ms", "probes by hand, ms", "adapter, ms", "adapter / by hand"]
COLUMNS += ["`budget=.01` / alone", "account and loop", "monitorch / alone"]


def row(name: str, network: str, found: dict[str, Any]) -> str:
    """Return the row of the table: medians, with the range of the repeats and the quartiles of monitorch."""
    medians = {key: statistics.median(one[key] for one in found["adapter"]) for key in ("step", "by hand", "adapter")}
    ratios = sorted((one["step"] + one["adapter"]) / (one["step"] + one["by hand"]) for one in found["adapter"])
    budget = [one["ratio"] for one in found["budget"]]
    check = ", ".join(f"{one['check']:.4f}" for one in found["budget"])
    low, middle, high = statistics.quantiles(found["monitorch"], n=4)
    spread = f" ({ratios[0]:.4f} to {ratios[-1]:.4f})" if len(ratios) > 1 else ""
    cells = [name, network, f"{medians['step']:.2f}", f"{medians['by hand']:.3f}", f"{medians['adapter']:.3f}"]
    cells += [
        bold(statistics.median(ratios), BARS["adapter"], 4) + spread,
        ", ".join(bold(one, BARS["budget"], 4) for one in budget),
        check,
    ]
    return f"| {' | '.join([*cells, f'{middle:.3f} ({low:.3f} to {high:.3f})'])} |"


def bold(value: float, bar: float, digits: int) -> str:
    return f"**{value:.{digits}f}**" if value > bar else f"{value:.{digits}f}"


def instrument(wrap: Wrap) -> None:
    """Wrap the methods that cost time, by kind. Those of one kind can call each other."""
    adapters = probe.adapters
    places: list[tuple[str, type, tuple[str, ...]]] = [
        ("hooks", resolve_name("probe.attach.step_hook:StepHook"), ("__call__", "starts")),
        ("attach", ProbeSet, ("attach", "detach")),
        ("callbacks", adapters.lightning.ProbeCallback, ("on_train_start", "on_train_batch_end", "on_train_end")),
        (
            "callbacks",
            adapters.huggingface.ProbeCallback,
            ("on_train_begin", "on_step_end", "on_epoch_end", "on_train_end"),
        ),
        (
            "callbacks",
            adapters.skorch.ProbeCallback,
            ("on_train_begin", "on_batch_end", "on_epoch_end", "on_train_end"),
        ),
        ("callbacks", adapters.accelerate.ProbeContext, ("__enter__", "__exit__", "_report")),
    ]
    for kind, owner, names in places:
        for name in names:
            setattr(owner, name, wrap(kind, name, getattr(owner, name)))


def check_by_switch(train: Callable[..., None], network: str, steps: int) -> tuple[float, float]:
    """Return the time of the hooks of a step in microseconds, and its standard error."""
    steps = steps // EPOCH * EPOCH
    switch, model = Switch(steps), Net(WIDTHS[network])
    one = Turns(lambda: train(model, steps, probes(0.01)), switch.tick)
    while not one.done:
        one.turn()
    Switch.on = True
    return switch.difference()


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
    parser.add_argument("--switch", action="store_true", help="only print the check without timers")
    parser.add_argument("--write", action="store_true", help=f"into {RESULTS.name} and {PAGE.name}")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    mock.patch("probe.attach.budget.time", SimpleNamespace(perf_counter=time.thread_time)).start()
    loop = loop_of_hooks()  # without timers yet
    instrument(switched if args.switch else measured)
    for network in args.networks:
        for name in args.trainers if network == "small" else {"accelerate"} & set(args.trainers):
            if args.switch:
                difference, error = check_by_switch(TRAINERS[name], network, args.steps)
                print(f"{name}, {network}: hooks take {difference:.1f} us of a step, standard error {error:.1f}")
                continue
            found = times(TRAINERS[name], network, args.steps, args.every, loop)
            key = f"{name} {version(name)}"
            print(row(key, network, found), flush=True)
            if args.write:
                write({f"{key}, {network}": found})


if __name__ == "__main__":
    main()
