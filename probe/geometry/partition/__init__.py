"""The exact partition of a slice into linear regions."""
