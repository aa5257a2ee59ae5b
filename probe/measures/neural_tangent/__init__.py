"""The empirical tangent kernel over training."""
