"""A small grokking transformer, complete enough to be measured and free of any measuring.

`reference.tasks` makes the table, `reference.model` the network, `reference.train` an ordinary training loop,
`reference.ensemble` trains many seeds at once, `reference.configs` names what was trained:

>>> from dataclasses import replace
>>> from reference.configs import DEMO
>>> from reference.train import train
>>> [step for step, curves in train(replace(DEMO, steps=2))]
[0, 1, 2]
"""
# Nothing is re-exported: a function `train` here would hide the module `reference.train`.
