"""The base of measures of one layer: what it does for every subclass."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from helpers import seeded
from torch import Tensor, nn

from probe import LayerProbe, ProbeSet, ProbeWarning, check_probe
from probe.testing import check_parameters, check_same_twice


class MeanProbe(LayerProbe):
    """The mean, and a flag of its sign."""

    variables: ClassVar[Any] = {"mean": ("m", "mean activation", False), "mean_positive": ("1", "positive mean", True)}

    def summarise(self, z: Tensor, targets: Tensor | None) -> Mapping[str, Any]:
        return {"mean": z.mean(), "mean_positive": z.mean() > 0}


class LabelledProbe(LayerProbe):
    """Sum and number of the labels that it receives."""

    variables: ClassVar[Any] = {"labels_sum": ("1", "sum", False), "labels_n": ("1", "number", False)}
    needs_labels = True

    def summarise(self, z: Tensor, targets: Tensor | None) -> Mapping[str, Any]:
        assert targets is not None
        assert len(targets) == len(z)
        return {"labels_sum": targets.sum(), "labels_n": len(z)}


class Sometimes(nn.Module):
    """Its second layer does not fire for negative inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.b(y) if (x > 0).any() else y


def identity() -> nn.Module:
    return nn.Sequential(nn.Identity())


def test_a_subclass_without_a_constructor_keeps_the_contract() -> None:
    check_parameters(MeanProbe())
    check_probe(ProbeSet([MeanProbe(), ("few", MeanProbe(max_samples=3, random_state=7)), LabelledProbe()]))


def test_variables_have_units_names_flags_and_the_number_of_rows() -> None:
    on, off = torch.rand(5, 3, generator=seeded()), -torch.rand(7, 3, generator=seeded())
    off[1, 1] = math.nan
    probe = MeanProbe(layers=["a", "b"]).attach(Sometimes(), {"on": (on, None), "off": (off, None)})
    found = probe.observe(0).detach().series_.isel(step=0)
    assert found["mean"].dims == ("split", "layer")
    assert found["mean"].attrs["units"] == "m"
    assert found["mean"].attrs["long_name"] == "mean activation"
    assert found["mean"].attrs["n_rows"] == 5
    assert "n_rows" not in found["mean_positive"].attrs
    expected = on.mean().item()
    np.testing.assert_allclose(found["mean"], [[expected, expected], [math.nan, math.nan]], rtol=1e-6)
    assert found["mean_positive"].values.tolist() == [[1, 1], [-1, -1]]
    assert found["mean_nonfinite"].values.tolist() == [[0, 0], [1, -1]]


def test_large_finite_rows_are_finite() -> None:
    x = torch.full((4, 2), 3e38)  # their sum is infinite in float32
    assert MeanProbe().fit(identity(), (x, None)).series_["mean_nonfinite"].item() == 0


class Shares(LayerProbe):
    """Receives all rows."""

    variables: ClassVar[Any] = {"finite_share": ("1", "share of finite activations", False)}
    nonfinite_flag = None

    def summarise(self, z: Tensor, targets: Tensor | None) -> Mapping[str, Any]:
        return {"finite_share": torch.isfinite(z).double().mean()}


def test_a_measure_can_receive_rows_that_are_not_finite() -> None:
    found = Shares().fit(identity(), (torch.tensor([[1.0, math.inf], [2, 3]]), None)).series_
    assert found["finite_share"].item() == 0.75
    assert not {"finite_share_nonfinite", "_nonfinite"} & set(found)


@pytest.mark.parametrize("state", [0, 1])
def test_a_fixed_subset_of_rows_with_their_labels(state: int) -> None:
    x, y = torch.randn(50, 2, generator=seeded()), torch.arange(50)
    y[:10] = -100
    rows = 10 + torch.randperm(40, generator=seeded(state))[:8]
    found = LabelledProbe(max_samples=8, random_state=state).fit(identity(), (x, y)).series_
    assert found["labels_sum"].item() == y[rows].sum()
    whole = LabelledProbe(max_samples=None).fit(identity(), (x, y)).series_
    assert (whole["labels_n"].item(), whole["labels_n"].attrs["n_rows"]) == (40, 40)


def test_positions_have_the_label_of_their_input_or_one_each() -> None:
    x = torch.randn(6, 4, 3, generator=seeded())
    for y, total in ((torch.arange(6), 4 * 15), (torch.arange(24).view(6, 4), 276)):
        found = LabelledProbe(reduce="tokens").fit(identity(), (x, y)).series_
        assert (found["labels_sum"].item(), found["labels_n"].item()) == (total, 24)


@pytest.mark.parametrize(
    ("probe", "x", "y", "message"),
    [
        (MeanProbe(max_samples=1), torch.eye(3), None, "Expected max_samples >= 2, got 1"),
        (MeanProbe(reduce=lambda z: z[:1]), torch.eye(3), None, "Expected one row for each of 2 inputs"),
        (LabelledProbe(), torch.eye(3), None, "Expected integer targets in some split, got none in all"),
        (LabelledProbe(), torch.eye(3), torch.arange(9).view(3, 3), "a target for each row, got 9 targets for 3 rows"),
        (LabelledProbe(), torch.eye(3), torch.tensor([1, -100, -100]), "Expected 2 or more rows .* got 1"),
    ],
)
def test_data_that_cannot_be_measured_are_an_error(probe: LayerProbe, x: Tensor, y: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        probe.fit(identity(), (x, y))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"mean": 0.0}, r"undeclared names \[\] and no \['mean_positive'\]"),
        ({"mean": 0.0, "mean_positive": 0, "median": 1.0}, r"undeclared names \['median'\] and no \[\]"),
    ],
)
def test_names_that_differ_from_the_declared_ones_are_an_error(returned: dict[str, float], message: str) -> None:
    class Wrong(MeanProbe):
        def summarise(self, z: Tensor, targets: Tensor | None) -> Mapping[str, Any]:
            return returned

    with pytest.raises(ValueError, match=message):
        Wrong().fit(identity(), (torch.eye(3), None))


