import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from probe import concat, save
from probe.recording import provenance_json, read_netcdf
from probe.recording.records import Records
from probe.series import Variable, validate


def example(steps: list[int], layers: list[str], value: float = 1.0) -> xr.Dataset:
    shape = (len(steps), len(layers))
    return xr.Dataset(
        {
            "loss": ("step", np.full(len(steps), value), {"units": "nats"}),
            "information": (("step", "layer"), np.full(shape, value), {"units": "bits"}),
            "saturated": (("step", "layer"), np.ones(shape, np.int8), {"units": "1"}),
        },
        {"step": np.array(steps), "layer": layers},
        {"provenance": "{}"},
    )


# -- validate --------------------------------------------------------------------------------------------------------


def test_a_series_is_returned_as_it_is() -> None:
    dataset = example([1, 5], ["a"])
    assert validate(dataset) is dataset


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.rename(step="epoch"), r"Expected a dimension and a coordinate 'step'.*rename\(epoch='step'\)"),
        (lambda d: d.drop_vars("step"), "a coordinate 'step'"),
        (lambda d: d.isel(step=[1, 0]), "increasing and unique steps.*sortby"),
        (lambda d: d.isel(step=[0, 0]), "increasing and unique"),
        (lambda d: d.assign_coords(step=[0.0, np.nan]), "finite"),
        (lambda d: d.assign(name=("step", ["a", "b"])), "Expected numbers in variable 'name', got <U1"),
    ],
)
def test_what_is_no_series_is_an_error_with_advice(change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validate(change(example([1, 5], ["a"])))


# -- concat ----------------------------------------------------------------------------------------------------------


def test_runs_with_other_steps_are_united_and_what_is_missing_is_marked() -> None:
    joined = concat([example([0, 10], ["a"], 1.0), example([10, 20], ["a"], 2.0)], runs=["one", "two"])
    assert joined["step"].values.tolist() == [0, 10, 20]
    assert joined["run"].values.tolist() == ["one", "two"]
    np.testing.assert_array_equal(joined["loss"], [[1, 1, np.nan], [np.nan, 2, 2]])
    assert joined["saturated"].dtype == np.int8
    assert joined["saturated"].squeeze("layer").values.tolist() == [[1, 1, -1], [-1, 1, 1]]
    assert joined["information"].attrs["units"] == "bits"


@pytest.mark.parametrize(
    ("layers", "united"),
    [
        ([["z.2", "z.10"], ["z.2", "z.10"]], ["z.2", "z.10"]),
        ([["z.2", "z.10"], ["z.2", "z.5", "z.10"]], ["z.2", "z.5", "z.10"]),
        ([["z.10"], ["z.2", "z.10"]], ["z.2", "z.10"]),
        ([["z.2"], ["z.10"]], ["z.2", "z.10"]),
    ],
)
def test_layers_of_runs_stay_in_the_order_of_the_model(layers: list[list[str]], united: list[str]) -> None:
    joined = concat([example([0], names) for names in layers])
    assert joined["layer"].values.tolist() == united
    for run, names in enumerate(layers):
        measured = joined["information"].isel(run=run, step=0)
        assert measured.dropna("layer")["layer"].values.tolist() == names


def test_numbers_along_a_dimension_are_sorted() -> None:
    runs = [
        xr.Dataset({"v": (("step", "noise"), [[1.0, 1.0]])}, {"step": [0], "noise": n})
        for n in ([0.1, 0.3], [0.2, 0.3])
    ]
    assert concat(runs)["noise"].values.tolist() == [0.1, 0.2, 0.3]


def test_a_variable_that_a_run_lacks_is_not_measured_there() -> None:
    joined = concat([example([0], ["a"]), example([0], ["a"]).drop_vars(["saturated", "loss"])])
    assert joined["saturated"].dtype == np.int8
    assert joined["saturated"].values.ravel().tolist() == [1, -1]
    np.testing.assert_array_equal(joined["loss"].values.ravel(), [1, np.nan])


def test_concat_keeps_the_provenance_of_each_run() -> None:
    joined = concat([example([0], ["a"]), example([0], ["a"]).assign_attrs(provenance="other")])
    assert json.loads(joined.attrs["provenance"]) == ["{}", "other"]


@pytest.mark.parametrize(
    ("runs", "labels", "message"),
    [([], None, "at least one series"), ([example([0], ["a"])], ["x", "y"], "each of 1 series, got 2 labels")],
)
def test_concat_refuses_what_it_cannot_join(runs: list[xr.Dataset], labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        concat(runs, labels)


# -- save and load ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [[0, 1], [0, 2**31 + 1, 2**40 + 3], []], ids=["small", "above 2**31", "empty"])
def test_a_saved_series_is_loaded_identical(steps: list[int], tmp_path: Path) -> None:
    dataset = example(steps, ["a", "größer"]).assign_coords(step=np.array(steps, np.int64))
    dataset["loss"][:1] = np.nan
    found = read_netcdf(save(dataset, tmp_path / "run.nc"))
    xr.testing.assert_identical(found, dataset)
    assert found["step"].dtype == np.int64
    assert found["saturated"].dtype == np.int8


def test_joined_runs_survive_a_file(tmp_path: Path) -> None:
    joined = concat([example([0, 10], ["a"]), example([10], ["b"])], runs=["one", "two"])
    xr.testing.assert_identical(read_netcdf(save(joined, tmp_path / "runs.nc")), joined)


def test_loading_leaves_the_file_closed_so_that_it_can_be_replaced(tmp_path: Path) -> None:
    path = save(example([0], ["a"]), tmp_path / "run.nc")
    old = read_netcdf(path)
    save(example([0, 1], ["a"], 2.0), path)
    assert old["loss"].values.tolist() == [1.0]
    assert read_netcdf(path)["loss"].values.tolist() == [2.0, 2.0]


def test_a_failing_save_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(example([0], ["a"]), tmp_path / "run.nc")
    old = path.read_bytes()

    def half(self: xr.Dataset, target: Path, **_: Any) -> None:
        Path(target).write_bytes(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", half)
    with pytest.raises(OSError, match="No space"):
        save(example([0, 1], ["a"]), path)
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == ["run.nc"]


# -- records ---------------------------------------------------------------------------------------------------------


def test_records_grow_and_come_back_sorted() -> None:
    records = Records()
    records.declare(Variable("v"))
    steps = [*range(100, 0, -1)]
    for step in steps:
        records.put(step, {"v": np.array(10.0 * step)})
    dataset = records.dataset({}, "{}")
    assert dataset["step"].values.tolist() == sorted(steps)
    assert dataset["v"].values.tolist() == [10.0 * step for step in sorted(steps)]


def test_a_repeated_step_replaces_the_whole_and_an_annotation_adds_to_it() -> None:
    records = Records()
    for name in ("a", "b"):
        records.declare(Variable(name))
    records.put(3, {"a": np.array(1.0), "b": np.array(2.0)})
    records.annotate(3, {"b": np.array(5.0)})
    dataset = records.dataset({}, "{}")
    assert dataset.sizes["step"] == 1
    assert (dataset["a"].item(), dataset["b"].item()) == (1, 5)
    records.put(3, {"b": np.array(7.0)})
    dataset = records.dataset({}, "{}")
    assert dataset.sizes["step"] == 1
    assert np.isnan(dataset["a"].item())
    assert dataset["b"].item() == 7


def test_what_was_recorded_after_a_step_can_be_dropped() -> None:
    records = Records()
    records.declare(Variable("a"))
    for step in range(40):
        records.put(step, {"a": np.array(1.0)})
    records.cut(4)
    records.put(6, {"a": np.array(100.0)})
    dataset = records.dataset({}, "{}")
    assert dataset["step"].values.tolist() == [0, 1, 2, 3, 4, 6]
    assert dataset["a"].values.tolist() == [1, 1, 1, 1, 1, 100]


@pytest.mark.parametrize("n", [1, 40])
def test_a_variable_that_comes_late_is_not_measured_before(n: int) -> None:
    records = Records()
    records.declare(Variable("early"))
    for step in range(n):
        records.put(step, {"early": np.array(1.0)})
    records.declare(Variable("late"))
    records.declare(Variable("flag", flag=True))
    records.put(n, {"late": np.array(2.0), "flag": np.array(1)})
    dataset = records.dataset({}, "{}")
    assert np.isnan(dataset["late"][:-1]).all()
    assert np.isnan(dataset["early"][-1])
    assert dataset["flag"].values.tolist() == [-1] * n + [1]


def test_a_variable_that_is_declared_again_keeps_its_values() -> None:
    records = Records()
    for step in range(2):
        records.declare(Variable("v"))
        records.put(step, {"v": np.array(1.0)})
    assert records.dataset({}, "{}")["v"].values.tolist() == [1, 1]


def test_variables_with_other_layers_share_a_dimension_in_the_order_of_the_trace() -> None:
    records = Records()
    records.declare(Variable("a", ("layer",), {"layer": ["z.10", "z.2"]}))
    records.declare(Variable("flag", ("layer",), {"layer": ["z.5"]}, flag=True))
    records.put(0, {"a": np.array([10.0, 2.0]), "flag": np.array([1])})
    dataset = records.dataset({"layer": ["z.2", "z.5", "z.10"]}, "{}").isel(step=0)
    assert dataset["layer"].values.tolist() == ["z.2", "z.5", "z.10"]
    np.testing.assert_array_equal(dataset["a"], [2, np.nan, 10])
    assert dataset["flag"].dtype == np.int8
    assert dataset["flag"].values.tolist() == [-1, 1, -1]


def test_a_name_that_no_file_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a name without a slash.*got 'train/loss'"):
        Variable("train/loss")


def test_provenance_names_no_host_and_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    import getpass
    import socket

    provenance = provenance_json([{"estimator": "Some"}], device="cpu")
    entry = json.loads(provenance)
    assert entry["versions"]["numpy"] == np.__version__
    assert entry["estimators"] == [{"estimator": "Some"}]
    for secret in (socket.gethostname(), str(Path.cwd()), str(Path.home()) + "/"):
        assert secret not in provenance
    assert f'"{getpass.getuser()}"' not in provenance


def test_provenance_outside_a_repository_has_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert json.loads(provenance_json([]))["git"] is None


@pytest.mark.parametrize("name", ["step", "layer", "split", "run", "mine"])
def test_a_variable_with_the_name_of_a_dimension_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="Expected another name for a variable than that of a dimension"):
        Variable(name, ("mine",), {"mine": [0]})


# -- what NetCDF holds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", "double", "bool", "a'b", "a\nb", "a\x1bb", "loss ", "e\u0301", "\ud800", " a", "#", "é", "損失"]
)
@pytest.mark.parametrize("place", ["variable", "dimension", "attribute"])
def test_a_name_that_netcdf_refuses_is_an_error_at_the_declaration(name: str, place: str) -> None:
    arguments: dict[str, Any] = {
        "variable": {"name": name},
        "dimension": {"name": "v", "dims": (name,), "coords": {name: [1, 2]}},
        "attribute": {"name": "v", "attrs": {name: 1}},
    }
    with pytest.raises(ValueError, match="Expected a name that NetCDF allows, got"):
        Variable(**arguments[place])


@pytest.mark.parametrize("name", ["a b", "a.b-c@d", "_v", "0", "Double", "a$b", "a[x]", "a:gelu->", "a\\b", 'a"b'])
def test_other_names_survive_the_file(name: str, tmp_path: Path) -> None:
    Variable(name)
    assert name in read_netcdf(save(xr.Dataset({name: ("step", [1.0])}, {"step": [0]}), tmp_path / "a.nc"))


@pytest.mark.parametrize(
    "labels", [["a", 1], [None, "a"], ["a", "a"], [1, 1.0], [("a",), ("b",)], ["a\0", "b"], ["\ud800"], [True, False]]
)
def test_labels_that_netcdf_would_change_are_an_error(labels: list[Any]) -> None:
    with pytest.raises(ValueError, match="different labels of 'place' that are all text or all numbers"):
        Variable("v", ("place",), {"place": labels})


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, "null"), (True, "true"), ({"a": [1]}, '{"a": [1]}'), (["a", "b"], '["a", "b"]'), ([[1, 2]], "[[1, 2]]"),
        (2**40, "1099511627776"), ([], "[]"), (np.float64(0.5), 0.5), (3, 3), ([1, 2], [1, 2]), ("text", "text"),
        (np.array([2**40]), "[1099511627776]"), (1j, '"1j"'), ("a\0b", '"a\\u0000b"'), (np.bool_(True), "true"),
    ],
)  # fmt: skip
def test_attributes_are_stored_in_a_form_that_netcdf_holds(value: Any, stored: Any, tmp_path: Path) -> None:
    assert Variable("v", attrs={"a": value}).attrs["a"] == stored
    series = xr.Dataset({"v": ("step", [1.0], {"a": value})}, {"step": ("step", [0], {"a": value})}, {"a": value})
    found = read_netcdf(save(series, tmp_path / "a.nc"))
    for one in (found, found["v"], found["step"]):
        assert np.array_equal(one.attrs["a"], stored)


