"""Rules that find one marker on one curve, and the table of markers."""
