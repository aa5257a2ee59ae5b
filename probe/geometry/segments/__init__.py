"""Exact breakpoints along line segments."""
