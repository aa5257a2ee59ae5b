"""Models of transformers with tiny random configurations: the recorded loss is the model's own loss for its labels."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from probe import MutualInfoProbe, NeuralCollapseProbe, PerformanceProbe, ProbeSet, Snapshot
from probe.errors import ProbeWarning
from probe.forward import read_data, trace

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:(?!Expected):Warning")]
transformers = pytest.importorskip("transformers")

N, T, K = 24, 7, 11
IDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
SMALL = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


def gpt2(head: str = "GPT2LMHeadModel", **kwargs: Any) -> nn.Module:
    config = transformers.GPT2Config(vocab_size=K, n_positions=8, n_embd=8, n_layer=2, n_head=2, **IDS, **kwargs)
    return getattr(transformers, head)(config)


def llama() -> nn.Module:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=K, num_key_value_heads=2, **SMALL, **IDS))


def bert(head: str, **kwargs: Any) -> nn.Module:
    config = transformers.BertConfig(vocab_size=K, max_position_embeddings=8, **SMALL, **kwargs)
    return getattr(transformers, head)(config)


def t5() -> nn.Module:
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=K, decoder_start_token_id=0, pad_token_id=0, **sizes)
    )


def whisper() -> nn.Module:
    part = {"layers": 2, "attention_heads": 2, "ffn_dim": 16}
    parts = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in part.items()}
    config = transformers.WhisperConfig(
        vocab_size=K, d_model=8, num_mel_bins=4, max_source_positions=10, max_target_positions=8, **parts, **IDS,
        decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    return transformers.WhisperForConditionalGeneration(config)


def tokens(pad: str = "right") -> tuple[dict[str, Tensor], Tensor]:
    """Return the inputs of a model and labels that equal the tokens, -100 at padding."""
    x, mask = torch.randint(1, K, (N, T)), torch.ones(N, T).long()
    mask[::2, 5:] = 0
    mask = mask if pad == "right" else mask.flip(1)
    return {"input_ids": x, "attention_mask": mask}, torch.where(mask == 1, x, -100)


def prompted() -> tuple[dict[str, Tensor], Tensor]:
    inputs, labels = tokens()
    return inputs, torch.cat([torch.full((N, 3), -100), labels[:, 3:]], 1)


def masked() -> tuple[dict[str, Tensor], Tensor]:
    inputs, labels = tokens()
    chosen = torch.rand(N, T) < 0.4
    return {**inputs, "input_ids": torch.where(chosen, 0, inputs["input_ids"])}, torch.where(chosen, labels, -100)


def classes_of_tokens() -> tuple[dict[str, Tensor], Tensor]:
    inputs, labels = tokens()
    return inputs, torch.where(labels == -100, -100, labels % 3)


def classes() -> tuple[dict[str, Tensor], Tensor]:
    return tokens()[0], torch.arange(N) % 3


def numbers() -> tuple[dict[str, Tensor], Tensor]:
    return tokens()[0], torch.randn(N)


def speech() -> tuple[dict[str, Tensor], Tensor]:
    return {"input_features": torch.randn(N, 4, 20)}, tokens()[1]


Make = Callable[[], nn.Module]
MODELS: dict[str, tuple[Make, Callable[[], Any], int]] = {
    "GPT-2": (gpt2, tokens, 1),
    "GPT-2, padding on the left": (gpt2, lambda: tokens("left"), 1),
    "GPT-2, answers after a prompt": (gpt2, prompted, 1),
    "Llama": (llama, tokens, 1),
    "BERT, masked tokens": (lambda: bert("BertForMaskedLM"), masked, 0),
    "BERT, all tokens": (lambda: bert("BertForMaskedLM"), tokens, 0),
    "BERT, classes of tokens": (lambda: bert("BertForTokenClassification", num_labels=3), classes_of_tokens, 0),
    "BERT, classes of sequences": (lambda: bert("BertForSequenceClassification", num_labels=3), classes, 0),
    "BERT, regression": (lambda: bert("BertForSequenceClassification", num_labels=1), numbers, 0),
    "GPT-2, classes of sequences": (lambda: gpt2("GPT2ForSequenceClassification", num_labels=3), classes, 0),
    "T5": (t5, tokens, 0),
    "Whisper": (whisper, speech, 0),
}


def own(model: nn.Module, inputs: dict[str, Tensor], labels: Tensor) -> tuple[float, Tensor]:
    """Return the loss of the model itself and its logits."""
    model.eval()
    with torch.no_grad():
        found = model(**inputs, labels=labels)
    return found.loss.item(), found.logits


@pytest.mark.filterwarnings("ignore:Expected forward passes in evaluation mode that leave")
@pytest.mark.parametrize("given", ["labels", "both", "targets"])
@pytest.mark.parametrize(("make", "data", "shift"), MODELS.values(), ids=MODELS)
def test_the_recorded_loss_is_that_of_the_model(make: Make, data: Any, shift: int, given: str) -> None:
    model, (inputs, labels) = make(), data()
    loss, logits = own(model, inputs, labels)
    if given == "targets" and "decoder_input_ids" in inspect.signature(model.forward).parameters:
        start = torch.full((N, 1), model.config.decoder_start_token_id)
        inputs = {**inputs, "decoder_input_ids": torch.cat([start, labels[:, :-1].clamp(min=0)], 1)}
    full = inputs if given == "targets" else {**inputs, "labels": labels}
    model.train()

    def measured() -> Any:
        return PerformanceProbe().fit(model, (full, None if given == "labels" else labels)).series_

    if given == "labels":
        with pytest.warns(ProbeWarning, match=f"used as targets with targets_shift={shift}"):
            series = measured()
    elif shift:
        with pytest.warns(ProbeWarning, match="targets_shift=1 is used"):
            series = measured()
    else:
        series = measured()
    assert series["all_loss"].item() == pytest.approx(loss, rel=1e-6)
    if not labels.is_floating_point():
        logits, at = (logits[:, :-1], labels[:, 1:]) if shift else (logits, labels)
        right = (logits.argmax(-1) == at)[at != -100].double().mean().item()
        assert series["all_accuracy"].item() == pytest.approx(right)


def test_labels_of_positions_are_those_of_the_next_token() -> None:
    model, (inputs, labels) = gpt2(), tokens()
    moved = torch.cat([labels[:, 1:], torch.full((N, 1), -100)], 1)
    probes = [MutualInfoProbe(reduce="tokens", pooled=False), NeuralCollapseProbe(reduce="tokens")]
    expected = ProbeSet(probes).fit(model, (inputs, moved)).series_
    found = ProbeSet(probes).fit(model, (inputs, labels), targets_shift=1).series_
    for name in ("information_y", "nc1", "all_loss"):
        np.testing.assert_array_equal(found[name].values, expected[name].values)


@pytest.mark.parametrize("pad", ["right", "left"])
@pytest.mark.parametrize("make", [gpt2, llama, lambda: bert("BertModel")], ids=["GPT-2", "Llama", "BERT"])
def test_layers_are_measured_at_the_last_token(make: Make, pad: str) -> None:
    model, (inputs, _) = make().eval(), tokens(pad)
    data = read_data((inputs, None))
    snapshot = Snapshot(model, 0, data, trace(model, data["all"].take(torch.arange(2), torch.device("cpu"))[0]))
    layer = snapshot.select(None)[0]
    found = snapshot.outputs("all", [layer])[layer]
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states[1]
    expected = [row[keep == 1][-1] for row, keep in zip(states, inputs["attention_mask"], strict=True)]
    torch.testing.assert_close(found, torch.stack(expected))


def test_a_decoder_as_long_as_its_encoder_is_a_warning() -> None:
    model, (inputs, labels) = t5(), tokens()
    with pytest.warns(ProbeWarning, match="got a decoder whose inputs have 7 positions too"):
        MutualInfoProbe().attach(model, ({**inputs, "labels": labels}, labels))
    with pytest.warns(ProbeWarning, match="got layers of 5 positions"):
        MutualInfoProbe().attach(model, ({**inputs, "labels": labels[:, :5]}, labels[:, :5]))
