# ruff: noqa: E501
"""The table of kinds: logs as common frameworks write them, what is recognised in each, and which options it needs.

``python tests/logs/kinds.py`` writes the table into ``docs/logs.md``. ``tests/test_log_kinds.py`` reads every kind,
compares the numbers, and compares the page with this table. A kind without files in this folder has text in the format
that the named source documents.
"""

import json
import shutil
import sqlite3
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PAGE = ROOT / "docs" / "logs.md"
BEGIN, END = "<!-- kinds: written by tests/logs/kinds.py -->", "<!-- end of kinds -->"
N = 12  # epochs of the synthetic logs
TRAIN_LOSS = [round(2.0 * 0.8**i, 4) for i in range(N)]
TEST_LOSS = [round(2.1 * 0.85**i, 4) for i in range(N)]
TRAIN_ACCURACY = [round(0.1 + 0.07 * i, 4) for i in range(N)]
TEST_ACCURACY = [round(0.1 + 0.05 * i, 4) for i in range(N)]
ALL = {
    "train_loss": TRAIN_LOSS,
    "train_accuracy": TRAIN_ACCURACY,
    "test_loss": TEST_LOSS,
    "test_accuracy": TEST_ACCURACY,
}
EPOCHS = list(range(N))
ROWS = list(zip(EPOCHS, TRAIN_LOSS, TRAIN_ACCURACY, TEST_LOSS, TEST_ACCURACY, strict=True))


def of(*roles: str) -> dict[str, list[float]]:
    """Return the planted curves of some roles."""
    return {role: ALL[role] for role in roles}


LOSSES = of("train_loss", "test_loss")
NO_TRAIN_ACCURACY = of("train_loss", "test_loss", "test_accuracy")


@dataclass(frozen=True)
class Kind:
    """One kind of log.

    Attributes
    ----------
    framework : str
        By whom it is written.
    files : str
        Names of the files, for the page.
    format : str
        The reader that recognises it.
    name : str
        Name of the file or folder that the test writes, or its path below ``kinds``.
    text : callable or None
        Returns the text. None: the framework itself wrote the files, by ``make_kinds.py``.
    expected : dict
        The numbers by role.
    steps : sequence or None
        The expected steps. None: not compared.
    said : dict
        Options that must be given: ``{"axis": "step"}``.
    source : str
        The source of the format of a synthetic log.
    note : str
        A part of ``reading``, or "".
    """

    framework: str
    files: str
    format: str
    name: str
    text: Callable[[], str] | None
    expected: dict[str, list[float]]
    steps: list[int] | None = None
    said: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    note: str = ""


def lines(one: Callable[..., str], head: str = "", rows: Sequence[tuple[float, ...]] = ROWS) -> Callable[[], str]:
    """Return a function that writes one text for each epoch."""
    return lambda: head + "".join(one(*row) for row in rows)


def objects(one: Callable[..., dict[str, float | str]], indent: str = "\n") -> Callable[[], str]:
    """Return a function that writes one JSON object for each epoch."""
    return lambda: "".join(json.dumps(one(*row)) + indent for row in ROWS)


def document(content: object) -> Callable[[], str]:
    """Return a function that writes one JSON document."""
    return lambda: json.dumps(content)


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.2f}"


def _torchvision(e: int, tl: float, ta: float, vl: float, va: float) -> str:
    train = "".join(
        f"Epoch: [{e}]  [{i:3}/100]  eta: 0:00:{50 - i // 2:02}  lr: 0.1  img/s: 1201.5  loss: {tl + 0.01 * (0 - i):.4f} "
        f"({tl:.4f})  acc1: {percent(ta)} ({percent(ta)})  acc5: 90.0 (90.0)  time: 0.1  data: 0.0  max mem: 5000\n"
        for i in (0, 50)
    )
    test = "".join(
        f"Test:   [{i:2}/40]  eta: 0:00:01  loss: 0.5 ({vl:.4f})  acc1: 70.0 (71.0)  acc5: 90.0 (90.0)  time: 0.1\n"
        for i in (0, 39)
    )
    return f"{train}Epoch: [{e}] Total time: 0:00:50\n{test}Test:  Acc@1 {100 * va:.3f} Acc@5 90.000\n"


