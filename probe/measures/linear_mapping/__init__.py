"""Measure the linear mapping number of the network after a layer."""
