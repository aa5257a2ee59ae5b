"""R = 1 + sum(chords + crossings), and the mechanisms add up to the change."""


def check(names, printed):
    before, after = names["partition"], names["after"]
    assert before.n_regions == 1 + sum(site.segments + site.crossings for site in before.arrangements)
    assert sum(map(names["changes"].total, names["changes"].parts)) == after.n_regions - before.n_regions
