"""Writers by what they offer: each has a name, writes numbers, and can take a description and a flush."""

import sys
import time
from collections.abc import Callable, Mapping
from inspect import signature
from types import ModuleType
from typing import Any

from probe.writers.numbers import PREFIX

Facts = Mapping[str, Mapping[str, str]]
_FILE = "probe_variables.json"
_MOST = 1000  # metrics that MLflow takes in one call


def offers(given: Any, *methods: str) -> bool:
    """Return whether an object, which is no class, has these methods."""
    return not isinstance(given, type) and all(callable(getattr(given, method, None)) for method in methods)


class Writer:
    """Base of the writers: a function of numbers and step."""

    def __init__(self, given: Any) -> None:
        self.given = given
        self.name = getattr(given, "__name__", None) or type(given).__name__

    @staticmethod
    def fits(given: Any) -> bool:
        """Return whether this kind writes to an object."""
        return callable(given) and not isinstance(given, type)

    def write(self, numbers: dict[str, float], step: int) -> None:
        """Write the numbers of one step."""
        self.given(numbers, step)

    def describe(self, facts: Facts) -> None:
        """Write units and descriptions, if the writer has a place for them."""

    def flush(self) -> None:
        """Write what the writer holds back, if it does."""


class TensorBoard(Writer):
    """``add_scalar(name, value, step)``, as the ``SummaryWriter`` of PyTorch. It stores float32."""

    @staticmethod
    def fits(given: Any) -> bool:
        """Return whether this kind writes to an object."""
        return offers(given, "add_scalar")

    def write(self, numbers: dict[str, float], step: int) -> None:
        """Write the numbers of one step."""
        for name, value in numbers.items():
            self.given.add_scalar(name, value, step)

    def describe(self, facts: Facts) -> None:
        """Write units and descriptions."""
        if offers(self.given, "add_text"):
            rows = [f"| {name} | {fact['units']} | {fact['description']} |" for name, fact in facts.items()]
            table = "\n".join(["| name | units | description |", "|---|---|---|", *rows])
            self.given.add_text(f"{PREFIX}/variables", table, 0)

    def flush(self) -> None:
        """Write what the writer holds back."""
        if offers(self.given, "flush"):
            self.given.flush()


class WandB(Writer):
    """A run of W&B, or its module. The numbers have an axis of their own, ``probe/step``.

    W&B ignores a row whose step is below that of the run. A row of the probes therefore joins the user's next ``log``.
    If none has come until a later observation, the row is completed, which raises the step of the run by 1. It waits
    while the user's next step may be the present one, as in a loop that logs the index of each update.
    """

    def __init__(self, given: Any) -> None:
        super().__init__(given)
        self._waiting: list[dict[str, float]] = []
        self._open: int | None = None  # step of the run whose row has numbers of the probes
        self._defined: Any = None

    @staticmethod
    def fits(given: Any) -> bool:
        """Return whether this kind writes to an object."""
        return offers(given, "log", "define_metric")

    def _run(self) -> Any:
        run = self.given.run if isinstance(self.given, ModuleType) else self.given
        if run is None:
            raise RuntimeError("Expected a run of wandb, got none; call wandb.init() before attach")
        if run is not self._defined:
            run.define_metric(f"{PREFIX}/step")
            run.define_metric(f"{PREFIX}/*", step_metric=f"{PREFIX}/step")
            self._defined, self._open = run, None
        return run

    def write(self, numbers: dict[str, float], step: int) -> None:
        """Write the numbers of one step."""
        run = self._run()
        self._waiting.append({**numbers, f"{PREFIX}/step": step})
        try:
            self._place(run, step)
        except Exception:
            del self._waiting[-1:]  # this row is lost
            raise

    def _place(self, run: Any, step: float) -> None:
        """Give the waiting rows to the run, as far as it is safe at a step of the training."""
        while self._waiting:
            if self._open == run.step:
                if step - 1 <= run.step <= step:
                    return
                run.log({}, commit=True)
            run.log(self._waiting[0], commit=False)
            self._open = run.step
            del self._waiting[0]

    def describe(self, facts: Facts) -> None:
        """Write units and descriptions."""
        self._run().config.update({"probe_variables": dict(facts)}, allow_val_change=True)

    def flush(self) -> None:
        """Give all rows to the run."""
        if self._waiting:
            self._place(self._run(), float("inf"))


