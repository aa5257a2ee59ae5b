"""Try every measure on small models of each kind, and write the tables of docs/measures/which_measure.md.

    python docs/benchmarks/which_measure.py            # a CPU minute; needs transformers and peft

Each cell comes from two observations of one model: before and after five updates. Random weights, no downloads.
"""

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

import probe
from probe.errors import ProbeWarning
from probe.forward import TrainingContext
from which_measure_models import MODELS
from which_measure_notes import NOTES

PAGE = Path(__file__).parent.parent / "measures" / "which_measure.md"
BETWEEN = re.compile(r"(<!-- tables of which_measure.py -->\n)\n?.*(\n<!-- end -->)", re.S)
TEXT = "GPT-2", "Llama (SwiGLU)", "GPT-2 with LoRA"
EMBEDDINGS = {
    "GPT-2": "transformer.wte.weight",
    "Llama (SwiGLU)": "model.embed_tokens.weight",
    "GPT-2 with LoRA": "base_model.model.transformer.wte.weight",
}
# By measure: its probe for a model, by name. Text models have tokens as rows, and their own embedding.
MEASURES: dict[str, Callable[[str], probe.Probe]] = {
    "PerformanceProbe": lambda model: probe.PerformanceProbe(),
    "MutualInfoProbe": lambda model: probe.MutualInfoProbe(
        reduce="tokens" if model in TEXT else None, target_bins=4 if model == "regression" else None
    ),
    "LocalComplexityProbe": lambda model: probe.LocalComplexityProbe(max_rows=512),
    "LMNProbe": lambda model: probe.LMNProbe(max_rows=512),
    "RobustnessProbe": lambda model: probe.RobustnessProbe(max_rows=512),
    "ActivationsProbe": lambda model: probe.ActivationsProbe(),
    "CircuitsProbe": lambda model: probe.CircuitsProbe(),
    "LinearRegionsProbe": lambda model: probe.LinearRegionsProbe(max_regions=2_000),
    "ChaosProbe": lambda model: probe.ChaosProbe(window=4),
    "TangentKernelProbe": lambda model: probe.TangentKernelProbe(),
    "WeightsProbe": lambda model: probe.WeightsProbe(),
    "WeightModesProbe": lambda model: probe.WeightModesProbe(),
    "FisherProbe": lambda model: probe.FisherProbe(),
    "WeightPhaseProbe": lambda model: probe.WeightPhaseProbe(),
    "FeatureLearningProbe": lambda model: probe.FeatureLearningProbe(reduce="tokens" if model in TEXT else None),
    "FourierProbe": lambda model: probe.FourierProbe(weight=EMBEDDINGS.get(model)),
    "NeuralCollapseProbe": lambda model: probe.NeuralCollapseProbe(reduce="tokens" if model in TEXT else None),
}


@dataclass
class Trial:
    """What one measure did on one model: an error, or a series; and the warnings."""

    by_tokens: bool = False
    discrete: bool = False
    adapted: bool = False
    quantised: bool = False
    error: str = ""
    warned: list[str] = field(default_factory=list)
    series: xr.Dataset = field(default_factory=xr.Dataset)

    def values(self) -> xr.Dataset:
        """Return the variables of the measure: not of the book-keeping of the set."""
        return self.series.drop_vars(["seconds", "failed"], errors="ignore")

    def labels(self, name: str) -> list[Any]:
        """Return the labels of a coordinate, if the series has it."""
        return self.series[name].values.tolist() if name in self.series.coords else []

    def flags(self) -> list[str]:
        """Return the flags that are raised anywhere."""
        values = self.values().data_vars
        return [str(name) for name in values if values[name].dtype.kind == "i" and (values[name] == 1).any()]

    def measured(self) -> bool:
        """Return whether a number was measured."""
        return any(v.notnull().any() for v in self.values().data_vars.values() if v.dtype.kind == "f")


def loss_of(outputs: Any, targets: Tensor) -> Tensor:
    outputs = getattr(outputs, "logits", outputs)
    if targets.is_floating_point():
        return mse_loss(outputs, targets)
    if targets.ndim == 2:  # tokens, and the outputs at the positions before them
        outputs, targets = outputs[:, :-1].flatten(0, 1), targets[:, 1:].flatten()
    return cross_entropy(outputs, targets)


def updater(x: Any, y: Tensor) -> Callable[..., None]:
    """Return a function that makes one update on all rows."""

    def update(model: nn.Module, optimizer: torch.optim.Optimizer, batch: None = None) -> None:
        optimizer.zero_grad()
        loss_of(model(**x) if isinstance(x, Mapping) else model(x), y).backward()
        optimizer.step()

    return update


def attempt(name: str, measure: str) -> Trial:
    """Observe a fresh model before and after five updates; a model without trained parameters twice."""
    torch.manual_seed(0)
    model, x, y = MODELS[name]()
    found, update = MEASURES[measure](name), updater(x, y)
    trial = Trial(
        found.get_params().get("reduce") == "tokens", name in (*TEXT, "LSTM"), "LoRA" in name, "quant" in name
    )
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2) if trained else None
    options: dict[str, Any] = {"targets_shift": 1} if name in TEXT else {}
    if measure == "ChaosProbe" and optimizer:
        options["training"] = TrainingContext(optimizer, update, lambda step, n: [None] * n)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found.attach(model, (x, y), **options)
            found.observe(0)
            for _ in range(5 if optimizer else 0):
                update(model, optimizer)
            found.observe(5)
            trial.series = found.detach().series_
        except (ValueError, TypeError) as error:
            trial.error = str(error).partition(";")[0]
    trial.warned = [str(one.message) for one in caught if issubclass(one.category, ProbeWarning)]
    return trial


def cell(measure: str, trial: Trial, notes: list[int]) -> str:
    """Return a cell of the table; number the notes that hold, in the order of their first appearance."""
    held = [i for i, note in enumerate(NOTES) if note.holds(measure, trial)]
    if (trial.error and not held) or not (trial.error or trial.measured()):
        raise AssertionError(f"{measure} needs a note: {trial.error or 'nothing was measured'}")
    notes += [i for i in held if i not in notes]
    numbers = ", ".join(str(notes.index(i) + 1) for i in sorted(held, key=notes.index))
    return ("error" if trial.error else "works") + (f" ({numbers})" if numbers else "")


def tables(trials: Mapping[tuple[str, str], Trial], models: list[str]) -> str:
    """Return the table of measures and models, and that of notes."""
    notes: list[int] = []
    lines = [f"| | {' | '.join(models)} |", f"|---{'|---' * len(models)}|"]
    for measure in MEASURES:
        cells = [cell(measure, trials[model, measure], notes) for model in models]
        lines.append(f"| `{measure}` | {' | '.join(cells)} |")
    lines += ["", "| note | meaning |", "|---|---|", *(f"| {n} | {NOTES[i].text} |" for n, i in enumerate(notes, 1))]
    return "\n".join(lines)


def main() -> None:
    """Try all, and write both tables between the marks of the page."""
    models = list(MODELS)
    text = tables({(model, measure): attempt(model, measure) for model in models for measure in MEASURES}, models)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BETWEEN.sub(lambda found: f"{found[1]}{text}\n{found[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    main()
