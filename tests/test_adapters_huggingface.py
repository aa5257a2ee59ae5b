"""Probes in the Trainer of transformers: steps, checkpoints, logs, and adapters of PEFT."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr
from cases import splits
from setups import DATA, X, Y, net
from torch import Tensor, nn
from torch.nn import functional as F
from trainer_states import same

import probe
from probe import MutualInfoProbe, PerformanceProbe, ProbeSet, every
from probe.errors import ProbeWarning

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:(?!Expected):Warning")]
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

STEPS = 6  # of two epochs of three batches
ROWS = [{"x": x, "labels": y} for x, y in zip(X, Y, strict=True)][: 3 * (len(X) // 3)]


class Net(nn.Module):
    """A network with batch norm and dropout, and the loss of its labels."""

    def __init__(self, fails_at: int = -1) -> None:
        super().__init__()
        self.net, self.fails_at, self.calls = net(), fails_at, 0

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.net(x)
        if labels is None:
            return {"logits": logits}
        if self.training:
            self.calls += 1
            if self.calls == self.fails_at:
                raise RuntimeError("the loop fails")
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def callback(**options: Any) -> Any:
    return probe.adapters.huggingface.ProbeCallback(
        ProbeSet([MutualInfoProbe()]), splits(DATA), **{"schedule": every(1), "on_error": "raise", **options}
    )


def trainer(
    folder: Path, *callbacks: Any, model: Any = None, rows: Any = ROWS, kind: Any = None, **settings: Any
) -> Any:
    quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "steps", "save_steps": 1}
    sizes = {"per_device_train_batch_size": len(ROWS) // 3, "num_train_epochs": 2, "learning_rate": 1e-2}
    arguments = transformers.TrainingArguments(str(folder), use_cpu=True, **{**quiet, **sizes, **settings})
    return (kind or transformers.Trainer)(
        model or Net(), arguments, train_dataset=rows, eval_dataset=rows, callbacks=list(callbacks)
    )


def steps(one: Any) -> list[int]:
    return one.attachment.probes.series_["step"].values.tolist()


def saved(folder: Path) -> dict[str, Any]:
    """Return the tensors in all checkpoints by file."""
    from safetensors.torch import load_file

    found: dict[str, Any] = {str(file.relative_to(folder)): load_file(file) for file in folder.rglob("*.safetensors")}
    files = [*folder.rglob("optimizer.pt"), *folder.rglob("scheduler.pt")]
    return found | {str(file.relative_to(folder)): torch.load(file) for file in files}


@pytest.mark.parametrize(
    ("settings", "last"),
    [
        ({"eval_strategy": "steps", "eval_steps": 1}, 6),
        ({"gradient_accumulation_steps": 3}, 2),
        ({"optim": "adamw_torch_fused", "load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 1}, 6),
    ],
)
def test_training_and_each_checkpoint_stay_the_same(tmp_path: Path, settings: Any, last: int) -> None:
    states = []
    for on in (False, True):
        torch.manual_seed(0)
        model, one = Net(), callback()
        used = trainer(tmp_path / str(on), *([one] if on else []), model=model, **settings)
        used.train()
        states.append([model.state_dict(), torch.get_rng_state(), saved(tmp_path / str(on))])
    assert len(states[0][2]) == 3 * last
    assert same(*states)
    assert steps(one) == list(range(last + 1))
    assert not used.optimizer.optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("strategy", ["steps", "epoch"])
def test_the_last_state_is_observed_before_the_best_model_is_loaded(tmp_path: Path, strategy: str) -> None:
    """The training stops early, and the schedule does not include its last step."""

    class Worse(transformers.Trainer):  # type: ignore[misc, name-defined]
        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            metrics = {"eval_loss": float(self.state.global_step)}
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

    one = callback(schedule=None)
    stop = transformers.EarlyStoppingCallback(early_stopping_patience=1)
    every_one = {
        f"{kind}_{name}": value for kind in ("eval", "save") for name, value in (("strategy", strategy), ("steps", 13))
    }
    used = trainer(tmp_path, one, stop, kind=Worse, num_train_epochs=40, load_best_model_at_end=True, **every_one)
    used.train()
    last = used.state.global_step
    assert last == {"steps": 26, "epoch": 6}[strategy]
    assert steps(one)[-1] == last
    assert one.attachment.step == last


def test_a_training_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.nc"
    first = callback(path=path)
    trainer(tmp_path, first, max_steps=4).train()
    second = callback(path=path)
    used = trainer(tmp_path, second)
    used.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert steps(second) == list(range(STEPS + 1))
    assert xr.load_dataset(path)["step"].values.tolist() == list(range(STEPS + 1))


def test_a_resumed_training_counts_updates_as_before(tmp_path: Path) -> None:
    """The number of updates is in the state of the trainer, whose own count includes skipped updates."""
    trainer(tmp_path, callback(), max_steps=4).train()
    file = tmp_path / "checkpoint-3" / "trainer_state.json"
    state = json.loads(file.read_text())
    assert state["stateful_callbacks"]["probe"] == {"step": 3}
    state["stateful_callbacks"]["probe"] = {"step": 2}
    file.write_text(json.dumps(state))
    one = callback(path=tmp_path / "run.nc")
    trainer(tmp_path, one, restore_callback_states_from_checkpoint=True).train(
        resume_from_checkpoint=str(tmp_path / "checkpoint-3")
    )
    assert steps(one) == [2, 3, 4, 5]


def test_after_an_error_the_recording_is_whole_and_the_trainer_trains_again(tmp_path: Path) -> None:
    path, model = tmp_path / "run.nc", Net(fails_at=4)
    one = callback(path=path, mode="overwrite")
    used = trainer(tmp_path, one, model=model)
    with pytest.raises(RuntimeError, match="the loop fails"):
        used.train()
    assert probe.load(path)["step"].values.tolist() == [0, 1, 2, 3]
    used.train(resume_from_checkpoint=True)
    assert steps(one) == list(range(STEPS + 1))


def test_a_smaller_batch_after_an_error_of_memory(tmp_path: Path) -> None:
    """The trainer starts the training again, in the same call."""

    class Large(Net):
        def forward(self, x: Any, labels: Any = None) -> Any:
            is_large = self.training and len(x) == len(ROWS) // 3
            self.large_batches = getattr(self, "large_batches", 0) + is_large
            if is_large and self.large_batches == 2:
                raise RuntimeError("CUDA out of memory.")
            return super().forward(x, labels)

    one = callback(path=tmp_path / "run.nc")
    used = trainer(
        tmp_path, one, model=Large(), save_strategy="no", auto_find_batch_size=True, dataloader_drop_last=True
    )
    used.train()
    assert steps(one) == list(range(used.state.global_step + 1))
    assert used.model.large_batches == 2  # the error was raised
    with pytest.raises(FileExistsError, match="mode='overwrite'"):
        used.train()


def test_numbers_go_to_the_log_of_the_trainer(tmp_path: Path) -> None:
    """The averages of a derived class stay those of its own logs."""
    reported = []

    class Reports(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            reported.append((state.global_step, dict(logs)))

    class Derived(transformers.Trainer):  # type: ignore[misc, name-defined]
        def log(self, logs: Any, *rest: Any) -> None:
            super().log({**logs, "average": 1.0}, *rest)

    one = callback(log=["train_loss", "information_x"], schedule=every(2))
    used = trainer(tmp_path, Reports(), one, kind=Derived, logging_steps=3)
    used.train()
    series = one.attachment.probes.series_
    rows = [(step, logs) for step, logs in reported if "probe/train_loss" in logs]
    assert [step for step, _ in rows] == [0, 2, 4, 6]
    assert [logs["probe/train_loss"] for _, logs in rows] == series["train_loss"].values.tolist()
    assert not any("average" in logs for _, logs in rows)
    assert sum("average" in logs for _, logs in reported) == 3  # two logs of the loss, and the summary
    history = used.state.log_history
    assert [row["step"] for row in history if "probe/train_loss" in row] == [0, 2, 4, 6]


def test_a_callback_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    one = callback()
    with pytest.raises(ValueError, match="got this ProbeCallback twice"):
        trainer(tmp_path, one, one).train()
    other = probe.adapters.huggingface.ProbeCallback(one.attachment.probes, DATA)
    with pytest.raises(ValueError, match="give each callback its own probes"):
        trainer(tmp_path, one, other).train()


def test_a_second_training_is_a_new_one_and_needs_another_file(tmp_path: Path) -> None:
    one = callback(path=tmp_path / "run.nc")
    used = trainer(tmp_path, one, save_strategy="no")
    used.train()
    with pytest.raises(FileExistsError, match="mode='overwrite'"):
        used.train()
    again = callback()
    trainer(tmp_path, again, max_steps=3).train()
    with pytest.warns(ProbeWarning, match="so the series starts at this step"):
        trainer(tmp_path, again).train(resume_from_checkpoint=True)
    assert steps(again) == [3, 4, 5, 6]


def language_model() -> Any:
    sizes = {"vocab_size": 11, "n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 2}
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, pad_token_id=0)
    )


def test_a_language_model_with_adapters_of_peft(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    tokens = torch.randint(1, 11, (12, 7), generator=torch.Generator().manual_seed(0))
    # The evaluation of the Trainer divides by the number of labels, and the first one of a row is never predicted.
    labels = torch.cat([torch.full((12, 1), -100), tokens[:, 1:]], 1)
    rows = [{"input_ids": row, "labels": label} for row, label in zip(tokens, labels, strict=True)]
    settings = peft.LoraConfig(r=2, target_modules=["c_attn"], task_type="CAUSAL_LM", fan_in_fan_out=True)
    states = []
    for on in (False, True):
        torch.manual_seed(0)
        model = peft.get_peft_model(language_model(), settings)
        one = probe.adapters.huggingface.ProbeCallback(
            PerformanceProbe(), ({"input_ids": tokens}, labels), schedule=every(1), targets_shift=1
        )
        used = trainer(tmp_path / str(on), *([one] if on else []), model=model, rows=rows)
        used.train()
        states.append([model.state_dict(), saved(tmp_path / str(on))])
    assert same(*states)
    series = one.attachment.probes.series_
    assert steps(one) == list(range(STEPS + 1))
    assert series["all_loss"].values[-1] == pytest.approx(used.evaluate(rows)["eval_loss"], rel=1e-5)


@pytest.mark.parametrize("bits", [4, 8])
def test_adapters_on_a_base_of_few_bits(tmp_path: Path, bits: int) -> None:
    """The forward pass of an 8-bit base changes its weights, so it is refused."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    sizes = {"vocab_size": 11, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads)).save_pretrained(tmp_path / "base")
    tokens = torch.randint(1, 11, (12, 7), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": row, "labels": row} for row in tokens]
    states = []
    for on in (False, True):
        torch.manual_seed(0)
        fewer = transformers.BitsAndBytesConfig(**{f"load_in_{bits}bit": True})
        base = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path / "base", quantization_config=fewer, device_map="cpu"
        )
        model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
        one = probe.adapters.huggingface.ProbeCallback(
            PerformanceProbe(), ({"input_ids": tokens}, tokens), schedule=every(1), targets_shift=1
        )
        used = trainer(tmp_path / str(on), *([one] if on else []), model=model, rows=rows)
        if on and bits == 8:
            with pytest.raises(ValueError, match="got an 8-bit base of bitsandbytes"):
                used.train()
            return
        used.train()
        states.append([value for value in model.state_dict().values() if isinstance(value, Tensor)])
    assert same(*states)
    model.eval()
    own = F.cross_entropy(model(input_ids=tokens).logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert one.attachment.probes.series_["all_loss"].values[-1] == pytest.approx(own.item(), rel=1e-5)


def test_the_trainer_for_instructions_of_trl(tmp_path: Path) -> None:
    """Its own loader gives the fixed rows, from a dataset of Hugging Face."""
    trl = pytest.importorskip("trl", reason="trl is not installed")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({name: i for i, name in enumerate("*.abcdefghi")}, "*"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="*", eos_token=".")
    texts = datasets.Dataset.from_dict({"text": [" ".join("abcdefghi"[i % 3 : 3 + i % 5]) for i in range(12)]})
    arguments = trl.SFTConfig(
        str(tmp_path), use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, num_train_epochs=2,
        per_device_train_batch_size=4, save_strategy="no", gradient_checkpointing=False,
    )  # fmt: skip
    states = []
    for on in (False, True):
        torch.manual_seed(0)
        model = language_model()
        used = trl.SFTTrainer(model, arguments, train_dataset=texts, processing_class=tokenizer)
        data = probe.from_loader(used.get_train_dataloader(), 8)
        one = probe.adapters.huggingface.ProbeCallback(PerformanceProbe(), data, schedule=every(1), targets_shift=1)
        if on:
            used.add_callback(one)
        used.train()
        states.append(model.state_dict())
    assert same(*states)
    assert steps(one) == list(range(STEPS + 1))
    model.eval()
    own = model(**data[0], labels=data[1]).loss.item()
    assert one.attachment.probes.series_["all_loss"].values[-1] == pytest.approx(own, rel=1e-5)
    assert "probe/all_loss" in used.state.log_history[0]
