"""Phases of the weights of a layer along a direction."""