@pytest.mark.parametrize("entry", ["bits", ("bits", "text"), ("bits", "text", 1), ["bits", "text", True]])
def test_a_bad_entry_is_an_error_where_the_class_is_defined(entry: Any) -> None:
    with pytest.raises(TypeError, match=r"Bad\.variables\['x'\] to be \(unit, long name, flag\)"):
        type("Bad", (LayerProbe,), {"variables": {"x": entry}})


def test_a_class_without_variables_is_an_error_when_attaching() -> None:
    class Empty(LayerProbe):
        def summarise(self, z: Tensor, targets: Tensor | None) -> Mapping[str, Any]:
            return {}

    with pytest.raises(TypeError, match=r"Empty\.variables to declare a variable, got none"):
        Empty().fit(identity(), (torch.eye(3), None))


class WritesInPlace(LayerProbe):
    """Change the rows that all probes share."""

    variables: ClassVar[Any] = {"zero": ("1", "zero", False)}

    def summarise(self, z: Tensor, targets: Tensor | None) -> dict[str, float]:
        z.mul_(0)
        return {"zero": 0.0}


@pytest.mark.parametrize("n", [40, 700], ids=["one block", "two blocks"])
def test_a_probe_that_writes_to_shared_rows_is_refused_and_the_next_ones_measure_the_layer(n: int) -> None:
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    with pytest.raises(ValueError, match="share unchanged, got other rows of 1 in split 'all'; change a copy"):
        WritesInPlace().fit(model, (x, None))
    writes_late = WritesInPlace()
    writes_late.summarise = lambda z, targets: {"zero": 0.0}  # type: ignore[method-assign]
    expected = ProbeSet([MeanProbe()]).fit(model, (x, None)).series_
    probes = ProbeSet([writes_late, MeanProbe()]).attach(model, (x, None)).observe(0)
    del writes_late.summarise
    with pytest.warns(ProbeWarning, match="change a copy"):
        probes.observe(1)
    found = probes.detach().series_
    assert found["failed"].sel(probe="WritesInPlace").values.tolist() == [0, 1]
    for name in MeanProbe.variables:
        assert found[name].isel(step=1).equals(expected[name].isel(step=0, drop=True).assign_coords(step=1))


def test_a_vector_for_a_number_is_refused() -> None:
    class Vector(LayerProbe):
        variables: ClassVar[Any] = {"vector": ("1", "mean of each unit", False)}

        def summarise(self, z: Tensor, targets: Tensor | None) -> dict[str, Tensor]:
            return {"vector": z.mean(0)}

    with pytest.raises(
        ValueError, match=r"Expected Vector.summarise to return one number for 'vector', got shape \(8,\)"
    ):
        Vector().fit(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), (torch.ones(6, 4), None))


def test_global_random_numbers_are_found_by_the_contract() -> None:
    class Draws(LayerProbe):
        variables: ClassVar[Any] = {"draw": ("1", "a random number", False)}

        def summarise(self, z: Tensor, targets: Tensor | None) -> dict[str, float]:
            return {"draw": torch.rand(1).item()}

    with pytest.raises(AssertionError, match="draw random numbers from"):
        check_same_twice(Draws())


def test_a_subclass_with_variables_of_its_own_has_a_flag_of_its_own() -> None:
    class Other(MeanProbe):
        variables: ClassVar[Any] = {"other": ("1", "another number", False)}

        def summarise(self, z: Tensor, targets: Tensor | None) -> dict[str, float]:
            return {"other": 1.0}

    series = (
        ProbeSet([MeanProbe(), Other()])
        .fit(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), (torch.ones(6, 4), None))
        .series_
    )
    assert {"mean_nonfinite", "other_nonfinite"} <= set(series.data_vars)


@pytest.mark.parametrize("value", [math.nan, 300, 0.5, 2])
def test_a_flag_that_is_none_is_refused(value: float) -> None:
    class Flags(LayerProbe):
        variables: ClassVar[Any] = {"odd": ("1", "a flag", True)}
        nonfinite_flag = None

        def summarise(self, z: Tensor, targets: Tensor | None) -> dict[str, float]:
            return {"odd": value}

    with pytest.raises(ValueError, match=r"Expected 1, 0 or -1 \(not measured\) in the flag odd"):
        Flags().fit(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), (torch.ones(6, 4), None))


def test_targets_of_the_caller_stay_what_they_are() -> None:
    class Clears(LayerProbe):
        variables: ClassVar[Any] = {"n": ("1", "number of targets", False)}

        def summarise(self, z: Tensor, targets: Tensor | None) -> dict[str, float]:
            assert targets is not None
            return {"n": len(targets.zero_())}

    y = torch.arange(6)
    Clears().fit(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), (torch.ones(6, 4), y))
    assert y.tolist() == list(range(6))
