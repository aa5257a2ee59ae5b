"""What a command line or a script asks for, checked: a configuration, seeds, a device."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch

from reference.training.configs import CONFIGS
from reference.training.trainer import TrainConfig

_EXPECTED = {
    int: "an integer",
    bool: "true or false",
    float: "a number",
    str: "a text",
    str | None: "a text or null",
}


def config_to_dict(config: TrainConfig) -> dict[str, Any]:
    """All fields in plain values, as JSON gives them back."""
    return json.loads(json.dumps(asdict(config), allow_nan=False))


def config_to_json(config: TrainConfig) -> str:
    """All fields, as :func:`config_from_json` reads them."""
    return json.dumps(config_to_dict(config), indent=1)


def config_from_json(text: str) -> TrainConfig:
    """Read a configuration; what is left out has its default.

    Raises
    ------
    ValueError
        If the text is no JSON, names a field that there is not, or a value is not of the field's kind.
    """
    try:
        return config_from_dict(json.loads(text))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"Expected a configuration as JSON, came text that is none ({error}). "
            "reference.runs.options.config_to_json(config) writes one to start from."
        ) from error


def config_from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """The same from plain values."""
    return _built(TrainConfig, values, "")


def _built(kind: Any, values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise ValueError(f"Expected fields and values as {where or 'the configuration'}, came {values!r}.")
    known = [field.name for field in fields(kind)]
    for name in values:
        if name not in known:
            raise ValueError(f"Expected fields among {', '.join(known)}, came {where}{name}. Correct or remove it.")
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], value, f"{where}{name}") for name, value in values.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind):
        return _built(kind, value, f"{where}.")
    if kind not in _EXPECTED:  # the betas
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise ValueError(f"Expected two numbers as {where}, came {value!r}.")
        return tuple(_value(float, item, where) for item in value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is float and number:
        return float(value)
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind):
        raise ValueError(f"Expected {_EXPECTED[kind]} as {where}, came {value!r}.")
    return value


def find_config(asked: str | Path | TrainConfig) -> tuple[str, TrainConfig]:
    """A configuration and the name of its folder, from one of `CONFIGS`, or the path of a JSON file, or itself."""
    if isinstance(asked, TrainConfig):
        return next((name for name, config in CONFIGS.items() if config == asked), "custom"), asked
    if str(asked) in CONFIGS:
        return str(asked), CONFIGS[str(asked)]
    path = Path(asked)
    if path.suffix != ".json":
        raise ValueError(
            f"Expected the name of a configuration, came {str(asked)!r}. "
            f"There are {', '.join(CONFIGS)}; or give the path of a .json file with one of your own."
        )
    if not path.is_file():
        raise ValueError(f"Expected a configuration in {asked}, came no such file. Give the path of one.")
    try:
        return path.stem, config_from_json(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path.name} cannot be used: {error}") from error


def parse_seeds(text: str) -> list[int]:
    """``"8"``: 0 to 7; ``"0,3,5"``: these; ``"0-7"``: from to, both included; ``"0-3,7"``: both ways."""
    if re.fullmatch(r"\s*[1-9]\d*\s*", text):
        return list(range(int(text)))
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not found or int(found[2] or found[1]) < int(found[1]):
            raise ValueError(
                f"Expected seeds such as 8 (the seeds 0 to 7), 0,3,5 or 0-7, came {text!r}. For one seed: --seed 3."
            )
        seeds += range(int(found[1]), int(found[2] or found[1]) + 1)
    return seeds


def check_seeds(seeds: Iterable[int] | str) -> list[int]:
    """Seeds as a list, each once."""
    listed = parse_seeds(seeds) if isinstance(seeds, str) else _listed(seeds)
    if not listed or any(not isinstance(seed, int) or isinstance(seed, bool) or seed < 0 for seed in listed):
        raise ValueError(f"Expected seeds as integers from 0, at least one, came {seeds!r}. Give some, as [0, 3, 5].")
    if max(listed) >= 2**31:
        raise ValueError(f"Expected seeds below 2**31, as NetCDF holds them, came {max(listed)}. Give smaller ones.")
    return list(dict.fromkeys(listed))


def _listed(seeds: Iterable[int]) -> list[int]:
    try:
        return list(seeds)
    except TypeError:
        raise ValueError(f"Expected a list of seeds, came {seeds!r}. Give [{seeds}], or range({seeds}).") from None


def pick_device(asked: str) -> str:
    """``"cpu"`` or ``"cuda"``; ``"auto"`` is the GPU if there is one."""
    there = torch.cuda.is_available()
    if asked == "auto":
        return "cuda" if there else "cpu"
    if asked not in ("cpu", "cuda"):
        raise ValueError(f"Expected a device among auto, cpu, cuda, came {asked!r}.")
    if asked == "cuda" and not there:
        raise ValueError(
            "Expected a GPU for device cuda, came a machine (or a build of torch) without. "
            "Give --device cpu, or start on a machine where torch.cuda.is_available()."
        )
    return asked
