"""What several runs show together: medians, distances, tests."""
