from .collection import (
    collect as collect,
    survey as survey,
)
from .launch import run as run
from .options import (
    config_from_json as config_from_json,
    config_to_json as config_to_json,
    find_config as find_config,
    parse_seeds as parse_seeds,
)
from .recorder import Outcome as Outcome
from .storage import (
    RunFolder as RunFolder,
    RunLockedError as RunLockedError,
    load_model as load_model,
    load_weights as load_weights,
    stored_steps as stored_steps,
)

__all__: list[str]
