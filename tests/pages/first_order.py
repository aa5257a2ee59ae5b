"""The values in the comments are printed."""


def check(names, printed):
    assert [word[:6] for word in printed.split()] == ["0.1787", "GMFL-I"]
