"""Singular modes of the weights, and how they change from observation to observation."""
