"""Readers of the formats of loggers, one file per format."""
