"""Exact linear regions of slices over training, and what changes their number."""
