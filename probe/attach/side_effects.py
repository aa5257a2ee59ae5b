"""What forward passes write to the model: found at attach, restored by observations, and said to the user."""

import warnings
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from probe.errors import ModelChangedError, warn_user
from probe.forward.isolation import set_training, user_defaults
from probe.forward.layers import named_modules
from probe.forward.model_state import ModelState, Place, Structure, attribute_of, describe
from probe.forward.passes import call_model


def written_places(state: ModelState, model: nn.Module, inputs: Any) -> set[Place]:
    """Restore the model, and return the places that passes in evaluation mode write to.

    ``state`` is that of the outermost ``isolated``, in which passes have run already.
    """
    state.restore()
    return state.restored | _written_on_entering_evaluation(model, inputs)


def _written_on_entering_evaluation(model: nn.Module, inputs: Any) -> set[Place]:
    """Return the places that a pass in evaluation mode writes to after one in training mode.

    Some models write when the mode changes, for example to their weights.
    """
    modules = named_modules(model)
    with warnings.catch_warnings(), user_defaults():
        warnings.simplefilter("ignore")
        try:
            set_training(modules.values(), True)
            call_model(model, inputs)
        except Exception:  # in training mode, the model may need targets too
            return set()
        finally:
            set_training(modules.values(), False)
        state = ModelState(Structure(model))  # with modules that the pass has made
        try:
            call_model(model, inputs)
        finally:
            state.restore()
    return state.restored


def check_writes(state: ModelState, known: set[Place], step: int) -> None:
    """Warn of new places that an observation has written to and restored, and add them to the known ones.

    Raises
    ------
    ModelChangedError
        If a write could not be undone.
    """
    if state.lost:
        raise ModelChangedError(
            f"Expected the observation of step {step} to leave the model unchanged, got new numbers in "
            f"{_listed(state.lost)}, of which no copy exists, since forward passes at attach did not write to them. "
            "The model has changed and observing has stopped; load the last checkpoint, find what writes to them (the "
            "forward pass, or a probe), and attach where passes write to them, or leave the probe out"
        )
    new = {place for place in state.restored if attribute_of(place) not in known}
    known |= set(map(attribute_of, new))
    if new:
        warn_user(
            f"Expected observations that write to the model only where passes at attach did, got writes to "
            f"{_listed(new)} at step {step}; these values are restored, but measurements may depend on them, so look "
            "for what writes them: the forward pass, or a probe"
        )


def _listed(places: Iterable[Place]) -> str:
    return ", ".join(sorted({describe(place) for place in places}))


def describe_places(model: nn.Module, places: Iterable[Place]) -> list[str]:
    """Return the names of the restored places that the user should know about.

    Tensors in plain attributes are left out: stored activations, and weights that a hook computes at each call, do not
    influence a measurement.
    """
    modules = named_modules(model)
    names = [describe(place) for place in places if not _is_stored_tensor(modules, place)]
    return sorted(set(names))


def _is_stored_tensor(modules: dict[str, nn.Module], place: Place) -> bool:
    name, *keys = place
    if len(keys) != 1 or name not in modules:
        return False
    attributes = vars(modules[name])
    return keys[0] not in attributes or isinstance(attributes[keys[0]], Tensor)
