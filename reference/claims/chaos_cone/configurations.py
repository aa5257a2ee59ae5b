"""Our configurations in the claims of arXiv:2505.13900, and the thresholds of the claims.

The thresholds were fixed before any of our recordings existed. Known were: the numbers of `published.py`; networks,
learning rates, t0 and t1 of our configurations; and the growth of perturbations in a small tanh network on another task
(log growth over 100 updates 1.1 at the start, and -.1 after the end of fitting).
"""

CONVOLUTIONAL = ("vgg", "resnet")  # the paper's kinds of network, much smaller, on images of digits
TRANSFORMERS = ("division", "subtraction")
CONFIGURATIONS = (*CONVOLUTIONAL, *TRANSFORMERS)
MOMENTUM = 0.9  # of SGD, which trains the convolutional networks; AdamW trains the transformers

# -- response to a perturbation ------------------------------------------------------------------------------------
BARRIER = 0.1  # nats; a tenth of the smallest early barrier of the paper, whose late ones are "about 0"
DISAGREEMENT = 0.01  # 6 of 600 test inputs; below, a transition of the disagreement is not looked for
FLOOR = 1e-3  # of a disagreement in a ratio: less than one of 600 test inputs
TWICE = 0.3  # dex; factor between early and late disagreements
LARGER_AT_ONCE = 0.18  # dex, a factor of 1.5; the smallest factor of the paper is 2, .3 against .10 to .15
EARLY = -1.0  # dex; a tenth of the training. The paper's transitions lie at 1 to 4 % of it for batches of 128
SHARP = 0.7  # dex from 80 % to 20 % of the first response: the slower of the paper's networks falls over 100 to 500
FALLS = 0.8  # a curve with a peak ends below this share of the peak
COINCIDE = 0.3  # dex, a factor of 2: grids of t0 have gaps of this order, in the paper too
GROWTH = 0.1  # nats, the difference of log growths that ChaosProbe calls one of finite size
EXPLAINED = 0.8, 1.25  # share of the growth that the quadratic model has

# -- tangent kernel ------------------------------------------------------------------------------------------------
REFERENCES = 0.2, 0.4, 0.6  # shares of the record: the paper has 2,000, 4,000 and 6,000 of 10,000
VELOCITY_FALLS = 0.5  # dex, a factor of 3; the paper has 20 and 12
# Exponent of the distance 1 - cos over the number of steps: 0 for a floor, 1 for a random walk, 2 for a steady drift.
# Half of that of a random walk.
FLAT = 0.5
NARROW = 0.1  # 1 - cos; the largest distance to a later reference in the paper
OUTSIDE = 0.18  # dex, a factor of 1.5; the smallest factor of the paper is .15 over .10
SIZE = 0.1  # dex; change of the norm by a quarter

# -- linearised training -------------------------------------------------------------------------------------------
RISES = 0.05  # test accuracy; four standard errors of an accuracy .9 of 600 test inputs
CLOSE = 0.05  # test accuracy