def _mmcv() -> str:
    rows = [{"env_info": "sys.platform: linux", "seed": 0, "exp_name": "config.py"}]
    for e, tl, ta, _, va in ROWS:
        for i in (50, 100):
            row = {"mode": "train", "epoch": e + 1, "iter": i, "lr": 0.1, "memory": 5000, "data_time": 0.1, "time": 0.2}
            rows.append({**row, "loss": tl, "accuracy_top-1": 100 * ta})
        rows.append(
            {"mode": "val", "epoch": e + 1, "iter": 40, "lr": 0.1, "accuracy_top-1": 100 * va, "accuracy_top-5": 99}
        )
    return "".join(json.dumps(row) + "\n" for row in rows)


def _mmengine() -> str:
    rows = []
    for e, tl, _, _, va in ROWS:
        for i in (50, 100):
            row = {"lr": 0.1, "data_time": 0.1, "loss": tl, "time": 0.2, "epoch": e + 1, "iter": 100 * e + i}
            rows.append({**row, "memory": 5000, "step": 100 * e + i})
        rows.append({"accuracy/top1": 100 * va, "accuracy/top5": 99.0, "data_time": 0.1, "time": 0.2, "step": e + 1})
    return "".join(json.dumps(row) + "\n" for row in rows)


def _aim() -> str:
    head = ",idx,step,value,epoch,time,run.hash,metric.name,metric.context.subset\n"
    names = {
        "train_loss": "loss,train",
        "test_loss": "loss,val",
        "train_accuracy": "acc,train",
        "test_accuracy": "acc,val",
    }
    rows = [
        f"{i},{i},{10 * i},{value},{i},2024-01-01 10:00:00,5f0a9c,{names[role]}\n"
        for role, values in ALL.items()
        for i, value in enumerate(values)
    ]
    return head + "".join(rows)


def _wandb_chart(axis: str = "Step") -> str:
    runs = ("calm-sun-3", "adamw - wd 0.1")
    columns = [f"{run} - {name}" for run in runs for name in ("_step", "_step__MIN", "_step__MAX", "val/loss")]
    columns += [f"{run} - val/loss{band}" for run in runs for band in ("__MIN", "__MAX")]
    head = ",".join(f'"{name}"' for name in [axis, *columns])
    rows = [
        ",".join(f'"{value}"' for value in [10 * e, *([10 * e] * 3 + [vl]) * 2, *[vl] * 4]) for e, _, _, vl, _ in ROWS
    ]
    return "\n".join([head, *rows]) + "\n"


_PERCENT = {role: [100 * value for value in values] if "accuracy" in role else values for role, values in ALL.items()}
_TEN = [10 * e for e in EPOCHS]

