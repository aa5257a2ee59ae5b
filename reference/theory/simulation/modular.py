"""Many networks of modular addition as one batched model, with gradients by hand."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from reference.theory.first_order.modular import ModularAddition
from reference.theory.langevin import Langevin
from reference.theory.simulation.base import Networks, whole


class ModularNetworks(Networks):
    """Networks f_p(n, m) = sum_i a_pi (w_i[n] + v_i[m])^2 on all P^2 pairs, sampled from their posterior.

    The posterior is exp(-sum (f - y)^2 / (2 s^2)), a sum over pairs and outputs, times the priors: a_pi has variance
    s_a^2 / N, w_i[n] and v_i[m] have variance 1 and the density ``exp(-(g P / 6) sum_k (|w_k|^6 + |v_k|^6))`` on top.
    There are no test data.

    Parameters
    ----------
    task
        The parameters. ``width`` is a whole number.
    seeds
        One seed for each network.
    rate
        Learning rates times an estimate of the largest curvature; the limit of stability is 2.
    friction
        Friction per step of `Langevin`.
    """

    def __init__(
        self, task: ModularAddition, seeds: Sequence[int], *, rate: float = 0.2, friction: float = 0.3
    ) -> None:
        super().__init__(seeds)
        self.task, p, width = task, task.modulus, whole(task, "width")
        pair = torch.arange(p)
        answer = (pair[:, None] + pair).remainder(p).flatten()
        self.y = torch.eye(p)[answer].T - 1 / p  # (outputs, pairs)
        self.w = self.normal(2, width, p)  # w and v, without the decay of g
        self.a = self.normal(p, width) * math.sqrt(task.readout_variance / width)
        self.parameters = {"w": self.w, "a": self.a}
        features = self._inner().flatten(2).square()
        of_a = torch.linalg.matrix_norm(features, 2).max().item() ** 2 / task.noise
        # the decay bends 1 + 15 times at Phi_c; the gain has the same size there
        groups = [
            {"params": [self.a], "lr": rate / (of_a + width / task.readout_variance),
             "weight_decay": width / task.readout_variance},
            {"params": [self.w], "lr": rate / 32, "weight_decay": 1.0},
        ]  # fmt: skip
        self.optimizer = Langevin(groups, lr=1.0, friction=friction, seed=seeds[0])

    def _inner(self) -> Tensor:
        """Return w_i[n] + v_i[m] as (networks, N, P, P)."""
        return self.w[:, 0, :, :, None] + self.w[:, 1, :, None, :]

    def _modes(self) -> Tensor:
        """Return w_k and v_k, (networks, 2, N, P)."""
        return torch.fft.fft(self.w) / self.task.modulus

    def gradient(self) -> None:
        """Set the gradients of sum (f - y)^2 / (2 s^2) and of the decay of g."""
        inner = self._inner()
        features = inner.flatten(2).square()
        residual = (self.a @ features - self.y) / self.task.noise
        self.a.grad = residual @ features.mT
        slope = (self.a.mT @ residual).view_as(inner) * inner * 2
        modes = self._modes()
        decay = torch.fft.ifft(modes.abs() ** 4 * modes).real * (self.task.decay * self.task.modulus)
        self.w.grad = torch.stack([slope.sum(3), slope.sum(2)], 1).add_(decay)

    def observe(self) -> dict[str, Tensor]:
        """Return the learned fraction of the target, <Phi Psi> of the modes, and the share of specialised modes."""
        f = self.a @ self._inner().flatten(2).square()
        power = self._modes()[..., 1 : self.task.modulus // 2 + 1].abs() ** 2
        product = power[:, 0] * power[:, 1]
        specialised = product.sqrt() > math.sqrt(3 / self.task.decay) / 3  # where the barrier is at the transition
        return {
            "learned": (f * self.y).sum((1, 2)) / (self.y**2).sum(),
            "kernel": product.mean((1, 2)),
            "specialised_share": specialised.float().mean((1, 2)),
            "train_loss": ((f - self.y) ** 2).mean((1, 2)),
        }

    def snapshot(self) -> dict[str, Tensor]:
        """Return the largest sqrt(Phi Psi) among the modes of each neuron, (networks, N)."""
        power = self._modes()[..., 1 : self.task.modulus // 2 + 1].abs()
        return {"overlaps": (power[:, 0] * power[:, 1]).amax(-1)}
