import numpy as np
import pytest
import xarray as xr

from probe.phases import peak_agreement

STEPS = np.unique(np.logspace(0, 5, 60).astype(int))


def hump(top: float, seed: int = 0, noise: float = 0.02) -> np.ndarray:
    """Rise and fall on the logarithm of the step, with the given top."""
    x = np.log10(STEPS + 1) - np.log10(top + 1)
    return np.exp(-(x**2)) + noise * np.random.default_rng(seed).standard_normal(len(STEPS))


def series(**curves: np.ndarray) -> xr.Dataset:
    data = {name: ("step", values) for name, values in curves.items()}
    found = xr.Dataset(data, {"step": STEPS})
    for name in curves:
        if name != "information_x":
            found[name].attrs["compares"] = "information_x"
    return found


def test_estimates_with_one_top_agree() -> None:
    found = peak_agreement(series(information_x=hump(1000), information_x_renyi=5 * hump(1000, 1)))
    assert found["estimate"].values.tolist() == ["information_x", "renyi"]
    assert (abs(np.log10(found["step"] / 1000)) < 0.1).all()
    assert found["agree"] == 1
    assert found["spread"] < 0.2


def test_estimates_with_tops_a_decade_apart_do_not() -> None:
    found = peak_agreement(series(information_x=hump(300), information_x_renyi=hump(3000, 1)))
    assert found["agree"] == 0
    assert found["spread"].item() == pytest.approx(1, abs=0.15)
    assert peak_agreement(found_again := series(information_x=hump(300), b=hump(3000, 1)), delta=1.5)["agree"] == 1
    assert "b" in peak_agreement(found_again)["estimate"]


def test_noise_levels_are_estimates_and_other_dimensions_are_kept() -> None:
    tops = np.array([[200.0, 200.0], [2000.0, 20000.0]])  # (layer, noise_factor)
    by_noise = np.stack([[hump(top, i) for i, top in enumerate(row)] for row in tops])  # (layer, factor, step)
    data = xr.Dataset(
        {
            "information_x": (("layer", "step"), by_noise[:, 0]),
            "information_x_by_noise": (("layer", "noise_factor", "step"), by_noise),
        },
        {"step": STEPS, "layer": ["a", "b"], "noise_factor": [0.5, 2.0]},
    )
    found = peak_agreement(data)
    assert found["estimate"].values.tolist() == ["information_x", "noise x 0.5", "noise x 2"]
    assert found["agree"].sel(layer="a") == 1
    assert found["agree"].sel(layer="b") == 0


@pytest.mark.parametrize("values", [np.linspace(0, 1, len(STEPS)), np.full(len(STEPS), np.nan)])
def test_no_top_inside_the_record_is_no_agreement(values: np.ndarray) -> None:
    found = peak_agreement(series(information_x=hump(1000), information_x_renyi=values))
    assert found["agree"] == -1
    assert np.isnan(found["step"].sel(estimate="renyi"))
    assert np.isnan(found["spread"])


def test_one_estimate_or_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least two estimates of 'information_x', got one"):
        peak_agreement(series(information_x=hump(1000)))
    with pytest.raises(ValueError, match="Expected 'information_y'"):
        peak_agreement(series(information_x=hump(1000)), "information_y")
