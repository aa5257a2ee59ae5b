"""Loops by name, for tests/test_training.py and the page of compatibility; see tests/setups.py.

Each loop is written as a user of the library has to write it.
"""

import copy
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from cases import mlp
from setups import BY_LOOP, UPDATES, Look, Setup, X, Y, adam, batch, net, update
from torch import Tensor, nn
from torch.nn import functional as F


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimisation: its loop calls the two halves of a step, and never ``step``."""

    def __init__(self, parameters: Any, radius: float = 0.05) -> None:
        super().__init__(parameters, {})
        self.radius, self.inner = radius, torch.optim.SGD(self.param_groups, lr=0.1, momentum=0.9)

    @torch.no_grad()
    def climb(self) -> None:
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        norm = torch.stack([parameter.grad.norm() for parameter in parameters]).norm()
        self.moves = [parameter.grad * self.radius / norm for parameter in parameters]
        torch._foreach_add_(parameters, self.moves)

    def descend(self) -> None:
        with torch.no_grad():
            parameters = [parameter for group in self.param_groups for parameter in group["params"]]
            torch._foreach_sub_(parameters, self.moves)
        self.inner.step()


def sharpness_aware(look: Look) -> Any:
    model = net()
    optimizer = SAM(model.parameters())
    look.attach(model, optimizer)
    for _ in range(UPDATES):
        x, y = batch()
        for half in (optimizer.climb, optimizer.descend):
            model.zero_grad()
            F.cross_entropy(model(x), y).backward()
            half()
    return [model], [optimizer.inner]


def replaced(look: Look) -> Any:
    """Train with an optimiser, then with another one, which nothing counts."""
    model = net()
    first, second = adam(model), adam(model)
    look.attach(model, first)
    for i in range(4 * UPDATES):
        update(model, first if i < UPDATES else second)
    return [model], [first, second]


def averaged(look: Look) -> Any:
    """Observe a copy whose weights are an exponential moving average."""
    model = net()
    average, optimizer = copy.deepcopy(model).eval(), adam(model)
    look.attach(average)
    look.observe(0)
    for step in range(1, UPDATES + 1):
        update(model, optimizer)
        with torch.no_grad():
            for mine, other in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
                mine.copy_(mine + 0.1 * (other - mine))
        look.observe(step)
    return [model, average], [optimizer]


def adversarial(look: Look) -> Any:
    """Train a generator and a discriminator, whose last class is "generated", with an optimiser each."""
    generator, critic = (
        nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 6)),
        nn.Sequential(mlp(), nn.Linear(3, 4)),
    )
    optimizers = adam(generator), adam(critic)
    look.attach(generator, optimizers[0])
    look.attach(critic, optimizers[1])
    for _ in range(UPDATES):
        x, y = batch()
        made = generator(torch.randn(8, 6))
        optimizers[1].zero_grad()
        (F.cross_entropy(critic(x), y) + F.cross_entropy(critic(made.detach()), torch.full((8,), 3))).backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        (-F.cross_entropy(critic(made), torch.full((8,), 3))).backward()
        optimizers[0].step()
    return [generator, critic], list(optimizers)


def cell_run_twice(look: Look) -> Any:
    """Run a cell of a notebook twice, which attaches to the same model and file, and does not detach."""
    model = net()
    optimizer = adam(model)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            look.probes.clear()  # the name of the probes is bound to new ones
            look.attach(model, optimizer, path=Path(folder) / "run.nc", mode="overwrite")
            for _ in range(UPDATES):
                update(model, optimizer)
        recorded = look.steps()
    look.steps = lambda: recorded  # type: ignore[method-assign]
    return [model], [optimizer]


def interrupted(look: Look) -> Any:
    """Go on with the loop after Ctrl-C in the observation at step 2."""
    model = net()
    optimizer = adam(model)
    presses: list[bool] = []

    def press(*_: Any) -> None:
        if not model.training and presses:
            presses.clear()
            raise KeyboardInterrupt

    model[2].register_forward_pre_hook(press)
    look.attach(model, optimizer)
    for i in range(UPDATES):
        presses += [True] if i == 1 else []
        try:
            update(model, optimizer)
        except KeyboardInterrupt:
            continue
    return [model], [optimizer]


def accelerated(look: Look) -> Any:
    """Pass what ``prepare`` returns."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    plain = net()
    model, optimizer = accelerator.prepare(plain, adam(plain))
    look.attach(model, optimizer)
    for _ in range(2 * UPDATES):
        x, y = batch()
        with accelerator.accumulate(model):
            accelerator.backward(F.cross_entropy(model(x), y))
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return [plain], [optimizer.optimizer]


