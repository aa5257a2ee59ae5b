"""Plots of circuits and linear regions."""