@pytest.mark.parametrize(
    "name", ["scale_factor", "add_offset", "_FillValue", "missing_value", "calendar", "coordinates", "_Encoding"]
)
def test_attributes_that_would_change_numbers_are_errors(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"got {name}=2.0, which xarray reads as an instruction"):
        Variable("v", attrs={name: 2.0})
    with pytest.raises(ValueError, match="which xarray reads as an instruction"):
        save(xr.Dataset({"v": ("step", [1.0], {name: 2.0})}, {"step": [0]}), tmp_path / "a.nc")


@pytest.mark.parametrize("units", ["seconds", "days", "hours", "minutes", "milliseconds", "s", "nats", "microseconds"])
def test_units_of_time_stay_numbers_for_every_reader(units: str, tmp_path: Path) -> None:
    values = {"v": ("step", [1.5, 2.5], {"units": units})}
    path = save(xr.Dataset(values, {"step": ("step", [0, 10], {"units": units})}), tmp_path / "a.nc")
    for found in (read_netcdf(path), xr.open_dataset(path, engine="scipy").load()):
        assert found["v"].values.tolist() == [1.5, 2.5]
        assert found["step"].values.tolist() == [0, 10]
    assert Variable("v", units=units).units == found["v"].attrs["units"]
    with pytest.raises(ValueError, match="which xarray reads as"):
        Variable("v", units=f"{units} since 2000-01-01")


