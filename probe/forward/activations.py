"""Activation functions as they are called in a forward pass, as modules and as functions alike."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# By name, since one function goes by several objects (F.relu, torch.relu, Tensor.relu); in-place forms end in "_".
_ACTIVATIONS = frozenset(
    [
        "relu",
        "relu6",
        "leaky_relu",
        "prelu",
        "rrelu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "softplus",
        "softsign",
        "tanh",
        "sigmoid",
        "hardtanh",
        "hardswish",
        "hardsigmoid",
        "logsigmoid",
        "log_sigmoid",
    ]
)


class Activations(TorchFunctionMode):
    """Sees, within ``with``, each activation function that is called, and which module called it.

    Parameters
    ----------
    modules
        The modules by name; :meth:`hooks` must be on them.
    visit : function(site, tensor) -> tensor
        Is shown what goes in and what comes out, and says what goes on. Sites as in :mod:`probe.forward.passes`.
    paused
        While it is true, calls are none of the model's.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], visit: Callable[[str, Tensor], Tensor], paused: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._modules = modules
        self._visit = visit
        self._paused = paused

    def __enter__(self) -> Self:
        self._callers = [""]
        self._counts: dict[str, int] = {}
        return super().__enter__()

    def hooks(self) -> Iterator[Any]:
        """Put hooks on the modules that tell which of them is running."""
        for name, module in self._modules.items():
            yield module.register_forward_pre_hook(self._entering(name))
            yield module.register_forward_hook(self._leave, always_call=True)

    def _entering(self, name: str) -> Callable[..., None]:
        return lambda module, args: self._callers.append(name)

    def _leave(self, *_: Any) -> None:
        if len(self._callers) > 1:
            self._callers.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "").removesuffix("_")
        if name not in _ACTIVATIONS or self._paused() or not args or not isinstance(args[0], Tensor):
            return func(*args, **(kwargs or {}))
        site = self._site(name)
        result = func(self._visit(site, args[0]), *args[1:], **(kwargs or {}))
        return self._visit(f"{site}->", result)

    def _site(self, function: str) -> str:
        site = f"{self._callers[-1]}:{function}"
        count = self._counts[site] = self._counts.get(site, 0) + 1
        return site if count == 1 else f"{site}.{count}"
