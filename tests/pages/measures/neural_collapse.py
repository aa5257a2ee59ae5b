"""NC1 falls with training, as the comment states."""


def check(names, printed):
    start, *_, end = names["series"]["nc1"].values.flatten()
    assert end < start / 2
