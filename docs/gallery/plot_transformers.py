"""
A causal language model with the Trainer of transformers
========================================================

Probes in the loop of the Trainer, by one callback. The loss and the accuracy that they record equal those of the
Trainer's own evaluation.
"""

# %%
# A small GPT-2 learns to continue sequences a, a + d, a + 2 d, ... modulo 13. Two tokens determine the others, so their
# labels are -100, which leaves them out. **The label of the first token must be -100**: no output predicts it. The
# Trainer counts it for models such as GPT-2, and divides their summed loss by the number of all labels.
import torch
import transformers

p, length = 13, 8
pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
tokens = (pairs[:, :1] + pairs[:, 1:] * torch.arange(length)) % p
tokens = tokens[torch.randperm(p * p, generator=torch.Generator().manual_seed(0))]
labels = tokens.clone()
labels[:, :2] = -100
rows = [{"input_ids": one, "labels": label} for one, label in zip(tokens, labels, strict=True)]
splits = {"train": rows[:130], "test": rows[130:]}

transformers.set_seed(0)
sizes = {"vocab_size": p, "n_positions": length, "n_embd": 48, "n_layer": 2, "n_head": 4}
model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))

# %%
# ``from_loader`` makes the fixed data from the same rows, and the callback is one line. ``targets_shift=1`` compares
# the output at a position with the label of the next one, as the model itself does. The test loss has a hump, which
# takes more observations to be clear than the default schedule has.
import probe
from probe import MutualInfoProbe, ProbeSet

fixed = {
    name: probe.from_loader(of, len(of), collate=transformers.default_data_collator) for name, of in splits.items()
}
probes = ProbeSet([MutualInfoProbe(reduce="tokens")])
often = probe.log_spaced(60, stop=1500)  # the first steps and the last one, and others evenly in log time
callback = probe.adapters.huggingface.ProbeCallback(probes, fixed, targets_shift=1, schedule=often)


def accuracy(evaluated):
    logits, labels = evaluated.predictions[:, :-1], evaluated.label_ids[:, 1:]
    return {"accuracy": (logits.argmax(-1) == labels)[labels != -100].mean()}


settings = {"num_train_epochs": 300, "per_device_train_batch_size": 26, "learning_rate": 3e-3, "weight_decay": 1.0}
quiet = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_strategy": "no"}
trainer = transformers.Trainer(
    model,
    transformers.TrainingArguments("out", **settings, **quiet),
    train_dataset=splits["train"],
    eval_dataset=splits["test"],
    compute_metrics=accuracy,
    callbacks=[callback],
)
trainer.remove_callback(transformers.PrinterCallback)
trainer.train()
probes.series_

# %%
# The Trainer's own evaluation of the trained model gives the numbers of the last observation.
own, last = trainer.evaluate(), probes.series_.isel(step=-1)
for name in ("loss", "accuracy"):
    print(f"{name}: Trainer {own[f'eval_{name}']:.6f}, probe {last[f'test_{name}'].item():.6f}")
    assert abs(own[f"eval_{name}"] - last[f"test_{name}"].item()) < 1e-5

# %%
# What the blocks keep of the tokens, and the phases of the training.
from probe import PhaseDetector, plots

detector = PhaseDetector().fit(probes.series_)
print(detector.summary().splitlines()[0])
plots.overview(probes.series_, detector=detector)
