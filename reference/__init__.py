"""A small grokking transformer, complete enough to be measured and free of any measuring.

`reference.tasks` makes the table, `reference.model` the network, `reference.train` an ordinary training loop:

>>> from reference.model import Config, Transformer
>>> from reference.tasks import division
>>> from reference.train import TrainConfig, make_optimizer, train
>>> task, config = division(59), TrainConfig(steps=2)
>>> model = Transformer(Config(n_tokens=task.n_tokens, n_classes=task.n_classes), seed=config.seed)
>>> optimizer, scheduler = make_optimizer(model, config)
>>> [step for step, batch_loss in train(model, task, optimizer, scheduler, config)]
[1, 2]
"""
# Nothing is re-exported: a function `train` here would hide the module `reference.train`.
