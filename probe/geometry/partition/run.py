"""The execution of a network on all vertices of its partition together."""

import numpy as np
import torch
from torch import Tensor

from probe.geometry.networks import Bend, Maximum, Operation, PiecewiseLinear, check_network
from probe.geometry.partition.arrangement import Arrangement
from probe.geometry.partition.bends import bend_site
from probe.geometry.partition.cuts import PLACE, Buffer, Floats, Polygons
from probe.geometry.partition.maxima import maximum_site
from probe.geometry.partition.rounding import candidate_errors, rounding_errors, some_rows, widths_of
from probe.geometry.partition.slices import Slice
from probe.information.arguments import check_count

_MOST = 2**62


class Run:
    """The polygons of a partition, and what each site has added to them."""

    def __init__(self, window: Floats, max_regions: int, max_bytes: int) -> None:
        self.polygons = Polygons(window, max_regions, max_bytes)
        self.arrangements: list[Arrangement] = []
        self._shapes: dict[int, torch.Size] = {}
        self._errors: dict[int, Tensor] = {}

    def execute(self, network: PiecewiseLinear, corners: Tensor, snap: float) -> None:
        """Execute all operations, from the inputs at the corners of the window. Raise LimitReached at a limit."""
        self._write(0, corners)
        self._errors[0] = torch.zeros_like(corners[:1])
        for operation, unused in network.steps():
            if isinstance(operation, Maximum):
                self._maximum(operation, unused, snap)
                continue
            if isinstance(operation, Bend):
                errors = widths_of(self._errors[operation.inputs[0]]).numpy()
                self.arrangements.append(bend_site(self.polygons, operation, snap, errors))
            self._estimate_errors(operation)
            self._write(operation.output, operation.function(*map(self._read, operation.inputs)))
            self._drop(unused)

    def _maximum(self, operation: Maximum, unused: list[int], snap: float) -> None:
        """Cut at a maximum. Its candidates take the place of its inputs, which may be used no more."""
        read = [self._read(place) for place in operation.inputs]
        errors = candidate_errors(operation, [self._errors[place] for place in operation.inputs]).amax(2)
        self._estimate_errors(operation)
        shape = operation.function(*(part[:1] for part in read)).shape[1:]
        candidates = operation.candidates(*read).contiguous()
        if candidates.untyped_storage().data_ptr() in [part.untyped_storage().data_ptr() for part in read]:
            candidates = candidates.clone()  # it was a view of an input
        del read
        self._drop(unused)
        arrangement, maxima = maximum_site(
            self.polygons, operation.site, candidates.numpy(), snap, widths_of(errors).numpy()
        )
        self.arrangements.append(arrangement)
        self._write(operation.output, torch.from_numpy(maxima).reshape(-1, *shape))

    def _estimate_errors(self, operation: Operation) -> None:
        read = [some_rows(self._read(place)) for place in operation.inputs]
        errors = [self._errors[place] for place in operation.inputs]
        self._errors[operation.output] = rounding_errors(operation, read, errors)

    def _drop(self, unused: list[int]) -> None:
        for place in unused:
            self.polygons.values.pop(place, None)
            self._errors.pop(place, None)

    def stop(self) -> None:
        """Drop all values but the coordinates of the vertices."""
        self.polygons.values = {PLACE: self.polygons.values[PLACE]}
        self.polygons.settle()

    @property
    def vertices(self) -> Floats:
        """Coordinates of the vertices, (V, 2)."""
        return np.array(self.polygons.values[PLACE].content)

    def outputs(self, network: PiecewiseLinear) -> Floats:
        """Return the outputs (V, n_out) of an executed network at the vertices."""
        return self.polygons.values[network.output].content

    def _read(self, place: int) -> Tensor:
        return torch.from_numpy(self.polygons.values[place].content).reshape(-1, *self._shapes[place])

    def _write(self, place: int, value: Tensor) -> None:
        if not value.sum().isfinite() and not value.isfinite().all():
            behind = f"behind site {self.arrangements[-1].site!r}" if self.arrangements else "before the first site"
            raise ValueError(f"Expected finite numbers, got NaN or infinity {behind}; check the parameters there")
        self._shapes[place] = value.shape[1:]
        self.polygons.values[place] = Buffer(value.flatten(1).contiguous().numpy())
        self.polygons.check_bytes()


def check_arguments(network: PiecewiseLinear, slice: Slice, snap: float, max_regions: int, max_bytes: int) -> None:
    """Raise ValueError or TypeError unless a partition can be made of these."""
    check_network(network)
    if not isinstance(slice, Slice):
        raise TypeError(f"Expected a Slice, got {type(slice).__name__}; make it with slice_through or input_plane")
    if network.shape != tuple(slice.origin.shape):
        raise ValueError(
            f"Expected a slice of inputs of shape {network.shape}, got {tuple(slice.origin.shape)}; pass points of the "
            "shape of one input of the network, without rows"
        )
    if not 0 < snap <= 0.01:
        raise ValueError(f"Expected a snap between 0 and 0.01, got {snap!r}; pass a small number such as 1e-9")
    check_count(max_regions, "max_regions", 1, _MOST)
    check_count(max_bytes, "max_bytes", 1, _MOST)
