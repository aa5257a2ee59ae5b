"""Names of losses and accuracies as the common frameworks write them."""

import numpy as np
import pytest

from probe.readers import guess_roles, role_of
from probe.readers.log import Log, to_series
from probe.readers.names import AXES, guess_axis, is_error_rate, untaken_note

# By framework: the names of one log, and the roles that are taken.
FRAMEWORKS = {
    "Keras": (
        "loss sparse_categorical_accuracy val_loss val_sparse_categorical_accuracy learning_rate",
        {
            "train_loss": "loss",
            "train_accuracy": "sparse_categorical_accuracy",
            "test_loss": "val_loss",
            "test_accuracy": "val_sparse_categorical_accuracy",
        },
    ),
    "fastai": (
        "train_loss valid_loss accuracy top_k_accuracy",
        {"train_loss": "train_loss", "test_loss": "valid_loss", "test_accuracy": "accuracy"},
    ),
    "fastai, error rate": (
        "train_loss valid_loss error_rate",
        {"train_loss": "train_loss", "test_loss": "valid_loss", "test_accuracy": "error_rate"},
    ),
    "timm": (
        "train_loss eval_loss eval_top1 eval_top5 lr",
        {"train_loss": "train_loss", "test_loss": "eval_loss", "test_accuracy": "eval_top1"},
    ),
    "DeiT": (
        "train_lr train_loss train_loss_scale test_loss test_acc1 test_acc5 n_parameters",
        {"train_loss": "train_loss", "test_loss": "test_loss", "test_accuracy": "test_acc1"},
    ),
    "ConvNeXt": (
        "train_loss train_class_acc train_loss_scale test_loss test_acc1 test_acc5 test_acc1_ema",
        {
            "train_loss": "train_loss",
            "train_accuracy": "train_class_acc",
            "test_loss": "test_loss",
            "test_accuracy": "test_acc1",
        },
    ),
    "DETR": (
        "train_loss train_loss_ce train_loss_bbox train_class_error test_loss test_loss_ce test_class_error",
        {
            "train_loss": "train_loss",
            "train_accuracy": "train_class_error",
            "test_loss": "test_loss",
            "test_accuracy": "test_class_error",
        },
    ),
    "Detectron2": (
        "total_loss loss_cls loss_box_reg fast_rcnn/cls_accuracy validation_loss bbox/AP",
        {"train_loss": "total_loss", "test_loss": "validation_loss"},
    ),
    "Ultralytics, classes": (
        "train/loss metrics/accuracy_top1 metrics/accuracy_top5 val/loss lr/pg0",
        {"train_loss": "train/loss", "test_loss": "val/loss", "test_accuracy": "metrics/accuracy_top1"},
    ),
    "nanoGPT in W&B": ("iter train/loss val/loss lr mfu", {"train_loss": "train/loss", "test_loss": "val/loss"}),
    "TRL": (
        "loss entropy num_tokens mean_token_accuracy eval_loss eval_mean_token_accuracy eval_entropy",
        {
            "train_loss": "loss",
            "train_accuracy": "mean_token_accuracy",
            "test_loss": "eval_loss",
            "test_accuracy": "eval_mean_token_accuracy",
        },
    ),
    "OLMo": (
        "train/CrossEntropyLoss train/Perplexity eval/validation/CrossEntropyLoss eval/downstream/boolq_acc",
        {"train_loss": "train/CrossEntropyLoss", "test_loss": "eval/validation/CrossEntropyLoss"},
    ),
    "OLMo-core": ("train/CE_loss train/PPL", {"train_loss": "train/CE_loss"}),
    "Composer": (
        "loss/train/total metrics/train/MulticlassAccuracy metrics/eval/CrossEntropy metrics/eval/MulticlassAccuracy",
        {
            "train_loss": "loss/train/total",
            "train_accuracy": "metrics/train/MulticlassAccuracy",
            "test_loss": "metrics/eval/CrossEntropy",
            "test_accuracy": "metrics/eval/MulticlassAccuracy",
        },
    ),
    "Composer, language": (
        "loss/train/total metrics/train/LanguageCrossEntropy metrics/eval/LanguageCrossEntropy",
        {"train_loss": "loss/train/total", "test_loss": "metrics/eval/LanguageCrossEntropy"},
    ),
    "Lightning": (
        "train_loss_step train_loss_epoch train_acc val_loss val_acc",
        {
            "train_loss": "train_loss_epoch",
            "train_accuracy": "train_acc",
            "test_loss": "val_loss",
            "test_accuracy": "val_acc",
        },
    ),
    "LightGBM": (
        "training/binary_logloss training/binary_error valid/binary_logloss valid/binary_error valid/auc",
        {
            "train_loss": "training/binary_logloss",
            "train_accuracy": "training/binary_error",
            "test_loss": "valid/binary_logloss",
            "test_accuracy": "valid/binary_error",
        },
    ),
    "XGBoost": (
        "train/mlogloss train/merror eval/mlogloss eval/merror",
        {
            "train_loss": "train/mlogloss",
            "train_accuracy": "train/merror",
            "test_loss": "eval/mlogloss",
            "test_accuracy": "eval/merror",
        },
    ),
    "fairseq": (
        "train_loss train_nll_loss train_ppl valid_loss valid_nll_loss valid_ppl",
        {"train_loss": "train_loss", "test_loss": "valid_loss"},
    ),
    "Flair": ("TRAIN_LOSS DEV_LOSS DEV_ACCURACY", {
        "train_loss": "TRAIN_LOSS", "test_loss": "DEV_LOSS", "test_accuracy": "DEV_ACCURACY"}),
    "CatBoost": ("learn/Logloss test/Logloss", {"train_loss": "learn/Logloss", "test_loss": "test/Logloss"}),
    "regression": ("train_mse test_mse", {"train_loss": "train_mse", "test_loss": "test_mse"}),
    "plural lists": (
        "train_losses test_losses train_accs test_accs",
        {
            "train_loss": "train_losses",
            "train_accuracy": "train_accs",
            "test_loss": "test_losses",
            "test_accuracy": "test_accs",
        },
    ),
    "joined words": (
        "trainloss testloss trainacc testacc",
        {
            "train_loss": "trainloss",
            "train_accuracy": "trainacc",
            "test_loss": "testloss",
            "test_accuracy": "testacc",
        },
    ),
    "XGBoost for scikit-learn": (
        "train-logloss validation_0-logloss validation_0-auc",
        {"train_loss": "train-logloss", "test_loss": "validation_0-logloss"},
    ),
    "LightGBM in text": (
        "training's binary_logloss|valid_1's binary_logloss",
        {"train_loss": "training's binary_logloss", "test_loss": "valid_1's binary_logloss"},
    ),
    "Megatron-LM": (
        "lm loss|loss scale|grad norm|validation lm loss value|validation lm loss PPL",
        {"train_loss": "lm loss", "test_loss": "validation lm loss value"},
    ),
    "short splits": (
        "tr_loss va_loss tr_acc va_acc",
        {"train_loss": "tr_loss", "train_accuracy": "tr_acc", "test_loss": "va_loss", "test_accuracy": "va_acc"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_names_of_frameworks(framework: str) -> None:
    names, expected = FRAMEWORKS[framework]
    separator = "|" if "|" in names else " "
    chosen, unclear = guess_roles(dict.fromkeys(names.split(separator), 9), {})
    assert chosen == expected
    assert unclear == []


@pytest.mark.parametrize(
    "name",
    [
        "train/box_loss", "val/dfl_loss", "loss_scale", "train_loss_scale", "aux_loss", "kl_loss", "test_error",
        "entropy", "train/Perplexity", "rewards/accuracies", "eval/c4_en-validation/CE loss", "hellaswag_acc",
        "val_acc_top5", "val_loss/dataloader_idx_0", "loss_std_dev", "grad_norm", "mAP50", "train_val_loss", "l2",
        "squared_error_rate", "time_per_epoch", "val_auc", "val_loss_0", "binary", "test",
    ],
)  # fmt: skip
def test_names_without_a_role(name: str) -> None:
    assert role_of(name) is None


def test_what_resembles_a_curve_and_is_not_taken_stands_in_one_note() -> None:
    names = ["train_loss", "eval_loss", "eval_top1", "eval_top5", "aux_loss", "loss_scale", "lr", "train_loss_step"]
    note = untaken_note(names, ["train_loss", "eval_loss", "eval_top1"])
    assert note == (
        "names without a role, like an accuracy (--train-accuracy or --test-accuracy): eval_top5; "
        "like a loss (--train-loss or --test-loss): aux_loss"
    )
    assert untaken_note(["lr", "accumulate_grad", "min_val_loss"], []) == untaken_note(["a"], ["a"]) == ""
    points = {name: (np.arange(9), np.linspace(1, 0, 9)) for name in names}
    reading = to_series(Log(points), {}, source="x", format="csv").attrs["reading"].splitlines()
    assert sum("without a role" in line for line in reading) == 1
    boxes = {name: points["lr"] for name in ("lr", "train/box_loss", "val/box_loss")}
    with pytest.raises(
        ValueError, match=r"got lr, train/box_loss.*like a loss \(--train-loss or --test-loss\): train/"
    ):
        to_series(Log(boxes), {}, source="x", format="csv")


def test_columns_of_steps_in_any_spelling() -> None:
    for name in ("Global Step", "Training Step", "current_steps", "Iteration", " step ", "num-updates", "time/batch"):
        assert guess_axis(["loss", name]) == name
    for name in ("training_iteration", "time/total_timesteps"):  # Ray Tune, Stable-Baselines3
        assert guess_axis(["loss", "time", name]) == name
    assert guess_axis(["epoch", "round"]) == "round"
    assert len({*AXES}) == len(AXES)


def test_error_rates_are_recognised_by_their_words() -> None:
    assert all(map(is_error_rate, ["test_error", "merror", "binary_error", "val_err", "train_class_error"]))
    assert not any(map(is_error_rate, ["test_accuracy", "terrible", "hierarchy"]))
