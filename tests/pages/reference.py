"""A run of a few steps, in place of the whole training."""

from reference.runs import run

run("division-97", seeds=[3], steps=3, n_jobs=1)


def check(names, printed):
    assert names["information"].sizes["step"] > 1
