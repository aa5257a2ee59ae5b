"""Is the transition of the sampled networks of first order? Barriers, hopping rates, loops and Binder's cumulant."""
