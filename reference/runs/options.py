"""Check the options of a run: configuration, seeds and device."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch

from reference.training.configs import CONFIGS
from reference.training.train_config import TrainConfig

_EXPECTED = {
    int: "an integer",
    bool: "true or false",
    float: "a number",
    str: "a text",
    str | None: "a text or null",
    float | None: "a number or null",
}


# -- configurations ------------------------------------------------------------------------------------------------


def config_to_dict(config: TrainConfig) -> dict[str, Any]:
    """Return all fields as values of JSON."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config), allow_nan=False))
    return values


def config_to_json(config: TrainConfig) -> str:
    """Return all fields as JSON that :func:`config_from_json` reads."""
    return json.dumps(config_to_dict(config), indent=1)


def config_from_json(text: str) -> TrainConfig:
    """Read a configuration; a missing field gets its default.

    Raises
    ------
    ValueError
        If the text is not JSON, a field is unknown, or a value has the wrong type.
    """
    try:
        return config_from_dict(json.loads(text))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"Expected a configuration as JSON, got a text that is not JSON ({error}); start from the output of "
            "reference.runs.config_to_json(config)."
        ) from error


def config_from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """Return a configuration from values of JSON; errors as in `config_from_json`."""
    config: TrainConfig = _dataclass_from(TrainConfig, values, "")
    return config


def with_defaults(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded configuration with defaults for fields that were added later; unchanged if it is not valid."""
    try:
        return config_to_dict(config_from_dict(recorded))
    except (ValueError, TypeError):
        return dict(recorded)


def _dataclass_from(kind: Any, values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        place = where.rstrip(".") or "the configuration"
        raise ValueError(f"Expected an object with fields as {place}, got {values!r}; correct it.")
    known = [field.name for field in fields(kind)]
    for name in values:
        if name not in known:
            raise ValueError(f"Expected fields among {', '.join(known)}, got {where}{name}; correct or remove it.")
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], value, f"{where}{name}") for name, value in values.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    """Return a value of a field, or raise if the type is wrong. A bool is not an integer here."""
    if is_dataclass(kind):
        return _dataclass_from(kind, value, f"{where}.")
    if kind not in _EXPECTED:  # betas
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise ValueError(f"Expected two numbers as {where}, got {value!r}; give a list such as [0.9, 0.98].")
        return tuple(_value(float, item, where) for item in value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind in (float, float | None) and number:
        return float(value)
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind):
        raise ValueError(f"Expected {_EXPECTED[kind]} as {where}, got {value!r}; correct it.")
    return value


def find_config(name_or_config: str | Path | TrainConfig) -> tuple[str, TrainConfig]:
    """Return a configuration and the name of its folder.

    Parameters
    ----------
    name_or_config
        A name of `reference.training.CONFIGS`, the path of a JSON file, or a configuration.

    Raises
    ------
    ValueError
        If the name is unknown, or the file is missing or not a configuration.
    """
    if isinstance(name_or_config, TrainConfig):
        named = (name for name, config in CONFIGS.items() if config == name_or_config)
        return next(named, "custom"), name_or_config
    name = str(name_or_config)
    if name in CONFIGS:
        return name, CONFIGS[name]
    path = Path(name_or_config)
    if path.suffix != ".json":
        raise ValueError(
            f"Expected the name of a configuration, got {name!r}; choose one of: {', '.join(CONFIGS)}, or give the "
            "path of a .json file."
        )
    if not path.is_file():
        raise ValueError(f"Expected a configuration in the file {path}, got no such file; correct the path.")
    try:
        return path.stem, config_from_json(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError) as error:
        raise ValueError(f"Expected a configuration in the file {path.name}, got an error: {error}") from error


# -- seeds and device ----------------------------------------------------------------------------------------------


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of a text: ``"8"`` is 0 to 7, ``"0,3,5"`` is a list, ``"0-7"`` is a range with both ends."""
    if re.fullmatch(r"\s*[1-9]\d*\s*", text):
        return list(range(int(text)))
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(
                f"Expected seeds such as 8 (the seeds 0 to 7), 0,3,5 or 0-7, got {text!r}; correct it, or give one "
                "seed by --seed."
            )
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    return seeds


def check_seeds(seeds: Iterable[int] | str) -> list[int]:
    """Return the seeds as a list without repetitions."""
    listed = parse_seeds(seeds) if isinstance(seeds, str) else _as_list(seeds)
    if not listed or any(not isinstance(seed, int) or isinstance(seed, bool) or seed < 0 for seed in listed):
        raise ValueError(f"Expected at least one seed, an integer from 0, got {seeds!r}; give a list such as [0, 3].")
    if max(listed) >= 2**31:
        raise ValueError(f"Expected seeds below 2**31, the limit of NetCDF 3, got {max(listed)}; give smaller seeds.")
    return list(dict.fromkeys(listed))


def _as_list(seeds: Iterable[Any]) -> list[Any]:
    try:
        return list(seeds)
    except TypeError:
        raise ValueError(f"Expected a list of seeds, got {seeds!r}; give [{seeds}], or range({seeds}).") from None


def choose_device(device: str) -> str:
    """Return ``"cpu"`` or ``"cuda"``; ``"auto"`` is the GPU if there is one."""
    available = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if available else "cpu"
    if device not in ("cpu", "cuda"):
        raise ValueError(f"Expected a device among auto, cpu, cuda, got {device!r}; choose one of them.")
    if device == "cuda" and not available:
        raise ValueError(
            "Expected a GPU for device cuda, got a machine or a build of torch without; give --device cpu, or start "
            "where torch.cuda.is_available()."
        )
    return device
