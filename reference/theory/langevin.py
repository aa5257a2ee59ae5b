"""Langevin dynamics as an optimiser, whose samples have the exact variance on a Gaussian target at each stable step."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

STABLE = 4.0  # h^2 times the largest curvature must be below


class UnstableStepError(ValueError):
    """The learning rate of a group is beyond the limit of stability."""


class Langevin(Optimizer):
    """Sample parameters from the density exp(-L / temperature), where L is the loss that was differentiated.

    The dynamics are those of a particle with friction: dx = p dt, dp = -grad L dt - friction p dt + noise. With
    h = sqrt(2 lr), a step is the splitting BAOAB of Leimkuhler and Matthews (2013):

        p <- p - h g,   x <- x + h p / 2,   p <- c p + sqrt(temperature (1 - c^2)) xi,   x <- x + h p / 2.

    The third part is the exact solution of the Ornstein-Uhlenbeck process of p, with c = exp(-friction). On a Gaussian
    target the stationary covariance of x has no error from the step size, as long as lr times the largest curvature is
    below 2. This is the limit of gradient descent too. On other targets the error is of order lr.

    With ``friction=math.inf`` the dynamics are overdamped, x <- x - lr g + sqrt(lr temperature / 2) (xi + xi'). There
    xi' is the noise of the step before. With ``temperature=0`` the optimiser is gradient descent with momentum.

    Parameters
    ----------
    params
        Parameters, or groups of them. A group can have its own ``lr``, ``friction``, ``temperature``, ``weight_decay``.
    lr : float
        Learning rate. Different rates of groups change the path and not the stationary law; this is exact on Gaussian
        targets if all groups have one friction.
    temperature : float
        Temperature of the group. Groups of different temperatures have no common density.
    friction : float
        Friction per step, in (0, inf]. Small values let the parameters move on in one direction.
    weight_decay : float
        Adds ``weight_decay / 2 |x|^2`` to L. At temperature 1, it is the inverse of the prior variance.
    seed : int
        Seed of the noise. The optimiser has its own generators, and the global one is not used.
    check_every : int
        Every how many steps the curvature along the last step is compared with the limit of stability; 0 for never.
        The first ten steps are always compared. The comparison copies parameters and gradients. Groups of
        temperature 0 are not compared, but their gradients are checked as well.

    Raises
    ------
    UnstableStepError
        In `step`, if the curvature along the last step is beyond the limit of stability, or a gradient is not finite.
    ValueError
        If a value is out of its range.

    Examples
    --------
    >>> x = torch.zeros(20_000, requires_grad=True)
    >>> optimizer = Langevin([x], lr=0.4, temperature=2.0)
    >>> for _ in range(100):
    ...     x.grad = 3 * x.detach()  # of the loss 3 x^2 / 2
    ...     optimizer.step()
    >>> abs(x.var().item() / (2 / 3) - 1) < 0.05
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        temperature: float = 1.0,
        friction: float = 0.2,
        weight_decay: float = 0.0,
        seed: int = 0,
        check_every: int = 10,
    ) -> None:
        if not check_every >= 0 or check_every % 1:
            raise ValueError(
                f"Expected an integer check_every of 0 or more, got {check_every}; give 0 to never compare."
            )
        self._seed, self._check_every, self._steps = seed, check_every, 0
        self._generators: dict[str, torch.Generator] = {}
        values = {"lr": lr, "temperature": temperature, "friction": friction, "weight_decay": weight_decay}
        super().__init__(params, values)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, after its values were checked."""
        super().add_param_group(param_group)
        if any(not x.is_floating_point() for x in self.param_groups[-1]["params"]):
            self.param_groups.pop()
            raise ValueError("Expected parameters of real numbers, got others; give real and imaginary parts.")
        group, i = self.param_groups[-1], len(self.param_groups) - 1
        ranges = {
            "lr": ("a finite number above 0", 0 < group["lr"] < math.inf),
            "friction": ("a number above 0", group["friction"] > 0),
            "temperature": ("a finite number of 0 or more", 0 <= group["temperature"] < math.inf),
            "weight_decay": ("a finite number of 0 or more", 0 <= group["weight_decay"] < math.inf),
        }
        for name, (expected, fits) in ranges.items():
            if not fits:
                self.param_groups.pop()
                raise ValueError(f"Expected {expected} for {name} of group {i}, got {group[name]}; give such a number.")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Make one step from the current gradients. Return the loss of the closure, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._due(self._steps):
            self._raise_if_unstable()
        for group in self.param_groups:
            self._move(group, saved=self._due(self._steps + 1))
        self._steps += 1
        return loss

    def _due(self, step: int) -> bool:
        return self._check_every > 0 and (step < 10 or step % self._check_every == 0)

    def _move(self, group: dict[str, Any], *, saved: bool) -> None:
        """Move all parameters of a group. Keep parameters and gradients of before, if the next step compares them."""
        h, c = math.sqrt(2 * group["lr"]), math.exp(-group["friction"])
        spread = math.sqrt(group["temperature"] * (1 - c * c))
        for x in group["params"]:
            if x.grad is None:
                continue
            g, state = _force(x, group), self.state[x]
            if "momentum" not in state:
                state["momentum"] = self._noise(x).mul_(math.sqrt(group["temperature"]))
            state.update({"x": x.clone(), "g": g.clone()} if saved else {"x": None, "g": None})
            p: Tensor = state["momentum"]
            p.sub_(g, alpha=h)
            x.add_(p, alpha=h / 2)
            p.mul_(c).add_(self._noise(x), alpha=spread)
            x.add_(p, alpha=h / 2)

    def _noise(self, x: Tensor) -> Tensor:
        device = str(x.device)
        if device not in self._generators:
            self._generators[device] = torch.Generator(x.device).manual_seed(self._seed)
        return torch.randn(x.shape, generator=self._generators[device], device=x.device, dtype=x.dtype)

    def _raise_if_unstable(self) -> None:
        """Compare h^2 |change of g| / |change of x|, a lower bound of h^2 times the curvature, with its limit."""
        changes = torch.tensor([self._changes(group) for group in self.param_groups], dtype=torch.float64)
        gradient, parameters, both = torch.cat([changes, changes.sum(0, keepdim=True)]).unbind(1)
        ratios = torch.where(parameters == 0, 0, (gradient / parameters).sqrt())
        if bool((ratios <= STABLE).all()):
            return
        i = int(ratios[:-1].nan_to_num(math.inf).argmax())
        group, ratio = self.param_groups[i], max(ratios[i].item(), ratios[-1].item())
        if both[i] > 0.02 * (gradient[i] * parameters[i]).sqrt():  # nearer to the largest curvature, if it is positive
            ratio = max(ratio, (gradient[i] / both[i]).item())
        largest = STABLE * group["lr"] / ratio
        problem = f"lr {group['lr']:.3g} in group {i} at step {self._steps}; give at most {largest:.2g}"
        if not math.isfinite(ratio):
            problem = f"a gradient of group {i} that is not finite; give a smaller lr"
        raise UnstableStepError(f"Expected learning rates below 2 / curvature, got {problem}.")

    def _changes(self, group: dict[str, Any]) -> tuple[float, float, float]:
        """Return squared changes of gradient and parameters since the step before, and their product, in units of h."""
        scale, gradient, parameters, both = 2 * group["lr"], 0.0, 0.0, 0.0
        for x in group["params"]:
            if x.grad is None:
                continue
            if group["temperature"] == 0 or (before := self.state[x].get("x")) is None:
                if not x.grad.isfinite().all():
                    return math.nan, math.nan, math.nan
            else:
                moved, changed = x - before, _force(x, group) - self.state[x]["g"]
                gradient += scale * _product(changed, changed)
                parameters += _product(moved, moved) / scale
                both += _product(moved, changed)
        return gradient, parameters, both

    def state_dict(self) -> dict[str, Any]:
        """Return the state, with that of the noise: a resumed run continues bit by bit."""
        generators = {device: generator.get_state() for device, generator in self._generators.items()}
        return {**super().state_dict(), "steps": self._steps, "generators": generators}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state. Raise ValueError if it is that of another optimiser or of other shapes."""
        if not {"steps", "generators"} <= state_dict.keys():
            raise ValueError("Expected a state of Langevin, got that of another optimiser; give its state_dict().")
        parameters = [x for group in self.param_groups for x in group["params"]]
        numbers = [i for group in state_dict["param_groups"] for i in group["params"]]
        for i, x in zip(numbers, parameters, strict=False):
            found = state_dict["state"].get(i, {}).get("momentum", x).shape
            if found != x.shape:
                raise ValueError(
                    f"Expected the momentum of parameter {i} of shape {tuple(x.shape)}, got {tuple(found)}; give the "
                    "state of the same model."
                )
        super().load_state_dict(state_dict)
        self._steps = state_dict["steps"]
        self._generators = {}
        for device, state in state_dict["generators"].items():
            self._generators[device] = torch.Generator(device)
            self._generators[device].set_state(state)


def _force(x: Tensor, group: dict[str, Any]) -> Tensor:
    """Return the gradient of loss and weight decay."""
    assert x.grad is not None
    return x.grad.add(x, alpha=group["weight_decay"]) if group["weight_decay"] else x.grad


def _product(x: Tensor, y: Tensor) -> float:
    if x.element_size() < 4:  # sums of squares overflow in float16
        x, y = x.float(), y.float()
    return torch.dot(x.flatten(), y.flatten()).item()
