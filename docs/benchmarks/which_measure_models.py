"""Small models of each kind with random weights, and their data, for which_measure.py."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

N, CLASSES, TOKENS, LENGTH = 64, 4, 20, 6
Made = tuple[nn.Module, Any, Tensor]


class Recurrent(nn.Module):
    """A fused LSTM, and a linear layer on its last position."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(TOKENS, 16), nn.LSTM(16, 24, batch_first=True)
        self.last = nn.Linear(24, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.last(self.lstm(self.embed(tokens))[0][:, -1])


def perceptron(activation: type[nn.Module], outputs: int = CLASSES, *between: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(8, 24),
        *between[:1],
        activation(),
        *between[1:],
        nn.Linear(24, 24),
        activation(),
        nn.Linear(24, outputs),
    )


def vectors(model: nn.Module) -> Made:
    x = torch.randn(N, 8)
    return model, x, x[:, :CLASSES].argmax(1)


def regression() -> Made:
    x = torch.randn(N, 8)
    return perceptron(nn.ReLU, 1), x, x[:, :1] * x[:, 1:2]


def convolutional() -> Made:
    layers = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(96, CLASSES)), torch.randn(N, 1, 8, 8), torch.randint(CLASSES, (N,))


def recurrent() -> Made:
    return Recurrent(), torch.randint(TOKENS, (N, LENGTH)), torch.randint(CLASSES, (N,))


def causal(kind: str) -> Made:
    import transformers

    common = {"vocab_size": TOKENS, "bos_token_id": None, "eos_token_id": None}
    if kind == "GPT2":
        config = transformers.GPT2Config(n_positions=LENGTH, n_embd=16, n_layer=2, n_head=2, **common)
        model = transformers.GPT2LMHeadModel(config)
    else:
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **common))
    tokens = torch.randint(TOKENS, (N, LENGTH))
    return model, {"input_ids": tokens}, tokens


def vision() -> Made:
    import transformers

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.ViTConfig(image_size=8, patch_size=4, num_channels=1, num_labels=CLASSES, **sizes)
    model = transformers.ViTForImageClassification(config)
    return model, {"pixel_values": torch.randn(N, 1, 8, 8)}, torch.randint(CLASSES, (N,))


def adapted() -> Made:
    import peft  # type: ignore[import-not-found, unused-ignore]

    model, x, y = causal("GPT2")
    return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)), x, y


def quantised() -> Made:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return vectors(torch.ao.quantization.quantize_dynamic(perceptron(nn.ReLU).eval(), {nn.Linear}))


MODELS: dict[str, Callable[[], Made]] = {
    "MLP, ReLU": lambda: vectors(perceptron(nn.ReLU)),
    "MLP, GELU": lambda: vectors(perceptron(nn.GELU)),
    "MLP, dropout and batch norm": lambda: vectors(perceptron(nn.ReLU, CLASSES, nn.BatchNorm1d(24), nn.Dropout(0.5))),
    "regression": regression,
    "CNN": convolutional,
    "LSTM": recurrent,
    "GPT-2": lambda: causal("GPT2"),
    "Llama (SwiGLU)": lambda: causal("Llama"),
    "ViT": vision,
    "GPT-2 with LoRA": adapted,
    "quantised MLP": quantised,
}
