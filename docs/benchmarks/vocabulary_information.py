"""What information about a vocabulary can show, by its size: the table of docs/measures/which_measure.md.

    python docs/benchmarks/vocabulary_information.py       # about a minute; needs transformers

A small GPT-2 learns which token follows which. Tokens have a Zipf distribution, and each has one successor. The
information is that of the rows and of the next tokens, with the true labels and with shuffled labels.
"""

import warnings

import torch
import transformers
from torch import Tensor
from torch.nn.functional import cross_entropy

from probe import MutualInfoProbe, PerformanceProbe, ProbeSet
from probe.errors import ProbeWarning

LENGTH, ROWS, STEPS = 4, 384, 300


def sequences(vocabulary: int, count: int, generator: torch.Generator) -> Tensor:
    """Return tokens (count, LENGTH): the first by Zipf's law, each next one the successor of the one before."""
    weights = 1 / torch.arange(1, vocabulary + 1).double()
    first = torch.multinomial(weights, count, replacement=True, generator=generator)
    return torch.stack([(first + 7 * k) % vocabulary for k in range(LENGTH)], 1)


def trained(vocabulary: int, generator: torch.Generator) -> torch.nn.Module:
    """Return a GPT-2 of two blocks of width 32 after STEPS updates."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=vocabulary, n_positions=LENGTH, n_embd=32, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None
    )
    model = transformers.GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(STEPS):
        tokens = sequences(vocabulary, 64, generator)
        loss = cross_entropy(model(tokens).logits[:, 0], tokens[:, 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def row(vocabulary: int) -> str:
    """Return a line of the table: the last block at the last of two positions, whose target is the third token."""
    generator = torch.Generator().manual_seed(1)
    model = trained(vocabulary, generator)
    tokens = sequences(vocabulary, ROWS, generator)
    x, y = {"input_ids": tokens[:, :2]}, tokens[:, 2]
    data = {"true": (x, y), "shuffled": (x, y[torch.randperm(ROWS, generator=generator)])}
    probes = ProbeSet([MutualInfoProbe(layers="transformer.h.1"), PerformanceProbe()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbeWarning)
        series = probes.fit(model, data).series_.squeeze(["step", "layer"])
    classes, once = (count := y.unique(return_counts=True)[1]).numel(), (count == 1).sum().item() / ROWS
    true, shuffled = (series.sel(split=name) for name in data)
    numbers = [true["information_x"], true["information_y_ceiling"], true["information_y"], shuffled["information_y"]]
    accuracies = [series["true_accuracy"], series["shuffled_accuracy"]]
    values = [*(f"{v.item():.2f}" for v in numbers), *(f"{v.item():.2f}" for v in accuracies)]
    return f"| {vocabulary:,} | {classes} | {once:.2f} | {' | '.join(values)} |"


if __name__ == "__main__":
    print("| tokens | seen | seen once | I(T+n;X) | H(Y) | I(T+n;Y) | shuffled Y | accuracy | shuffled |")
    print("|---" * 9 + "|")
    for vocabulary in (10, 100, 1_000, 50_000):
        print(row(vocabulary), flush=True)
