"""Circuits: the active units of an input, and the affine map that they make."""
