"""The phases of a training run, read from curves: arrays in, ends of phases out. No torch."""
