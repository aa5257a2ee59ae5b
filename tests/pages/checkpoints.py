"""The value in the comment is right."""


def check(names, printed):
    assert printed == "5 checkpoints, step 0 to 40: steps from the name\n"