KINDS = [
    Kind("Keras", "CSVLogger", "csv", "keras/training.log", None, {}, EPOCHS),
    Kind("Keras", "history as JSON, also with numbers as text", "results", "keras/history_text.json", None, {}, EPOCHS),
    Kind("Keras", "history as Python prints it", "results", "keras/history_repr.txt", None, {}, EPOCHS),
    Kind("Keras", "what `fit` prints", "lines", "keras/stdout.txt", None, {}, [e + 1 for e in EPOCHS]),
    Kind("fastai", "`history.csv` of CSVLogger", "csv", "fastai/history.csv", None, {}),
    Kind("fastai", "`history.csv` with an error rate", "csv", "fastai/error_rate.csv", None, {}),
    Kind("LightGBM", "lines of `log_evaluation`", "lines", "lightgbm/train.log", None, {}),
    Kind("LightGBM", "`evals_result` as JSON", "results", "lightgbm/evals_result.json", None, {}),
    Kind("XGBoost", "lines of training", "lines", "xgboost/train.log", None, {}),
    Kind("XGBoost", "`evals_result` as JSON", "results", "xgboost/evals_result.json", None, {}),
    Kind(
        "XGBoost for scikit-learn", "`evals_result()` of several sets as JSON", "results", "xgboost/sklearn.json", None, {},
        said={"train_loss": "validation_0/logloss", "test_loss": "validation_1/logloss"},
    ),
    Kind("CatBoost", "`catboost_info/*_error.tsv`", "catboost", "catboost", None, {}, list(range(15))),
    Kind("DVCLive", "`plots/metrics/**/*.tsv`", "dvclive", "dvclive", None, {}),
    Kind("trackio", "`*.db` of a project", "trackio", "trackio.db", None, {}),
    Kind("TensorBoard", "CSV and JSON downloaded from its page", "tensorboard-export", "tensorboard_export", None, {}),
    Kind(
        "timm", "`summary.csv`", "csv", "summary.csv",
        lines(
            lambda e, tl, ta, vl, va: f"{e},{tl},{vl},{percent(va)},{percent(min(1, 2 * va))},0.1\n",
            "epoch,train_loss,eval_loss,eval_top1,eval_top5,lr\n",
        ),
        {**LOSSES, "test_accuracy": _PERCENT["test_accuracy"]}, EPOCHS,
        source="`update_summary` in timm/utils/summary.py", note="eval_top5",
    ),
    Kind(
        "DeiT, MAE, DINO, ConvNeXt, DETR", "`log.txt`", "json", "log.txt",
        objects(lambda e, tl, ta, vl, va: {
            "train_lr": 0.1, "train_loss": tl, "test_loss": vl, "test_acc1": 100 * va, "test_acc5": 99.0, "epoch": e,
            "n_parameters": 5717416,
        }),
        {**LOSSES, "test_accuracy": _PERCENT["test_accuracy"]}, EPOCHS,
        source="`log_stats` in main.py of facebookresearch/deit", note="test_acc5",
    ),
    Kind(
        "torchvision, references", "printed lines", "lines", "train.log", lines(_torchvision),
        {"test_loss": TEST_LOSS, "test_accuracy": _PERCENT["test_accuracy"]}, None,
        source="`MetricLogger` in references/classification/utils.py", note="100 in each epoch",
    ),
    Kind(
        "PyTorch, ImageNet example", "printed lines", "lines", "out.txt",
        lines(lambda e, tl, ta, vl, va: (
            f"Epoch: [{e}][  1/100]\tTime  0.5 ( 1.0)\tLoss {tl:.4e} (6.9e+00)\tAcc@1   {100 * ta:.2f} (  0.1)\tAcc@5 1.0 (1.0)\n"
            f"Test: [ 0/40]\tTime  1.0 ( 1.0)\tLoss 1.0e+00 ({vl:.4e})\tAcc@1  1.0 ( 1.0)\n *   Acc@1 {100 * va:.3f} Acc@5 89.078\n"
        )),
        _PERCENT | {"test_loss": TEST_LOSS}, None, source="`ProgressMeter` in imagenet/main.py of pytorch/examples",
    ),
    Kind(
        "PyTorch, MNIST example", "printed lines", "lines", "mnist.log",
        lines(lambda e, tl, ta, vl, va: (
            f"Train Epoch: {e + 1} [0/60000 (0%)]\tLoss: {tl:.6f}\nTrain Epoch: {e + 1} [640/60000 (1%)]\tLoss: {tl:.6f}\n"
            f"\nTest set: Average loss: {vl:.4f}, Accuracy: {round(10000 * va)}/10000 ({100 * va:.0f}%)\n\n"
        )),
        of("test_loss", "test_accuracy"), None, source="mnist/main.py of pytorch/examples",
    ),
    Kind(
        "Detectron2", "`metrics.json`", "json", "metrics.json",
        objects(lambda e, tl, ta, vl, va: {
            "data_time": 0.1, "iteration": 20 * e + 19, "loss_box_reg": 0.2, "loss_cls": 0.3, "lr": 0.1, "time": 0.2,
            "total_loss": tl, "validation_loss": vl,
        }),
        LOSSES, [20 * e + 19 for e in EPOCHS], source="`JSONWriter` in detectron2/utils/events.py", note="loss_box_reg",
    ),
    Kind(
        "MMCV", "`*.log.json`", "openmmlab", "20240101_000000.log.json", _mmcv,
        {"test_accuracy": _PERCENT["test_accuracy"]}, None,
        source="`TextLoggerHook` of MMCV 1.x", note="evaluations belong to the last iteration before them",
    ),
    Kind(
        "MMEngine", "`scalars.json`, `vis_data/*.json`", "openmmlab", "scalars.json", _mmengine,
        {"test_accuracy": _PERCENT["test_accuracy"]}, None, source="`LocalVisBackend` and `LoggerHook` of MMEngine",
    ),
    Kind(
        "Ultralytics, classification", "`results.csv`", "csv", "results.csv",
        lines(
            lambda e, tl, ta, vl, va: f"{e + 1:23},{tl:23},{va:23},{0.99:23},{vl:23},{0.1:23}\n",
            "                  epoch,             train/loss,  metrics/accuracy_top1,  metrics/accuracy_top5,"
            "               val/loss,                 lr/pg0\n",
        ),
        NO_TRAIN_ACCURACY, [e + 1 for e in EPOCHS], source="`save_metrics` in ultralytics/engine/trainer.py", note="top5",
    ),
    Kind(
        "Ultralytics, detection", "`results.csv`, which has no sum of its losses", "csv", "results.csv",
        lines(
            lambda e, tl, ta, vl, va: f"{e + 1},{tl},{tl},0.5,{va},{vl},{vl}\n",
            "epoch,train/box_loss,train/cls_loss,metrics/precision(B),metrics/mAP50(B),val/box_loss,val/cls_loss\n",
        ),
        LOSSES, [e + 1 for e in EPOCHS], {"train_loss": "train/cls_loss", "test_loss": "val/cls_loss"},
        source="`save_metrics` in ultralytics/engine/trainer.py", note="train/box_loss",
    ),
    Kind(
        "nanoGPT", "printed lines", "lines", "train.out",
        lines(lambda e, tl, ta, vl, va: (
            f"step {10 * e}: train loss {tl:.4f}, val loss {vl:.4f}\n"
            f"iter {10 * e}: loss {tl:.4f}, time 23.45ms, mfu 1.20%\niter {10 * e + 5}: loss {tl:.4f}, time 23.45ms, mfu 1.20%\n"
        )),
        LOSSES, None, source="train.py of karpathy/nanoGPT", note="'step' and 'iter' were read as one count",
    ),
    Kind(
        "build-nanogpt", "`log/log.txt`", "lines", "log.txt",
        lines(lambda e, tl, ta, vl, va: f"{10 * e} val {vl:.4f}\n{10 * e} hella 0.2500\n{10 * e} train {tl:.6f}\n"),
        LOSSES, _TEN, source="train_gpt2.py of karpathy/build-nanogpt",
    ),
    Kind(
        "llm.c", "`main.log`", "lines", "main.log",
        lines(lambda e, tl, ta, vl, va: f"s:{10 * e} tel:{vl:.4f}\ns:{10 * e} trl:{tl:.4f} lr:0.0006 norm:1.2\n"),
        LOSSES, _TEN, source="llmc/logger.h of karpathy/llm.c",
    ),
    Kind(
        "modded-nanogpt", "`logs/*.txt`", "lines", "run.txt",
        lines(lambda e, tl, ta, vl, va: (
            f"step:{10 * e}/110 val_loss:{vl:.4f} train_time:{e}5ms step_avg:98.76ms\n"
            f"step:{10 * e + 1}/110 train_time:{e}6ms step_avg:98.76ms\n"
        )),
        of("test_loss"), _TEN, source="train_gpt.py of KellerJordan/modded-nanogpt",
    ),
    Kind(
        "Hugging Face Trainer", "printed history", "lines", "slurm-1.out",
        lines(lambda e, tl, ta, vl, va: (
            f"{{'loss': '{tl}', 'grad_norm': '0.5', 'learning_rate': '1e-05', 'epoch': '{e}'}}\n"
            f" {8 * e}%|##        | {e}/12 [00:01<00:05,  8.1it/s]\n"
            f"{{'eval_loss': '{vl}', 'eval_accuracy': '{va}', 'eval_runtime': '1.2', 'epoch': '{e}'}}\n"
        )),
        NO_TRAIN_ACCURACY, EPOCHS, source="`ProgressCallback` of transformers",
    ),
    Kind(
        "TRL", "`trainer_state.json`", "huggingface", "trainer_state.json",
        document({
            "epoch": 1.0, "global_step": 110, "is_world_process_zero": True,
            "log_history": [
                entry
                for e, tl, ta, vl, va in ROWS
                for entry in (
                    {"epoch": e / 12, "loss": tl, "mean_token_accuracy": ta, "num_tokens": 100.0 * e, "step": 10 * e},
                    {"epoch": e / 12, "eval_loss": vl, "eval_mean_token_accuracy": va, "step": 10 * e},
                )
            ],
        }),
        ALL, _TEN, source="`SFTTrainer` of TRL 1.16",
    ),
    Kind(
        "LLaMA-Factory", "`trainer_log.jsonl`", "json", "trainer_log.jsonl",
        objects(lambda e, tl, ta, vl, va: {
            "current_steps": 10 * e, "total_steps": 110, "loss": tl, "lr": 1e-5, "epoch": e / 12, "percentage": 9.0,
            "elapsed_time": "0:00:10", "remaining_time": "0:01:00", "eval_loss": vl,
        }),
        LOSSES, _TEN, source="`LogCallback` in src/llamafactory/train/callbacks.py",
    ),
    Kind(
        "OLMo", "console log", "lines", "olmo.log",
        lines(lambda e, tl, ta, vl, va: (
            f"2024-02-01T10:00:00.123456789Z 2024-02-01 10:00:00.123\thost:0\tolmo.train:967\tINFO\t[step={10 * e}/739328,epoch=0]\n"
            f"    optim/total_grad_norm=0.5\n    train/CrossEntropyLoss={tl:.4f}\n    train/Perplexity=74,000\n"
        )),
        of("train_loss"), _TEN, source="`log_metrics_to_console` in olmo/train.py", note="train/Perplexity",
    ),
    Kind(
        "Composer", "FileLogger", "lines", "logs-rank0.txt",
        lines(lambda e, tl, ta, vl, va: "".join(
            f"[metric][batch={10 * e}]: {name}: {value} \n"
            for name, value in (
                ("loss/train/total", tl), ("metrics/train/MulticlassAccuracy", ta), ("metrics/eval/CrossEntropy", vl),
                ("metrics/eval/MulticlassAccuracy", va),
            )
        )),
        ALL, _TEN, source="composer/loggers/file_logger.py",
    ),
    Kind(
        "Megatron-LM", "printed lines", "lines", "megatron.log",
        lines(lambda e, tl, ta, vl, va: (
            f" iteration {10 * e:8}/  500000 | consumed samples: {160 * e} | elapsed time per iteration (ms): 250.1 | "
            f"learning rate: 1.500E-04 | global batch size:    16 | lm loss: {tl:.6E} | loss scale: 1.0 | grad norm: 1.2 |\n"
            f" validation loss at iteration {10 * e} | lm loss value: {vl:.6E} | lm loss PPL: 1.67E+02 | \n"
        )),
        LOSSES, _TEN, source="`training_log` in megatron/training/training.py",
    ),
    Kind(
        "fairseq", "printed lines", "lines", "fairseq.log",
        lines(lambda e, tl, ta, vl, va: (
            f"2021-01-01 10:00:00 | INFO | valid | epoch {e:03d} | valid on 'valid' subset | loss {vl} | ppl 157.6 | "
            f"num_updates {10 * e} | best_loss 7.3\n"
            f"2021-01-01 10:00:00 | INFO | train | epoch {e:03d} | loss {tl} | ppl 480.1 | num_updates {10 * e} | lr 0.0005\n"
        )),
        LOSSES, _TEN, source="`SimpleProgressBar` in fairseq/logging/progress_bar.py",
    ),
    Kind(
        "Flair", "`loss.tsv`", "csv", "loss.tsv",
        lines(
            lambda e, tl, ta, vl, va: f"{e}\t10:00:00\t0\t0.1\t{tl}\t{vl}\t{va}\n",
            "EPOCH\tTIMESTAMP\tBAD_EPOCHS\tLEARNING_RATE\tTRAIN_LOSS\tDEV_LOSS\tDEV_ACCURACY\n",
        ),
        NO_TRAIN_ACCURACY, EPOCHS, source="`ModelTrainer` of Flair",
    ),
    Kind(
        "Aim", "`dataframe()` of a query as CSV", "csv", "aim.csv", _aim, ALL, _TEN,
        source="`Metric.dataframe` in aim/sdk/sequences/metric.py of Aim 3.29", note="",
    ),
    Kind(
        "W&B", "CSV of a chart", "wandb", "chart.csv", _wandb_chart, {"test_loss": TEST_LOSS}, _TEN,
        source="export of a chart", note="__MIN, __MAX and _step",
    ),
    Kind(
        "W&B", "CSV of a chart over a time", "wandb", "chart.csv", lambda: _wandb_chart("Relative Time (Process)"),
        {"test_loss": TEST_LOSS}, _TEN, {"axis": "Relative Time (Process)"}, source="export of a chart",
    ),
    Kind(
        "own scripts", "a JSON document with a list of objects", "results", "results.json",
        document({"config": {"lr": 0.1, "layers": [1, 2]}, "history": [
            {"step": 10 * e, "train_loss": tl, "train_acc": ta, "test_loss": vl, "test_acc": va} for e, tl, ta, vl, va in ROWS
        ]}),
        ALL, _TEN,
    ),
    Kind(
        "own scripts", "a JSON document with lists", "results", "results.json",
        document({"steps": _TEN, "train_losses": TRAIN_LOSS, "test_losses": TEST_LOSS, "train_accs": TRAIN_ACCURACY,
                  "test_accs": TEST_ACCURACY, "config": {"layers": [1, 2]}}),
        ALL, _TEN, note="lists of other lengths were ignored: layers (2)",
    ),
    Kind(
        "own scripts", "lines of key=value", "lines", "run.log",
        lines(lambda e, tl, ta, vl, va: f"2024-01-01 10:00:00,123 INFO step={10 * e} loss={tl} acc={ta} val_loss={vl} val_acc={va}\n"),
        ALL, _TEN,
    ),
    Kind(
        "own scripts", "lines of text", "lines", "stdout",
        lines(lambda e, tl, ta, vl, va: (
            f"Epoch {e}/11 | Train Loss: {tl} | Acc: {percent(ta)}% || Val. Loss: {vl} | Acc: {percent(va)}%\n"
        )),
        _PERCENT, EPOCHS,
    ),
    Kind("own scripts", "`*.npz` with an array for each curve", "npz", "curves.npz", lambda: "", ALL, _TEN),
]  # fmt: skip


