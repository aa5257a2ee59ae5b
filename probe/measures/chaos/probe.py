"""Response of a training to a perturbation: its growth over a window of the user's own updates.

The probe trains copies of the model on the same batches with the same random numbers. It measures the growth of the
distance between an unperturbed copy and a perturbed one (twin), and the exact derivative of the window (tangent).
arXiv:2505.13900 calls a training chaotic as long as a tiny perturbation grows.
"""

import math
from collections.abc import Iterator, Mapping, Sequence, Sized
from numbers import Integral
from typing import Any, ClassVar

import torch
from torch import Tensor

from probe.base import Measured, Probe, Snapshot
from probe.forward.data import Batch
from probe.forward.snapshot import generator
from probe.forward.window_curvature import Curvature, choose_route, quadratic_tangent
from probe.forward.window_dual import NotDifferentiableError
from probe.forward.window_tangent import tangent
from probe.forward.windows import Window, gaussian, trained_parameters
from probe.geometry.growth import top_eigenpair
from probe.layer_probe import random_rows
from probe.measures.chaos.barrier import loss_reader, losses_on_line
from probe.measures.chaos.preconditioner import roots
from probe.measures.chaos.twins import Reference, Twin, kinks, output_reader, reference, twin
from probe.measures.chaos.variables import Direction, variables
from probe.stats.loss_barrier import loss_barriers

_UNCHANGED = (
    "Expected a step_fn that updates the model it receives, got parameters that no update of a window has changed; "
    "call step() of the optimizer that it receives, or check the gradients"
)
_ALIKE = 1e-3  # largest relative difference of two derivatives that are the same up to rounding
DIRECTIONS = ("gaussian", "gradient", "curvature")


