"""The rules that find one marker on one curve."""