class LogsMetrics(Writer):
    """``log_metrics(numbers, step=)``, as the module ``mlflow`` and the loggers of Lightning."""

    @staticmethod
    def fits(given: Any) -> bool:
        """Return whether this kind writes to an object."""
        return offers(given, "log_metrics")

    def write(self, numbers: dict[str, float], step: int) -> None:
        """Write the numbers of one step."""
        for part in _parts(numbers):
            self.given.log_metrics(part, step=step)

    def describe(self, facts: Facts) -> None:
        """Write units and descriptions."""
        if offers(self.given, "log_dict"):
            self.given.log_dict(dict(facts), _FILE)

    def flush(self) -> None:
        """Write what a logger of Lightning holds back."""
        if offers(self.given, "save", "log_hyperparams"):
            self.given.save()


class MlflowClient(Writer):
    """A pair of an ``MlflowClient`` and a run, or the identifier of a run."""

    def __init__(self, given: Any) -> None:
        super().__init__(given[0])
        self.run_id = given[1] if isinstance(given[1], str) else given[1].info.run_id

    @staticmethod
    def fits(given: Any) -> bool:
        """Return whether this kind writes to an object."""
        if not (isinstance(given, (tuple, list)) and len(given) == 2 and offers(given[0], "log_batch")):
            return False
        return isinstance(given[1], str) or hasattr(given[1], "info")

    def write(self, numbers: dict[str, float], step: int) -> None:
        """Write the numbers of one step."""
        metric, now = sys.modules["mlflow.entities"].Metric, round(1000 * time.time())  # its package made the client
        for part in _parts(numbers):
            self.given.log_batch(self.run_id, [metric(name, value, now, step) for name, value in part.items()])

    def describe(self, facts: Facts) -> None:
        """Write units and descriptions."""
        self.given.log_dict(self.run_id, dict(facts), _FILE)


class Logs(Writer):
    """``log(numbers, step=)``, as trackio (a run or the module), an ``Accelerator`` and its trackers."""

    @staticmethod
    def fits(given: Any) -> bool:
        """Return whether this kind writes to an object."""
        return offers(given, "log") and accepts(given.log, {}, step=0)

    def write(self, numbers: dict[str, float], step: int) -> None:
        """Write the numbers of one step."""
        self.given.log(numbers, step=step)


KINDS: tuple[type[Writer], ...] = (MlflowClient, TensorBoard, WandB, LogsMetrics, Logs, Writer)
_CALLS: dict[type[Writer], tuple[str, tuple[Any, ...], dict[str, Any]]] = {  # method, and arguments as in `write`
    TensorBoard: ("add_scalar", ("name", 0.0, 0), {}),
    LogsMetrics: ("log_metrics", ({},), {"step": 0}),
    Writer: ("", ({}, 0), {}),
}


def _parts(numbers: dict[str, float]) -> list[dict[str, float]]:
    items = list(numbers.items())
    return [dict(items[i : i + _MOST]) for i in range(0, len(items), _MOST)]


def accepts(function: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Return whether the signature of a function allows a call. A function of C may have no signature."""
    try:
        signature(function).bind(*args, **kwargs)
    except TypeError:
        return False
    except ValueError:
        pass
    return True


def _checked(writer: Writer) -> Writer:
    """Return the writer, if its signature allows the calls of :meth:`Writer.write`."""
    if type(writer) in _CALLS:
        name, args, kwargs = _CALLS[type(writer)]
        function = getattr(writer.given, name) if name else writer.given
        if not accepts(function, *args, **kwargs):
            wanted = ", ".join([("numbers", "numbers", "name, value")[len(args) - 1], "step=" if kwargs else "step"])
            raise TypeError(
                f"Expected write_to to take {name}({wanted}), got {name or writer.name}{signature(function)}; give it "
                "these parameters"
            )
    return writer


def writers_of(given: Any) -> list[Writer]:
    """Return the writers of ``write_to``: one, a list of them, or None.

    Raises
    ------
    TypeError
        If an object offers none of the known methods, or takes other arguments.
    """
    if given is None:
        return []
    if isinstance(given, (list, tuple)) and not MlflowClient.fits(given):
        return [writer for one in given for writer in writers_of(one)]
    for kind in KINDS:
        if kind.fits(given):
            return [_checked(kind(given))]
    found = f"the class {given.__name__}" if isinstance(given, type) else repr(given)[:80]
    raise TypeError(
        "Expected write_to to offer add_scalar(name, value, step), log_metrics(numbers, step=) or log(numbers, step=), "
        f"to be a function of (numbers, step), or a list of these, got {found}; give such an object, such as "
        "SummaryWriter('runs')"
    )
