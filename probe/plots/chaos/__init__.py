"""Plots of tangent kernels, of the growth of perturbations, and of maps over two steps."""
