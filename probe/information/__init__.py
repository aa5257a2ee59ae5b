"""Estimators of information and entropy, in bits: tensors in, numbers out. One estimator, one file."""
