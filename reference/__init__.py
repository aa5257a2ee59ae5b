"""A small grokking transformer, complete enough to be measured and free of any measuring.

`reference.training.tasks` makes the table, `reference.training.model` the network, `reference.training.trainer` an ordinary training loop,
`reference.training.ensemble` trains many seeds at once, `reference.training.configs` names what was trained:

>>> from dataclasses import replace
>>> from reference.training.configs import DEMO
>>> from reference.training.trainer import train
>>> [step for step, curves in train(replace(DEMO, steps=2))]
[0, 1, 2]
"""
# Nothing is re-exported: a function `train` here would hide the module `reference.training.trainer`.
