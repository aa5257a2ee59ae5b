"""Informations that are known exactly, for the tests of several estimators."""

import math

import numpy as np
from scipy.integrate import quad
from scipy.stats import norm


def noisy_bit(snr: float) -> float:
    """Return the bits that a noisy reading of one equally likely bit +-a contains; snr = a^2 / sigma^2."""

    def integrand(n: float) -> float:
        return norm.pdf(n) * np.logaddexp(0, -2 * snr - 2 * math.sqrt(snr) * n) / math.log(2)

    return 1 - quad(integrand, -12, 12, epsabs=1e-12)[0]
