"""Measure the number of units that change sign near a point."""
