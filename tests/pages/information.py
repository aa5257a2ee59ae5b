"""A shorter training; the penalty takes information away."""

edits = {"steps=300": "steps=150"}


def check(names, printed):
    assert names["bits"][0.1] < names["bits"][0.0] - 0.5
