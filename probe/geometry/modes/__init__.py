"""Singular modes of a matrix, and their identity over time."""
