"""Measure the information that noisy layers have about inputs and labels."""
