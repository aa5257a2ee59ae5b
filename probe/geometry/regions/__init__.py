"""Borders between regions, the decision boundary, merged boundaries, and what changes the number of regions."""
