"""Models of Hugging Face from their folders: whole models, and adapters of PEFT on their base."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from probe.checkpoints.loading import mismatch
from probe.checkpoints.weights import DamagedCheckpointError, check_complete, package, read_weights


def pretrained(folder: Path | str) -> nn.Module:
    """Return the model of a folder, of the class that its ``config.json`` names, in the type of its weights."""
    transformers = package("transformers", "to build the model of config.json; or pass build= (--model)")
    local = isinstance(folder, Path)
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=local)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Expected a config.json of transformers in {folder}, got {_line(error)}; pass build= (--model)"
        ) from error
    names = getattr(config, "architectures", None) or []
    cls = getattr(transformers, names[0], None) if names else None
    if cls is None:
        raise ValueError(
            f"Expected an architecture of transformers in config.json of {folder}, got {', '.join(names) or 'none'}; "
            "pass build= (--model), a function that returns the model"
        )
    dtype = {"dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype": "auto"}
    with _quiet(transformers):
        model, info = cls.from_pretrained(
            folder, output_loading_info=True, local_files_only=local, ignore_mismatched_sizes=True, **dtype
        )
    for name, there, own in sorted(info.get("mismatched_keys") or ()):
        raise mismatch(name, own, there, str(folder))
    for kind in ("missing_keys", "unexpected_keys"):
        if found := sorted(map(str, info.get(kind) or ())):
            raise ValueError(
                f"Expected the weights of {names[0]} in {folder}, got {kind.replace('_', ' ')}, the first of them "
                f"{found[0]}; the checkpoint belongs to another architecture, so correct build= (--model)"
            )
    return model


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Context manager that hides the progress bars and reports of loading. What does not fit is an error instead."""
    logging = transformers.utils.logging
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def with_adapter(folder: Path, base: nn.Module | None) -> nn.Module:
    """Return the model with the adapter of a folder. ``base`` None: the model that the adapter names."""
    peft = package("peft", f"to read the adapter in {folder}")
    check_complete(folder)
    if base is None:
        name = _base_of(folder)
        base = pretrained(Path(name) if Path(name).is_dir() else name)
    try:  # trainable, as in the training: a frozen adapter has other gradients
        return peft.PeftModel.from_pretrained(base, str(folder), is_trainable=True)
    except RuntimeError as error:
        raise _other_base(folder, error) from error


def _base_of(folder: Path) -> str:
    try:
        name = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpointError(
            f"Expected base_model_name_or_path in adapter_config.json of {folder}, got a damaged file ({error!r}); "
            "copy the whole folder"
        ) from error
    if not name:
        raise ValueError(
            f"Expected base_model_name_or_path in adapter_config.json of {folder}, got none; pass build= (--model), a "
            "function that returns the base model"
        )
    return str(name)


def load_adapter(model: nn.Module, folder: Path) -> None:
    """Load another checkpoint of the adapter into a model with an adapter."""
    peft = package("peft", f"to read the adapter in {folder}")
    weights = read_weights(folder)
    try:
        result = peft.set_peft_model_state_dict(model, weights.read(list(weights.shapes)))
    except RuntimeError as error:
        raise _other_base(folder, error) from error
    unknown = list(result.unexpected_keys)
    missing = [name for name in result.missing_keys if "lora_" in name or "modules_to_save" in name]
    if unknown or missing:
        raise _other_base(folder, f"{'no ' if missing else ''}{[*missing, *unknown][0]}")


def _other_base(folder: Path, error: Any) -> ValueError:
    return ValueError(
        f"Expected an adapter of the model in {folder}, got {_line(error)}; the adapter belongs to another "
        "architecture, so correct build= (--model)"
    )


def _line(error: Any) -> str:
    return " ".join(str(error).split())[:300]
