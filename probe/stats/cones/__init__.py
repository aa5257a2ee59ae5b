"""Cones of tangent kernels: distances, entry, radius, and what recordings contain of them."""
