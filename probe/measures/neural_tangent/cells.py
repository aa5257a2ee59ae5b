"""The numbers of the kernel of one batch, and its sketch."""

from typing import Any

import numpy as np

from probe.geometry.tangent_kernel import kernel_alignment, kernel_numbers, kernel_sketch, probe_sketch
from probe.measures.neural_tangent.parts import Part


def cell_of(part: Part, method: str, n_probes: int, sketch_size: int) -> tuple[dict[str, Any], np.ndarray]:
    """Return the numbers of one batch, and the sketch, which is NaN for a kernel that is 0 or not finite."""
    targets = None if part.targets is None else part.targets.flatten()
    if method == "probes":
        z = part.vectors(n_probes)
        products = part.products(z)
        numbers = kernel_numbers(products, z.flatten(0, -2))
        sketch = probe_sketch(products, sketch_size // n_probes, random_state=part.seed)
        aligned = None if part.targets is None else part.tangents.products(part.targets[..., None].to(z)).flatten()
    else:
        kernel = part.whole(method)
        numbers = kernel_numbers(kernel)
        sketch = kernel_sketch(kernel, sketch_size, random_state=part.seed)
        aligned = None if targets is None else kernel.double() @ targets.to(kernel.device)
    undefined = not (0 < numbers.norm < float("inf"))
    cell: dict[str, Any] = {"tangent_kernel_undefined": undefined}
    cell["tangent_kernel_alignment_undefined"] = aligned is None or undefined
    if undefined:
        return cell, np.full(len(sketch), np.nan)
    cell |= {f"tangent_kernel_{name}": value for name, value in numbers._asdict().items()}
    if aligned is not None and targets is not None:
        value, error = kernel_alignment(aligned, targets.to(aligned.device), numbers)
        cell |= {"tangent_kernel_alignment": value, "tangent_kernel_alignment_se": error}
        cell["tangent_kernel_alignment_undefined"] = not np.isfinite(value)
    return cell, sketch.cpu().numpy()
