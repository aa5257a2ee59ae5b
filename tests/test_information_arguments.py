"""Arguments that the functions of probe.information cannot use: an error that states what to do, never a number."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from probe.information import (
    ChannelInformation,
    binned_information,
    calibrated_noise,
    channel_bits,
    channel_information,
    coding_rate,
    decodable_information,
    discrete_entropy,
    discrete_information,
    equal_bins,
    fano_bound,
    gaussian_kernel,
    ksg_information,
    label_codes,
    matrix_entropy,
    principal_components,
    quantile_bins,
    renyi_information,
    representation_geometry,
    ross_information,
    width_bins,
)

Z, LABELS = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
OF_ROWS: list[Callable[[Any], Any]] = [
    lambda z: channel_information(z, LABELS),
    lambda z: channel_bits(z, LABELS),
    lambda z: coding_rate(z, LABELS),
    lambda z: renyi_information(z, LABELS),
    lambda z: ross_information(z, LABELS),
    lambda z: ksg_information(z, Z),
    lambda z: ksg_information(Z, z),
    lambda z: decodable_information(z, LABELS),
    lambda z: representation_geometry(z, LABELS),
    lambda z: principal_components(z, 1),
    lambda z: quantile_bins(z, 2),
    lambda z: equal_bins(z, 2),
    lambda z: width_bins(z, 1.0),
    calibrated_noise,
    gaussian_kernel,
]
OF_LABELS: list[Callable[[Any], Any]] = [
    lambda y: channel_information(Z, y),
    lambda y: channel_information(Z, inputs=y),
    lambda y: coding_rate(Z, y),
    lambda y: renyi_information(Z, y),
    lambda y: ross_information(Z, y),
    lambda y: decodable_information(Z, y),
    lambda y: representation_geometry(Z, y),
    lambda y: binned_information(LABELS[:, None], y),
    discrete_entropy,
    lambda y: discrete_information(LABELS, y),
    lambda y: fano_bound(0.5, y),
    label_codes,
]


@pytest.mark.parametrize(
    "wrong",
    ["text", 3.0, [[1.0]], Z.numpy(), Z.to_sparse(), Z.to("meta"), Z + 1j, torch.tensor(1.0), Z[:0], Z[:, :0], Z[None]],
)
@pytest.mark.parametrize("function", OF_ROWS)
def test_what_is_no_matrix_of_rows_is_an_error_of_one_form(function: Callable[[Any], Any], wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^Expected .*, got .*; "):
        function(wrong)


@pytest.mark.parametrize(
    "wrong", ["text", 3, [0] * 30, LABELS.numpy(), LABELS[None], LABELS.float(), LABELS.to("meta")]
)
@pytest.mark.parametrize("function", OF_LABELS)
def test_what_is_no_label_of_each_row_is_an_error_of_one_form(function: Callable[[Any], Any], wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^Expected .*, got .*; "):
        function(wrong)


@pytest.mark.parametrize("wrong", [None, "a", 0, -1, math.nan, math.inf, 1e300, [1.0], np.ones(3)])
@pytest.mark.parametrize(
    "function",
    [
        lambda level: channel_information(Z, noise=level),
        lambda level: channel_bits(Z, noise=level),
        lambda level: coding_rate(Z, noise=level),
        lambda width: renyi_information(Z, width=width),
        lambda width: width_bins(Z, width),
        lambda order: matrix_entropy(torch.eye(3), order=order),
    ],
)
def test_what_is_no_positive_number_is_an_error_of_one_form(function: Callable[[Any], Any], wrong: Any) -> None:
    if not (isinstance(wrong, list) and isinstance(function(1.5), ChannelInformation)):  # which takes several levels
        with pytest.raises(ValueError, match=r"^Expected a positive and finite .*, got .*; "):
            function(wrong)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
@pytest.mark.parametrize("function", OF_ROWS)
def test_rows_whose_squares_are_no_numbers_are_errors(function: Callable[[Any], Any], scale: float) -> None:
    """They were called collapsed, with an information of 0."""
    with pytest.raises(ValueError, match=r"^Expected .*, got .*; "):
        function(Z.double() * scale)


@pytest.mark.parametrize("scale", [1e-140, 1e-20, 1e20, 1e140])
def test_the_scale_of_rows_does_not_matter(scale: float) -> None:
    for function in OF_ROWS[:3] + OF_ROWS[7:8]:
        large, usual = function(scale * Z.double()), function(Z.double())
        if isinstance(usual, ChannelInformation):
            assert large.x.upper == pytest.approx(usual.x.upper)
        elif isinstance(usual, tuple):
            assert float(large[0]) == pytest.approx(float(usual[0]), rel=1e-5)


def test_codes_that_do_not_fit_are_errors() -> None:
    for call in (
        lambda: discrete_information(LABELS, LABELS[:29]),
        lambda: discrete_entropy(LABELS - 1),
        lambda: discrete_entropy(LABELS, torch.ones(3)),
        lambda: discrete_entropy(LABELS[:0]),
        lambda: fano_bound(1.5, LABELS),
        lambda: fano_bound(math.nan, LABELS),
        lambda: matrix_entropy(torch.ones(2, 3)),
        lambda: matrix_entropy(torch.zeros(3, 3)),
    ):
        with pytest.raises(ValueError, match=r"^Expected .*, got .*; "):
            call()


def test_error_of_a_decoder_over_draws_of_the_rows() -> None:
    """The spread over folds alone covers 69 % at 50 rows."""
    y, found = torch.arange(50) % 2, []
    for draw in range(60):
        z = torch.randn(50, 2, generator=torch.Generator().manual_seed(draw)) + 1.5 * y[:, None]
        found.append(decodable_information(z, y))
    raw, se = np.array([r.raw for r in found]), np.array([r.se for r in found])
    assert (np.abs(raw - raw.mean()) < 2 * se).mean() > 0.78
