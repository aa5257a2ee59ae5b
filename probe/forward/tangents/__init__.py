"""Derivatives of the outputs of a model with respect to its parameters: products with the tangent kernel, Jacobians."""
