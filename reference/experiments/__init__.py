"""The figures of the paper and the demo, as named experiments."""
