"""The values in the comments are printed."""


def check(names, printed):
    assert [word[:6] for word in printed.split()] == ["GMFL-I", "30.669"]