def in_lightning(look: Look) -> Any:
    """Attach in the hook ``on_train_start`` of the module."""
    import lightning

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def configure_optimizers(self) -> Any:
            return adam(self.net)

        def on_train_start(self) -> None:
            look.attach(self.net, self.optimizers())

        def training_step(self, batch: Any, index: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

    module = Module()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=4, shuffle=True)
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = lightning.Trainer(
            max_epochs=1, accelerator="cpu", enable_model_summary=False, default_root_dir=folder, **quiet
        )
        trainer.fit(module, loader)
    return [module.net], trainer.optimizers


def in_skorch(look: Look) -> Any:
    """Attach in the method ``on_train_begin`` of a callback."""
    from skorch import NeuralNetClassifier
    from skorch.callbacks import Callback

    class Attach(Callback):  # type: ignore[misc]
        def on_train_begin(self, net: Any, **_: Any) -> None:
            look.attach(net.module_, net.optimizer_)

    settings = {"batch_size": 4, "max_epochs": 1, "train_split": None, "verbose": 0}
    found = NeuralNetClassifier(
        net, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.AdamW, callbacks=[Attach()], **settings
    ).fit(X.numpy(), Y.numpy())
    return [found.module_], [found.optimizer_]


def in_trainer(look: Look) -> Any:
    """Attach in the method ``on_train_begin`` of a callback."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            logits = self.net(x)
            return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}

    class Attach(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            look.attach(kwargs["model"], kwargs["optimizer"])

    model = Net()
    with tempfile.TemporaryDirectory() as folder:
        settings = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_train_epochs": 2}
        quiet = {"save_strategy": "no", "report_to": "none", "disable_tqdm": True, "logging_strategy": "no"}
        trainer = Trainer(
            model,
            TrainingArguments(folder, use_cpu=True, **settings, **quiet),
            train_dataset=[{"x": x, "labels": y} for x, y in zip(X, Y, strict=True)],
            callbacks=[Attach()],
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="torch.utils.data")
            trainer.train()
    return [model], [trainer.optimizer.optimizer]


LOOPS = [
    Setup("SAM", sharpness_aware, remark="the optimiser inside is counted"),
    Setup(
        "an optimiser that is replaced",
        replaced,
        remark="later states are not observed; detach warns",
        messages=("Expected each update to be a step of the attached optimizer, got weights that change while",),
    ),
    Setup("a moving average of the weights (EMA), a copy", averaged, how=BY_LOOP),
    Setup("GAN, two models and optimisers", adversarial, (tuple(range(UPDATES + 1)),) * 2, remark="attach to each"),
    Setup("a notebook cell run twice, the same model and file", cell_run_twice, remark='with `mode="overwrite"`'),
    Setup(
        "Ctrl-C in an observation, and on with the loop",
        interrupted,
        ((0, 1, 3, 4),),
        remark="this observation is lost",
    ),
]
LIBRARIES = [
    Setup("Accelerate", accelerated, needs="accelerate", remark="pass what prepare returns"),
    Setup("Lightning", in_lightning, needs="lightning", remark="attach in on_train_start"),
    Setup("skorch", in_skorch, needs="skorch", remark="attach in on_train_begin of a callback"),
    Setup("Trainer of transformers", in_trainer, needs="transformers", remark="attach in on_train_begin of a callback"),
]
