"""Models of transformers, tiny and with random weights, for the page of compatibility; see tests/cases.py."""

from collections.abc import Callable
from typing import Any

import torch
from cases import CLASSES, Case, Data, N, images, language, padding, tokens
from torch import nn

IDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


def made(model: str, config: str, **settings: Any) -> nn.Module:
    """Return a model of transformers."""
    import transformers

    return getattr(transformers, model)(getattr(transformers, config)(**settings))  # type: ignore[no-any-return]


def text() -> Data:
    """Return tokens, whose own successors are the targets, see ``targets_shift``."""
    x, present = tokens()[0], (~padding()).long()
    return {"input_ids": x, "attention_mask": present}, torch.where(present == 1, x, -100)


def causal(kind: str, **settings: Any) -> Callable[[], tuple[nn.Module, Data]]:
    return lambda: (made(f"{kind}ForCausalLM", f"{kind}Config", vocab_size=11, **SIZES, **IDS, **settings), text())


def gpt2() -> tuple[nn.Module, Data]:
    sizes = {"n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 2}
    return made("GPT2LMHeadModel", "GPT2Config", vocab_size=11, **sizes, **IDS), text()


def gpt2_checkpointed() -> tuple[nn.Module, Data]:
    model, data = gpt2()
    model.gradient_checkpointing_enable()
    return model, data


def gpt2_moved() -> tuple[nn.Module, Data]:
    return gpt2()[0], language()[1]


def bert() -> tuple[nn.Module, Data]:
    model = made(
        "BertForSequenceClassification", "BertConfig", vocab_size=11, max_position_embeddings=8, num_labels=3, **SIZES
    )
    x, y = tokens()
    return model, ({"input_ids": x, "attention_mask": (~padding()).long(), "token_type_ids": torch.zeros_like(x)}, y)


def mamba() -> tuple[nn.Module, Data]:
    sizes = {"hidden_size": 8, "state_size": 4, "num_hidden_layers": 2}
    return made("MambaForCausalLM", "MambaConfig", vocab_size=11, **sizes, **IDS), text()


def rwkv() -> tuple[nn.Module, Data]:
    """Return a model that halves some weights in evaluation mode, as it does from the seventh layer on."""
    sizes = {"hidden_size": 8, "attention_hidden_size": 8, "num_hidden_layers": 8, "context_length": 8}
    inputs, targets = text()
    model = made("RwkvForCausalLM", "RwkvConfig", vocab_size=11, rescale_every=6, use_cache=False, **sizes, **IDS)
    return model, ({"input_ids": inputs["input_ids"]}, targets)


def t5() -> tuple[nn.Module, Data]:
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    model = made("T5ForConditionalGeneration", "T5Config", vocab_size=11, decoder_start_token_id=0, **sizes, **IDS)
    return model, with_decoder(text()[0])


def whisper() -> tuple[nn.Module, Data]:
    part = {"layers": 2, "attention_heads": 2, "ffn_dim": 16}
    parts = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in part.items()}
    sizes = {"d_model": 8, "num_mel_bins": 4, "max_source_positions": 10, "max_target_positions": 8}
    ids = {**IDS, "decoder_start_token_id": 1, "suppress_tokens": None, "begin_suppress_tokens": None}
    model = made("WhisperForConditionalGeneration", "WhisperConfig", vocab_size=11, **sizes, **parts, **ids)
    return model, with_decoder({"input_features": torch.randn(N, 4, 20)})


def with_decoder(inputs: dict[str, Any]) -> Data:
    """Return the data of a model with an encoder and a decoder, which receives the targets one position later."""
    targets = tokens()[0][:, :4]
    start = torch.zeros(N, 1, dtype=torch.long)
    return {**inputs, "decoder_input_ids": torch.cat([start, targets[:, :-1]], 1)}, targets


def clip() -> tuple[nn.Module, Data]:
    written = {"vocab_size": 11, "max_position_embeddings": 8, **SIZES, **IDS, "eos_token_id": 2}
    seen = {"image_size": 8, "patch_size": 4, "num_channels": 2, **SIZES}
    model = made("CLIPModel", "CLIPConfig", text_config=written, vision_config=seen, projection_dim=8)
    return model, ({**text()[0], "pixel_values": images()[0]}, torch.randn(N, 8))


def wav2vec2() -> tuple[nn.Module, Data]:
    speech = {"conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_conv_pos_embeddings": 4}
    groups = {"num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8, "mask_time_prob": 0.0}
    model = made(
        "Wav2Vec2ForSequenceClassification", "Wav2Vec2Config", num_labels=3, vocab_size=11, **SIZES, **speech, **groups
    )
    return model, ({"input_values": torch.randn(N, 200)}, torch.arange(N) % CLASSES)


def vision(kind: str, **settings: Any) -> Callable[[], tuple[nn.Module, Data]]:
    def make() -> tuple[nn.Module, Data]:
        x, y = images()
        sizes = {"image_size": 8, "patch_size": 2, "num_channels": 2, "num_labels": CLASSES}
        return made(f"{kind}ForImageClassification", f"{kind}Config", **sizes, **settings), ({"pixel_values": x}, y)

    return make


def case(name: str, make: Callable[[], tuple[nn.Module, Data]], **options: Any) -> Case:
    part = options.get("output", "logits")
    return Case(name, make, lambda output: output[part], needs="transformers", options=options)


HUGGING_FACE = [
    case("GPT-2, `targets_shift=1`", gpt2, targets_shift=1),
    case("GPT-2, gradient checkpointing", gpt2_checkpointed, targets_shift=1),
    case("GPT-2, targets moved by the caller", gpt2_moved),
    case("Llama, `targets_shift=1`", causal("Llama", num_key_value_heads=2), targets_shift=1),
    case("Llama, `output_hidden_states=True`", causal("Llama", output_hidden_states=True), targets_shift=1),
    case("Mixtral, `targets_shift=1`", causal("Mixtral", num_local_experts=4, num_key_value_heads=2), targets_shift=1),
    case("Mamba, `targets_shift=1`", mamba, targets_shift=1),
    case("RWKV of 8 layers, `targets_shift=1`", rwkv, targets_shift=1),
    case("BERT, classes of sequences", bert),
    case("T5", t5),
    case("Whisper", whisper),
    case('CLIP, `output="image_embeds"`', clip, output="image_embeds"),
    case("Wav2Vec2, classes of sequences", wav2vec2),
    case("ViT", vision("ViT", **SIZES)),
    case("Swin", vision("Swin", embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=2)),
]
