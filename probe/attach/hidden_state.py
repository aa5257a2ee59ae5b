"""State of a model that nothing restores: global variables, closures, iterators, objects without attributes."""

import warnings
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from probe.attach.data_checks import agree
from probe.forward.isolation import restored_random_states, set_training, user_defaults
from probe.forward.layers import named_modules
from probe.forward.model_state import ModelState
from probe.forward.outputs import Select, tensor_of
from probe.forward.passes import call_model


def hidden_state_warnings(state: ModelState, model: nn.Module, inputs: Any, output: Select) -> Iterator[str]:
    """Yield a warning if two passes differ that start from the same state, with the same random numbers.

    ``state`` is that of the outermost ``isolated``. A pass in training mode and one in evaluation mode run, twice.
    """
    state.restore()  # undo what earlier passes have written
    passes = [_pass(state, model, inputs, output, training) for training in (True, False, True, False)]
    pairs = zip(passes[:2], passes[2:], strict=True)
    differing = [one is not None and other is not None and not agree(model, one, other) for one, other in pairs]
    if any(differing):
        mode = "training" if differing[0] else "evaluation"
        yield (
            f"Expected two forward passes from the same state to agree, got different outputs in {mode} mode; the "
            "model uses a state that cannot be seen and restored (a global variable, a closure, an iterator, a file), "
            "so that observations can change it, and the training with it. Keep it in a buffer, or in an attribute of "
            "a module that is a number, a list or a dict"
        )


def _pass(state: ModelState, model: nn.Module, inputs: Any, output: Select, training: bool) -> Tensor | None:
    """Return the output of a pass, and restore the model. Return None for a pass without one tensor."""
    modules = named_modules(model).values()
    with restored_random_states(model), warnings.catch_warnings(), user_defaults():
        warnings.simplefilter("ignore")
        try:
            set_training(modules, training)
            return tensor_of(call_model(model, inputs), "the model", output).detach().clone()
        except Exception:  # in training mode, the model may need targets too
            return None
        finally:
            set_training(modules, False)
            state.restore()