def path_of(kind: Kind, folder: Path) -> Path:
    """Return the log of a kind, written into ``folder`` if the framework has not written it."""
    if kind.format == "trackio":
        path = folder / kind.name
        with closing(sqlite3.connect(path)) as database:
            database.executescript(f"BEGIN;\n{(HERE / 'kinds' / 'trackio.sql').read_text()}\nCOMMIT;")
        return path
    if kind.text is None:
        return HERE / "kinds" / kind.name
    path = folder / kind.name
    if kind.format == "npz":
        arrays: dict[str, Any] = {"steps": _TEN, **ALL}
        np.savez(path, **arrays)
    else:
        path.write_text(kind.text(), encoding="utf-8")
    return path


def table() -> str:
    """Return the table for the page. The recognised names are those that the reader finds."""
    import tempfile

    from probe.readers import read

    shown = ["| written by | files | `--format` | recognised | options needed |", "|---|---|---|---|---|"]
    for kind in KINDS:
        folder = Path(tempfile.mkdtemp())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            series = read(path_of(kind, folder), **kind.said)
        shutil.rmtree(folder)
        found = ", ".join(
            f"`{series[role].attrs['logged_as']}`" for role in ALL if role in series and role not in kind.said
        )
        said = " ".join(f'`--{key.replace("_", "-")} "{value}"`' for key, value in kind.said.items())
        shown.append(f"| {kind.framework} | {kind.files} | `{kind.format}` | {found or '-'} | {said or '-'} |")
    return "\n".join(shown)


def page() -> str:
    """Return the page with the table of today."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    if BEGIN not in PAGE.read_text(encoding="utf-8"):
        sys.exit(f"Expected the line {BEGIN!r} in {PAGE}, got none; add it and {END!r} where the table belongs")
    PAGE.write_text(page(), encoding="utf-8")
