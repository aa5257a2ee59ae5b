"""Sites before and after each activation function that a forward pass calls, as a module or as a function."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Names, since one function is several objects (F.relu, torch.relu, Tensor.relu). In-place forms end with "_".
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


class ActivationMode(TorchFunctionMode):
    """Context manager that calls ``visit`` before and after each activation function.

    Parameters
    ----------
    modules
        The modules by name. The hooks of :meth:`hooks` must be registered on them.
    visit : function(site, tensor) -> tensor
        Receives the input and the output of the function. Returns the tensor that replaces it. For the names of sites
        see :mod:`probe.forward.sites`.
    is_paused : function() -> bool
        While it returns True, the calls do not belong to the model and are ignored.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], visit: Callable[[str, Tensor], Tensor], is_paused: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._modules = modules
        self._visit = visit
        self._is_paused = is_paused

    def __enter__(self) -> Self:
        self._callers = [""]
        self._counts: dict[str, int] = {}
        return super().__enter__()

    def hooks(self) -> Iterator[Any]:
        """Register hooks that record which module runs, and yield their handles."""
        for name, module in self._modules.items():
            yield module.register_forward_pre_hook(self._enter_module(name))
            yield module.register_forward_hook(self._leave_module, always_call=True)

    def _enter_module(self, name: str) -> Callable[..., None]:
        return lambda module, args: self._callers.append(name)

    def _leave_module(self, *_: Any) -> None:
        if len(self._callers) > 1:
            self._callers.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "").removesuffix("_")
        if name not in _ACTIVATIONS or self._is_paused() or not args or not isinstance(args[0], Tensor):
            return func(*args, **(kwargs or {}))
        site = self._site(name)
        result = func(self._visit(site, args[0]), *args[1:], **(kwargs or {}))
        return self._visit(f"{site}->", result)

    def _site(self, function: str) -> str:
        site = f"{self._callers[-1]}:{function}"
        count = self._counts[site] = self._counts.get(site, 0) + 1
        return site if count == 1 else f"{site}.{count}"
