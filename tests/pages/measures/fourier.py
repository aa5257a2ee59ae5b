"""Random rows have the numbers of the page; one frequency has a larger Gini coefficient and share."""


def check(names, printed):
    (gini, share), (gini_one, share_one) = (map(float, line.split()) for line in printed.splitlines())
    assert gini < 0.1
    assert share < 0.5
    assert gini_one > 0.2
    assert share_one > 0.8
