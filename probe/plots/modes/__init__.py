"""Singular modes of weight matrices: trajectories with classes, numbers by class, flow of spectra."""
