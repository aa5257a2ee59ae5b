"""Results over several runs: medians, distances and tests."""