def test_times_in_a_file_of_another_program_stay_numbers(tmp_path: Path) -> None:
    values = {"v": ("step", [1.5], {"units": "days"}), "w": ("step", [3.0], {"units": "hours since 2000-01-01"})}
    xr.Dataset(values, {"step": [0]}).to_netcdf(tmp_path / "a.nc", engine="scipy")
    found = read_netcdf(tmp_path / "a.nc")
    assert (found["v"].item(), found["w"].item()) == (1.5, 3.0)


def test_packing_of_the_file_from_which_a_series_came_is_not_repeated(tmp_path: Path) -> None:
    series = xr.Dataset({"v": ("step", [1 / 3, 1.0])}, {"step": [0, 1]})
    series["v"].encoding = {"dtype": "int16", "scale_factor": 0.1}
    assert read_netcdf(save(series, tmp_path / "a.nc"))["v"].values.tolist() == [1 / 3, 1.0]


@pytest.mark.parametrize("bit", range(8))
def test_one_flipped_bit_of_a_number_is_an_error(bit: int, tmp_path: Path) -> None:
    path = save(xr.Dataset({"v": ("step", [1 / 3, 1.0])}, {"step": [0, 1]}), tmp_path / "a.nc")
    data = bytearray(path.read_bytes())
    data[data.index(np.array(1 / 3, ">f8").tobytes()) + 5] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"Expected the content that was written to .*a\.nc, got another one by its dig"
    ):
        read_netcdf(path)
    path.write_bytes(data[:-47] + bytes(47))
    with pytest.raises(ValueError, match=r"Expected a digest at the end of .*a\.nc, got another end"):
        read_netcdf(path)


def test_another_program_may_write_the_file_again(tmp_path: Path) -> None:
    path = save(xr.Dataset({"v": ("step", [1.0])}, {"step": [0]}), tmp_path / "a.nc")
    with xr.open_dataset(path, engine="scipy") as found:
        (found + 1).assign_attrs(found.attrs).to_netcdf(tmp_path / "b.nc", engine="scipy")
    assert read_netcdf(tmp_path / "b.nc")["v"].item() == 2


def test_files_that_are_no_netcdf_3_are_errors_with_advice(tmp_path: Path) -> None:
    for content, message in ((b"\x89HDF\r\n\x1a\n", "of NetCDF 4"), (b"", "damaged"), (b"CDF\x02", "damaged")):
        (tmp_path / "a.nc").write_bytes(content)
        with pytest.raises(ValueError, match=f"Expected a file of NetCDF 3 at .*a.nc, got another file .*{message}"):
            read_netcdf(tmp_path / "a.nc")
