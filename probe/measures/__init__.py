"""One measure, one file: formula, source, pure function, thin probe."""
