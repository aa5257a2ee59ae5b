"""Numbers of arXiv:2505.13900 (one run each of VGG-16 and ResNet-20 on CIFAR-10).

The curves are not available, and we could not read the paper itself, only its abstract. The numbers are those of a
third-party summary of its text and figures. They are shown beside our verdicts and not judged: other networks, other
images, and a perturbation whose size in the paper (1e-7) is below the rounding error of float32 weights.
"""

READING = "third-party summary"
_VGG, _RESNET = "VGG-16", "ResNet-20"


def _both(vgg: str, resnet: str) -> dict[str, str]:
    return {_VGG: vgg, _RESNET: resnet}


REPORTED = {
    "barrier early": _both("1 to 2 for t0 up to 1,500, at t1 of 5,000 or more", "about 2 at t0 = 0"),
    "barrier late": _both("about 0 for t0 of 2,500 or more", "falls over t0 of 100 to 500, about 0 beyond"),
    "disagreement": _both(".10 to .15 at late t1, for t0 up to 1,500", ".1 to .2 at late t1"),
    "transition": _both("t0 between 1,500 and 2,500", "t0 between 100 and 500"),
    "peak": _both("at t1 = 2,500 for all t0 up to 1,500; at most 8e-4", "at t1 of 100 to 200, t0 = 0 only; .06"),
    "disagreement at once": _both(
        ".3 at t1 = 2,500, .10 to .15 later (t0 up to 1,500)", ".5 at t1 = 100, .1 to .2 later"
    ),
    "velocity": _both("from about 1 to .05", "from about .25 to .02"),
    "floor": _both(".05 for every dt of 100 to 500", ".02 for every dt of 100 to 500"),
    "cone": _both("block of the distance matrix from step 2,000 on", "block from a step of 100 to 500 on"),
    "flat": _both(".05 to .10 to references at 2,000 to 8,000", ".02 to .03 to references at 2,000 to 8,000"),
    "outside": _both(".15 to .20 to the start", ".15 to .20 to the start"),
    "coincide": _both("chaos 1,500 to 2,500, cone 2,000", "chaos 100 to 500, cone 100 to 500"),
    "linearised": _both(".13 from t0 up to 200, .82 from t0 = 5,000", ".44 at first, .84 at last"),
}