class ChaosProbe(Probe):
    """Measure the growth of a perturbation over a window of updates, and the sharpness.

    Parameters
    ----------
    window : int
        Number W of updates.
    sizes : sequence of float
        Sizes of the perturbation, relative to the norm of the trained parameters.
    directions : sequence of str
        ``"gaussian"``: normal numbers, scaled by the root mean square of each parameter. ``"gradient"``: gradient of
        the first batch. ``"curvature"``: direction of the largest curvature.
    quadratic : bool
        Measure the growth with the Hessians of the start too, which separates learning rate and curvature from the
        movement of the training. It takes 3 to 4 more windows a direction with SGD, and 6 to 11 with other optimizers.
    n_products : int
        Number of products with the Hessian of the first batch, for the sharpness. 0 measures none.
    n_points : int
        Number of points between the unperturbed and the perturbed end, at which the loss is measured for the barrier.
        0 measures none. A point takes a forward pass, and with batch norm a window of gradients.
    max_samples : int
        Largest number of rows of the data on which outputs and losses are compared.
    random_state : int
        Seed of the direction, of the rows, and of the random numbers in each update.

    Attributes
    ----------
    series_ : xarray.Dataset
        By (step, direction, size): ``chaos_growth``, ln of the final over the initial distance in parameters;
        ``chaos_output_growth``, the same of the outputs in evaluation mode; ``chaos_angle``, one minus the cosine of
        both parameter vectors at the end; ``chaos_disagreement``, share of rows with another largest output. NaN where
        rounding can change the log growth by more than .01.

        By (step, direction): ``chaos_tangent_growth`` and ``chaos_tangent_output_growth``, of the derivative;
        ``chaos_kink_size``, the smallest size at which a twin differs from the tangent by more than .1;
        ``chaos_smallest_size``, which rounding allows; ``chaos_quadratic_growth``, of the derivative on the quadratic
        model of the start, a null without movement.

        By (step, direction, size, barrier, split): ``chaos_barrier``, with ``n_points``: the largest rise of the loss
        between both ends, above the straight line of the losses at the ends (``line``), and above the larger of them
        (``ends``), with batch norm re-estimated.

        By step: ``sharpness``, the largest eigenvalue of the Hessian on the first batch; ``sharpness_residual``, within
        which an eigenvalue lies; ``sharpness_learning_rate``, sharpness times the largest learning rate;
        ``sharpness_preconditioned``, the largest eigenvalue of P^-1 H, where P divides the updates of Adam, AdamW or
        RMSprop (arXiv:2207.14484), and is 1 for SGD. NaN for others, and before the first update. Parameters that have
        had no update are left out.

        Flags: ``chaos_kink_limited`` by (step, direction), the growth depends on the size (-1: no tangent or no usable
        size); ``chaos_rounded`` and ``chaos_output_rounded`` by (step, direction, size), the numbers of parameters, or
        of outputs, are NaN; ``chaos_nondeterministic`` by step, two unperturbed copies differ;
        ``chaos_not_differentiable`` by step, tangent or sharpness are NaN.

    Warns
    -----
    ProbeWarning
        Once each, if the training is not deterministic, if it has no derivative, or if rounding of the parameters
        changes a size by more than 1 %.

    Notes
    -----
    An observation with the defaults takes 16 to 27 windows: two unperturbed copies, one that starts a rounding away,
    three twins, 3 to 5 for the tangent, 3 to 11 for the quadratic model, and 8 products of 3 to 6 updates each (16 with
    Adam, AdamW and RMSprop).
    Batches and learning rates are those of the step of the observation; a scheduler does not step within the window.

    ``chaos_tangent_output_growth`` contains the derivative of running statistics of batch norm. It is NaN if buffers
    change whose derivative is not known, as with batch norm within ``torch.utils.checkpoint``.

    All sizes can be rounded. The gradient of a bias before batch norm, or of the keys of attention, is rounding only,
    and Adam divides by its size: such a bias moves by a learning rate in a random direction. The outputs do not depend
    on the bias of keys, so that their numbers remain.

    See Also
    --------
    probe.forward.TrainingContext.usual : The training context of the usual loop.

    Examples
    --------
    Gradient descent with the learning rate .5 on (w - y)^2 multiplies each difference by 1 - .5 * 2 * .75 = .25:

    >>> import torch
    >>> from probe import ChaosProbe
    >>> from probe.forward import TrainingContext
    >>> x, y = torch.full((4, 1), 0.75**0.5), torch.ones(4, 1)
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    >>> training = TrainingContext.usual(optimizer, torch.nn.functional.mse_loss, (x, y))
    >>> series = ChaosProbe(window=3, sizes=[0.1]).fit(model, (x, y), training=training).series_
    >>> round(series["chaos_tangent_growth"].item() / 3, 3), round(series["sharpness"].item(), 3)
    (-1.386, 1.5)
    """

    requires: ClassVar[tuple[str, ...]] = ("training",)

    def __init__(
        self,
        *,
        window: int = 20,
        sizes: Sequence[float] = (1e-4, 1e-3, 1e-2),
        directions: Sequence[str] = ("gaussian",),
        quadratic: bool = True,
        n_products: int = 8,
        n_points: int = 0,
        max_samples: int = 512,
        random_state: int = 0,
    ) -> None:
        self.window = window
        self.sizes = sizes
        self.directions = directions
        self.quadratic = quadratic
        self.n_products = n_products
        self.n_points = n_points
        self.max_samples = max_samples
        self.random_state = random_state

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Train copies of the model over the window."""
        self._check()
        window = self._window(snapshot)
        problems: list[str] = []
        route = self._route(window, problems)
        curvature = Curvature(window, route or "reverse")
        sharpness, top = self._sharpness(window, curvature) if route else self._unknown(curvature)
        given = reference(window, generator(self.random_state))
        norm = given.ends.start.double().norm().item()
        found = []
        for name in self.directions:
            direction = top if name == "curvature" else self._direction(name, curvature)
            twins = [twin(window, given, direction, size * norm) for size in sorted(self.sizes)]
            derivatives = self._tangents(window, direction, route, problems)
            onset = kinks(sorted(self.sizes), twins, derivatives[0])
            smallest = max(entry.smallest for entry in twins) / norm
            found.append(
                Direction(twins, *derivatives, onset, smallest, self._barriers(snapshot, window, given, twins))
            )
        rate = max(float(group["lr"]) for group in window.training.optimizer.param_groups)
        if torch.equal(given.ends.start, given.ends.end) and rate > 0:
            snapshot.warn_once("chaos unchanged", _UNCHANGED)
        self._warn(snapshot, found, given.repeated, problems)
        return variables(self, found, {**sharpness, "rate": rate}, given.repeated, bool(problems), snapshot.splits)

    def _check(self) -> None:
        for name, least in (("window", 1), ("max_samples", 1), ("n_products", 0), ("n_points", 0)):
            if not isinstance(value := getattr(self, name), Integral) or value < least:
                raise ValueError(f"Expected {name} as a whole number >= {least}, got {value!r}; correct it")
        sizes: Any = self.sizes
        if not isinstance(sizes, Sized) or not len(sizes) or not all(0 < size < 1 for size in self.sizes):
            raise ValueError(
                f"Expected sizes between 0 and 1, got {self.sizes!r}; pass a list of sizes relative to the norm of "
                "the parameters, such as [1e-4, 1e-2]"
            )
        if isinstance(self.directions, str) or not self.directions or set(self.directions) - set(DIRECTIONS):
            raise ValueError(
                f"Expected directions among {', '.join(DIRECTIONS)}, got {self.directions!r}; pass a list of those"
            )
        if "curvature" in self.directions and self.n_products < 1:
            raise ValueError("Expected n_products >= 1 for the direction 'curvature', got 0; raise n_products")

    def _window(self, snapshot: Snapshot) -> Window:
        assert snapshot.training is not None  # by ``requires``
        read = output_reader(self._rows(snapshot), snapshot.trace, snapshot.batch_size)
        batches: Any = snapshot.training.batches(snapshot.step, self.window)
        count = len(batches) if hasattr(batches, "__len__") else f"a {type(batches).__name__}"
        if count != self.window:
            raise ValueError(
                f"Expected {self.window} batches from training.batches({snapshot.step}, {self.window}), got {count}; "
                "return a list of all of them, or shorten the window"
            )
        return Window(snapshot.training, snapshot.model, batches, self.random_state, read)

    def _rows(self, snapshot: Snapshot) -> list[tuple[Batch, Tensor]]:
        """Return each split with the rows on which outputs and losses are compared."""
        n = max(1, self.max_samples // len(snapshot.splits))
        return [(batch, random_rows(len(batch), n, self.random_state)) for batch in snapshot.data.values()]

    def _barriers(self, snapshot: Snapshot, window: Window, given: Reference, twins: list[Twin]) -> Any:
        if self.n_points < 1:
            return None
        losses = loss_reader(self._rows(snapshot), snapshot.trace, snapshot.batch_size)
        end, n = given.ends.end, self.n_points
        return [list(loss_barriers(losses_on_line(window, end, found.end, n, losses))) for found in twins]

    def _direction(self, name: str, curvature: Curvature) -> Tensor:
        if name == "gaussian":
            return gaussian(curvature.parameters, generator(self.random_state))
        gradient = curvature.gradient()
        if not 0 < (norm := gradient.norm().item()) < math.inf:
            raise ValueError(f"Expected a finite gradient other than 0 as direction, got norm {norm}; use 'gaussian'")
        return gradient / norm

    def _route(self, window: Window, problems: list[str]) -> str | None:
        """Return how gradients are differentiated, None if they are not."""
        try:
            return choose_route(
                window,
                gaussian(trained_parameters(window.model, window.training.optimizer), generator(self.random_state)),
            )
        except NotDifferentiableError as error:
            if "curvature" in self.directions:
                raise
            problems.append(str(error))
            return None

    def _sharpness(self, window: Window, curvature: Curvature) -> tuple[dict[str, float], Tensor]:
        """Return numbers of the largest eigenvalue, NaN if not measured, and its direction, else a Gaussian one."""
        found, start = self._unknown(curvature)
        if self.n_products < 1:
            return found, start
        found["value"], top, found["residual"] = top_eigenpair(curvature.product, start, self.n_products)
        scale = roots(window)
        if scale is not None and bool((scale == 1).all()):
            found["preconditioned"] = found["value"]
        elif scale is not None and bool((scale > 0).all()):
            start = (start * scale).masked_fill(scale.isinf(), 0)
            scaled = top_eigenpair(lambda v: curvature.product(v / scale) / scale, start, self.n_products)
            found["preconditioned"] = scaled[0]
        return found, top

    def _unknown(self, curvature: Curvature) -> tuple[dict[str, float], Tensor]:
        start = gaussian(curvature.parameters, generator(self.random_state))
        return dict.fromkeys(("value", "residual", "preconditioned"), math.nan), start

    def _tangents(
        self, window: Window, direction: Tensor, route: str | None, problems: list[str]
    ) -> tuple[float, float, float]:
        """Return log growths: of the derivative in parameters, in outputs, and on the quadratic model."""
        for each in dict.fromkeys((route or "forward", "forward")):
            unknown: list[str] = []
            try:
                end, _, outputs, outputs_end = tangent(window, direction, each, unknown)
            except NotDifferentiableError as error:
                reason = str(error)
                continue
            if unknown and each == "reverse":
                outputs_end, unknown = _outputs_by_duals(window, direction, end, outputs_end, unknown)
            problems += unknown
            quadratic = self._quadratic(window, direction, each, problems)
            return _log(end), _log(outputs_end) - _log(outputs), quadratic
        problems.append(reason)
        return math.nan, math.nan, math.nan

    def _quadratic(self, window: Window, direction: Tensor, route: str, problems: list[str]) -> float:
        if not self.quadratic:
            return math.nan
        try:
            return _log(quadratic_tangent(window, direction, route))
        except NotDifferentiableError as error:
            problems.append(str(error))
            return math.nan

    def _warn(self, snapshot: Snapshot, found: list[Direction], repeated: float, problems: list[str]) -> None:
        for key, text in _warnings(sorted(self.sizes), found, repeated, problems):
            snapshot.warn_once(f"chaos {key}", text)


def _warnings(
    sizes: list[float], found: list[Direction], repeated: float, problems: list[str]
) -> Iterator[tuple[str, str]]:
    if repeated > 0:
        yield (
            "nondeterministic",
            "Expected two unperturbed copies to train alike, got final parameters at a distance of "
            f"{repeated:.3g}: the training is not deterministic; use torch.use_deterministic_algorithms(True), and "
            "random numbers from the global generators in step_fn",
        )
    if problems:
        yield "derivative", problems[0]
    lost = [size for entry in found for size, one in zip(sizes, entry.twins, strict=True) if one.unrealised]
    if lost:
        smallest = max(entry.smallest for entry in found)
        yield (
            "rounded",
            f"Expected perturbations that parameters can hold, got sizes {sorted(set(lost))}, whose growth is "
            f"NaN; pass sizes of {smallest:.1g} or more",
        )


def _outputs_by_duals(
    window: Window, direction: Tensor, end: Tensor, outputs: Tensor, unknown: list[str]
) -> tuple[Tensor, list[str]]:
    """Return the derivative of the outputs by dual numbers, if that of the parameters is the same both ways."""
    try:
        other, _, _, found = tangent(window, direction)
    except NotDifferentiableError:
        return outputs, unknown
    return (found, []) if (other - end).norm() < _ALIKE * end.norm() else (outputs, unknown)


def _log(vector: Tensor) -> float:
    norm = vector.double().norm().item()
    return math.log(norm) if norm > 0 else -math.inf if norm == 0 else math.nan
