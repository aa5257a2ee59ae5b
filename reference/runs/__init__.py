"""Runs on disk: launch, resume, collect."""
