"""A small grokking transformer with its training, its recorded runs, and the claims of papers about it.

Run it from the root of the repository: ``python -m reference --help``.

`reference.training` trains and does not import probe. `reference.runs` trains many seeds and resumes them.
`reference.experiments` measures runs by probes. `reference.claims` judges the claims of papers.

>>> from dataclasses import replace
>>> from reference.training import DEMO, train
>>> [step for step, curves in train(replace(DEMO, steps=2))]
[0, 1, 2]
"""
