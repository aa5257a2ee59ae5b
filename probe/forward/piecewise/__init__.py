"""The piecewise-linear network of a model."""
