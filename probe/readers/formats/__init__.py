"""One format, one file: how each logger writes its curves."""
