"""Many networks of the cubic teacher, each with data of its own, as one batched model with gradients by hand."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from reference.theory.first_order.teacher import CubicTeacher
from reference.theory.langevin import Langevin
from reference.theory.simulation.base import Networks, largest_curvature, whole

_SLOPE = 2 / math.sqrt(math.pi)  # of erf at 0


class TeacherNetworks(Networks):
    """Networks f(x) = sum_i a_i erf(w_i . x), sampled from their posterior.

    The posterior is exp(-sum (f - y)^2 / (2 s^2)) times the priors: a_i has variance s_a^2 / N, an entry of w_i has
    s_w^2 / d. The loss is a sum over data, not a mean. The noise of the dynamics is sqrt(2 dt), where the paper prints
    2 s dt^(1/2).

    Parameters
    ----------
    teacher
        The parameters. ``width``, ``n_data`` and ``dimension`` are whole numbers.
    seeds
        One seed for each network. Data and initial parameters of a network depend on its seed alone.
    rate
        Learning rates times the largest curvature at the start, for both layers; the limit of stability is 2.
    friction
        Friction per step of `Langevin`.
    n_test
        Test inputs of each network.

    Attributes
    ----------
    w, a : Tensor
        Weights (networks, N, d) and read-outs (networks, N), drawn from the prior.
    x, y : Tensor
        Training inputs (networks, n, d) and targets (networks, n). The teacher reads the first input.
    """

    def __init__(
        self,
        teacher: CubicTeacher,
        seeds: Sequence[int],
        *,
        rate: float = 0.2,
        friction: float = 0.3,
        n_test: int = 3000,
    ) -> None:
        super().__init__(seeds)
        self.teacher, self.n_test = teacher, n_test
        n_data, width, d = (whole(teacher, name) for name in ("n_data", "width", "dimension"))
        self.x = self.normal(n_data, d)
        self.y = self._target(self.x)
        self.w = self.normal(width, d) * math.sqrt(teacher.weight_variance / d)
        self.a = self.normal(width) * math.sqrt(teacher.readout_variance / width)
        self.parameters = {"w": self.w, "a": self.a}
        self.decay_a, self.decay_w = width / teacher.readout_variance, d / teacher.weight_variance
        self.w.grad, self.a.grad = torch.empty_like(self.w), torch.empty_like(self.a)
        self._h, self._e = self.x.new_empty(2, len(seeds), n_data, width)
        self.optimizer = self._optimizer(rate, friction, seeds[0])

    def _target(self, x: Tensor) -> Tensor:
        z = x[..., 0]
        return z + self.teacher.epsilon * (z**3 - 3 * z)

    def _optimizer(self, rate: float, friction: float, seed: int) -> Langevin:
        """Return the optimiser with steps of each layer by its curvature at the start (Gauss-Newton, and prior)."""
        h = torch.bmm(self.x, self.w.mT)
        e, slope = h.erf(), (-h * h).exp() * _SLOPE * self.a[:, None]

        def of_readouts(v: Tensor) -> Tensor:
            return (e.mT @ (e @ v[..., None]))[..., 0]

        def of_weights(v: Tensor) -> Tensor:
            change = (slope * (self.x @ v.view_as(self.w).mT)).sum(-1, keepdim=True)
            return (slope.mT @ (self.x * change)).flatten(1)

        of_a = largest_curvature(of_readouts, self.a)
        of_w = largest_curvature(of_weights, self.w.flatten(1))
        groups = [
            {"params": [self.a], "lr": rate / (of_a / self.teacher.noise + self.decay_a), "weight_decay": self.decay_a},
            {"params": [self.w], "lr": rate / (of_w / self.teacher.noise + self.decay_w), "weight_decay": self.decay_w},
        ]
        return Langevin(groups, lr=1.0, friction=friction, seed=seed)

    def gradient(self) -> None:
        """Set the gradients of sum (f - y)^2 / (2 s^2). Two buffers hold all that is as large as (data, neurons)."""
        assert self.w.grad is not None
        assert self.a.grad is not None
        h, e = self._h, self._e
        torch.bmm(self.x, self.w.mT, out=h)
        torch.erf(h, out=e)
        residual = torch.bmm(e, self.a[..., None]).sub_(self.y[..., None]).div_(self.teacher.noise)
        torch.bmm(e.mT, residual, out=self.a.grad[..., None])
        torch.mul(h, h, out=e).neg_().exp_()
        torch.bmm(e.mT, self.x * residual, out=self.w.grad)
        self.w.grad.mul_(self.a[..., None] * _SLOPE)

    def output(self, x: Tensor) -> Tensor:
        """Return f of inputs (networks, n, d), as (networks, n)."""
        return torch.bmm(torch.bmm(x, self.w.mT).erf_(), self.a[..., None])[..., 0]

    def observe(self) -> dict[str, Tensor]:
        """Return the learned fractions (networks,): on fresh test inputs, and their exact values for these weights."""
        x = self.normal(self.n_test, self.x.shape[-1])
        f, z, epsilon = self.output(x), x[..., 0], self.teacher.epsilon
        cubic = z**3 - 3 * z
        q, d = self.w[..., 0], 1 + 2 * (self.w**2).sum(-1)
        e1, e3 = _SLOPE * q / d.sqrt(), -2 * _SLOPE * q**3 / d**1.5
        return {
            "learned_linear": (self.a * e1).sum(-1),
            "learned_cubic": (self.a * e3).sum(-1) / (6 * epsilon),
            "test_linear": (f * z).mean(-1),
            "test_cubic": (f * cubic).mean(-1) / (6 * epsilon),
            "train_loss": ((self.output(self.x) - self.y) ** 2).mean(-1),
            "test_loss": ((f - self._target(x)) ** 2).mean(-1),
        }

    def snapshot(self) -> dict[str, Tensor]:
        """Return w . w* and a of each neuron, (networks, N)."""
        return {"overlaps": self.w[..., 0].clone(), "readouts": self.a.clone()}
