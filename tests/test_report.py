"""The report page without a browser: what is on it, what is escaped, how large it is, and what bad input gives."""

import json
import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("bokeh", reason="bokeh is not installed: pip install -e .[report]")

from probe import PhaseDetector, concat, save
from probe.__main__ import main
from probe.cli import watching
from probe.errors import ProbeWarning
from probe.plots.style import CYCLE
from probe.report import write_report
from probe.report.curves import columns
from probe.report.scale import Scale
from probe.report.writing import page

LOGS = Path(__file__).parent / "logs"
Captured = pytest.CaptureFixture[str]
SCRIPT = "<script>alert(1)</script>"
STEPS = np.unique(np.geomspace(1, 5000, 60).astype(int)) - 1


def series(seed: int = 0, layers: tuple[str, ...] = ("blocks.0", "blocks.1"), tag: str = "zeta") -> xr.Dataset:
    """Curves that grok: fitting ends near step 50, and generalisation is complete near 3,000."""
    x, rng = np.log10(STEPS + 1.0), np.random.default_rng(seed)
    share = {"train": 1 / (1 + np.exp(-8 * (x - 1.4))), "test": 1 / (1 + np.exp(-14 * (x - 3.2)))}
    loss = {"train": 4 * (1 - share["train"]) + 1e-3, "test": 4 + 2 * np.exp(-8 * (x - 2.8) ** 2) - 4 * share["test"]}
    values = {f"{split}_accuracy": ("step", share[split]) for split in share}
    values |= {f"{split}_loss": ("step", loss[split] + 0.01 * rng.random(len(x))) for split in share}
    depth = rng.random((len(x), 2, len(layers))) + x[:, None, None]
    values |= {f"information_{axis}": (("step", "split", "layer"), depth + 1) for axis in "xy"}
    values |= {"information_y_ceiling": (("step", "split", "layer"), 0 * depth + 5), tag: ("step", 2 * x)}
    return xr.Dataset(values, {"step": STEPS, "split": ["train", "test"], "layer": list(layers)})


@pytest.fixture(scope="module")
def runs() -> xr.Dataset:
    return concat([series(seed) for seed in range(3)], ["seed 0", "seed 1", "seed 2"])


def data_of(html: str) -> dict[str, Any]:
    return json.loads(re.findall(r'id="probe-data">(.*?)</script>', html, re.S)[0])


def steps_of(data: dict[str, Any], place: int) -> list[float]:
    found = data["xs"][place]
    if isinstance(found, str):
        return np.frombuffer(b64decode(found), "<f8").tolist()
    first, distance, number = found
    return [first + i * distance for i in range(number)]


def values(text: str) -> np.ndarray:
    return np.frombuffer(b64decode(text), "<f4")


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._inside = "", ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        self.text += "" if self._inside in ("script", "style") else data


def test_a_page_has_the_verdict_and_all_curves(runs: xr.Dataset, tmp_path: Path) -> None:
    """The verdict and the tables are text. The curves are those of the series, and nothing is requested."""
    detector = PhaseDetector().fit(runs)
    written = write_report(runs, tmp_path / "report.html", detector=detector, title="three seeds")
    assert written.stat().st_size < 2e6
    html = written.read_text(encoding="utf-8")
    elements = Elements(html)
    for line in detector.summary().split("\n\n")[0].splitlines():
        assert line.removeprefix("- ") in elements.text
    for word in ("three seeds", "seed 2", "fit end", "descent onset", "zeta"):
        assert word in elements.text
    assert {tag for tag, attrs in elements.found if "src" in attrs} == set()
    assert {attrs.get("href") for _, attrs in elements.found if "href" in attrs} == {"#tables", "data:,"}
    policy = next(attrs["content"] for tag, attrs in elements.found if tag == "meta" and "http-equiv" in attrs)
    assert policy
    assert policy.startswith("default-src 'none'")
    assert "connect-src" not in policy
    assert "http" not in policy

    data = data_of(html)
    names = ["train_accuracy", "test_accuracy", "train_loss", "test_loss", "information_x", "information_y"]
    assert [one["title"] for one in data["variables"]] == [*names, "zeta", "information_y_ceiling"]
    assert data["chosen"] == [0, 1, 2]
    assert len(data["curves"]) == 4 * (5 + 3 * 4)  # three runs and their median, over splits and layers
    (one,) = (c for c in data["curves"] if (c["v"], c["r"], c["l"], c["s"]) == (4, 1, 1, "test"))
    expected = runs["information_x"].sel(run="seed 1", layer="blocks.1", split="test")
    assert values(one["y"]) == pytest.approx(expected.values)
    assert steps_of(data, one["x"]) == STEPS.tolist()
    (middle,) = (c for c in data["curves"] if (c["v"], c["r"]) == (3, -1))
    assert values(middle["y"]) == pytest.approx(np.median(runs["test_loss"], axis=0), rel=1e-6)
    found = detector.markers_.isel(run=1)
    expected_steps = sorted(found["step"].values[found["status"].values == "found"].tolist())
    assert [one["step"] for one in data["markers"]["1"]] == expected_steps
    assert data["plane"] == {"x": 4, "y": 5, "ceiling": 5.0, "split": "train"}


def test_the_first_measure_is_not_the_cost(tmp_path: Path) -> None:
    """A recording begins with the time of each observation, and has a ceiling for each information."""
    one = series().drop_vars("zeta")
    cost = xr.Dataset({"seconds": ("step", np.ones(len(STEPS)))}, {"step": STEPS})
    write_report(cost.merge(one), tmp_path / "report.html")
    data = data_of((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert data["variables"][data["start"]["measure"]]["title"] == "information_y"


def test_names_with_markup_stay_text(tmp_path: Path) -> None:
    """As label of a run and a layer, as tag, unit, note, title and file name."""
    runs = concat([series(seed, (SCRIPT, "$$x$$"), f"{SCRIPT}"[:8] + "b>") for seed in range(2)], [SCRIPT, "</script>"])
    runs["train_loss"].attrs = {"long_name": SCRIPT, "units": SCRIPT}
    runs.attrs |= {"reading": SCRIPT, "provenance": json.dumps([SCRIPT, "</pre><script>"])}
    html = page(runs, PhaseDetector().fit(runs), title=SCRIPT, source=SCRIPT)
    assert "alert(1)" in html
    assert SCRIPT not in html
    tags = [tag for tag, _ in Elements(html).found]
    plain = page(series(), None, "none", title="plain", source="plain")
    assert tags.count("script") == [tag for tag, _ in Elements(plain).found].count("script") == 4
    assert SCRIPT in data_of(html)["layers"]
    figures = re.findall(r"const docs_json = '(.*?)';\n", html, re.S)[0]
    assert "alert" not in figures  # no text of the user is drawn by Bokeh, where dollars begin a formula
    assert "$$" not in figures


@pytest.mark.parametrize("log", [True, False])
def test_reduced_curves_keep_what_a_pixel_shows(log: bool) -> None:
    steps = np.arange(100_000.0)
    curve = np.random.default_rng(0).normal(size=len(steps))
    x = Scale(steps, log=log).position(steps)
    kept = columns(x, curve)
    assert len(kept) <= 2002
    assert {0, len(steps) - 1, int(curve.argmin()), int(curve.argmax())} <= {*kept.tolist()}
    pixel = np.minimum((x - x[0]) / (x[-1] - x[0]) * 1000, 999).astype(int)
    for reduce in (np.minimum, np.maximum):
        whole, less = np.full(1000, np.nan), np.full(1000, np.nan)
        with np.errstate(invalid="ignore"):
            for out, at in ((whole, slice(None)), (less, kept)):
                out[np.unique(pixel[at])] = reduce.reduceat(curve[at], np.unique(pixel[at], return_index=True)[1])
        assert np.array_equal(whole, less, equal_nan=True)


@pytest.mark.parametrize("first", [1, 3.5, 1e-3])
def test_positions_of_steps(first: float) -> None:
    """Logarithmic from the first positive step on, and linear below it, over half a factor of ten."""
    scale = Scale(np.array([0, first, 10 * first, 1e4 * first]), log=True)
    assert scale.zero
    assert np.diff(scale.position([first, 10 * first, 1e4 * first])) == pytest.approx([1, 3])
    assert np.diff(scale.position([0, first / 2, first])) == pytest.approx([0.25, 0.25])
    edges = scale.edges(np.array([first, 10 * first, 1e4 * first]))
    assert edges == pytest.approx([first, first * 10**0.5, first * 10**2.5, 1e4 * first])
    assert not Scale(np.array([first, 10 * first]), log=True).zero
    assert Scale(np.array([0.0]), log=True).position(0) == 0  # step 0 alone
    assert Scale(np.arange(5), log=False).position([0, 3]).tolist() == [0, 3]


def test_whole_curves_where_they_fit() -> None:
    """A long curve is on the page with all observations if there is room, else reduced, which the page states."""
    steps = np.arange(50_000)
    curves = {name: ("step", np.sin(steps / 900)) for name in ("train_loss", "test_loss")}
    long = xr.Dataset(curves, {"step": steps})
    html = page(long, None, "none", title="", source="", max_mb=5)
    data = data_of(html)
    assert [len(values(one["y"])) for one in data["curves"]] == [50_000, 50_000]
    assert data["xs"] == [[0.0, 1.0, 50_000]]  # first step, distance, number
    assert not any("n" in one for one in data["curves"])
    most = len(html.encode()) / 1e6
    data = data_of(page(long, None, "none", title="", source="", max_mb=most - 0.1))
    assert [(len(values(one["y"])) <= 2002, one.get("n")) for one in data["curves"]] == [(False, None), (True, 50_000)]
    small = page(long, None, "none", title="", source="", max_mb=most - 0.4)
    assert [one["n"] for one in data_of(small)["curves"]] == [50_000, 50_000]
    assert "2 long curves are reduced to the least and the largest value" in Elements(small).text


def test_a_small_budget_is_kept_and_stated(runs: xr.Dataset, tmp_path: Path) -> None:
    many = runs.isel(run=[0, 1, 2] * 14).assign_coords(run=np.arange(42))
    most = len(page(many, None, "none", title="", source="", max_mb=5).encode()) / 1e6 - 0.15
    html = page(many, None, "none", title="", source="", max_mb=most)
    assert 1e6 * most - 1e5 < len(html.encode()) <= 1e6 * most
    data = data_of(html)
    assert {c["v"] for c in data["curves"] if c["r"] == -1} >= {*range(6)}  # what is drawn at first
    assert 0 < len(data["chosen"]) < 42
    assert f"{len(data['chosen'])} of 42 runs can be chosen" in Elements(html).text
    with pytest.raises(ValueError, match=r"Expected a page above 1\.\d MB, got 1 as its largest size"):
        page(many, None, "none", title="", source="", max_mb=1)
    with pytest.raises(ValueError, match="Expected a size of a page above 0 and at most 5 MB, got 6"):
        write_report(runs, tmp_path / "report.html", max_mb=6)


@pytest.mark.parametrize(
    ("curve", "steps", "words"),
    [
        ([1.0], [5], "Expected at least 4 observations, got 1"),
        ([], [], "There is no curve to draw."),
        ([np.nan] * 30, list(range(30)), "train_loss has no finite value."),
    ],
    ids=["one", "none", "NaN"],
)
@pytest.mark.filterwarnings("ignore::probe.ProbeWarning")
def test_series_without_a_verdict(curve: list[float], steps: list[int], words: str, tmp_path: Path) -> None:
    one = xr.Dataset({"train_loss": ("step", np.array(curve))}, {"step": np.array(steps, int)})
    text = Elements(write_report(one, tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert words in text


def not_finite(one: xr.Dataset) -> xr.Dataset:
    return one.map(lambda array: array * np.nan)


RTL = ("שלום עולם", "\U0001f642 é")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (concat([series(0), not_finite(series(1)), series(2)], ["a", "b", "c"]), ["2 of 3 runs (runs a, c)"]),
        (concat([series(0), series(1)], ["a", "b"]).assign_coords(run=["a", "a"]), ["a (2)", "2 of 2 runs"]),
        (series(0, ("x" * 300, "x" * 299 + "y")), ["x" * 300, "x" * 299 + "y"]),
        (concat([series(0, RTL), series(1, RTL)], ["\U0001f642", "\u202eabc"]), [*RTL, "\U0001f642", "\\u202eabc"]),
        (series().assign(test_loss=lambda one: one["test_loss"].where(one.step > 9, np.inf)), ["Delayed general"]),
        (series().assign_coords(step=np.arange(52) * 2**57), ["step 0 to 7.35e+18", "Delayed generalisation"]),
        (series().drop_vars(["train_accuracy", "train_loss"]), ["no train curve is recorded"]),
        (series().assign_coords(step=STEPS - 9), ["got 8 negative"]),
        (series().isel(step=[7]), ["1 observation, step 7.", "Expected at least 4 observations, got 1"]),
        (series().isel(step=[]), ["0 observations.", "There is no curve to draw."]),
    ],
    ids=["NaN run", "labels", "long", "RTL", "infinite", "2^57", "no train", "negative", "one", "none"],
)
@pytest.mark.filterwarnings("ignore::probe.ProbeWarning")
def test_unusual_series(source: xr.Dataset, words: list[str], tmp_path: Path) -> None:
    html = source.probe.report(tmp_path / "report.html").read_text(encoding="utf-8")
    text = Elements(html).text
    assert [word for word in words if word not in text] == []
    data_of(html)


@pytest.mark.parametrize(
    ("source", "output", "error", "words"),
    [
        (xr.Dataset({"a": ("x", [1.0])}), "report.html", ValueError, "Expected a dimension and a coordinate 'step'"),
        (series().assign_coords(step=2.0**53 + np.arange(52)), "report.html", ValueError, "increasing and unique"),
        (xr.Dataset({"a": ("step", ["b"])}, {"step": [0]}), "report.html", ValueError, "Expected numbers in variable"),
        (3, "report.html", TypeError, "Expected a series .xarray.Dataset., a path or a list of paths, got int"),
        (series()["test_loss"], "report.html", TypeError, "got DataArray"),
        ([], "report.html", ValueError, "Expected at least one path, got none"),
        (series(), "none/report.html", FileNotFoundError, "Expected an existing folder"),
        (series(), "file/report.html", FileNotFoundError, "Expected an existing folder"),
        (series(), ".", IsADirectoryError, "Expected a file as output, got the folder"),
        (series(), "x" * 300, OSError, "Expected a file name of at most"),
        (series(), "file", FileExistsError, "Expected a new file"),
    ],
)
def test_bad_input(source: Any, output: str, error: type[Exception], words: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(error, match=words):
        write_report(source, tmp_path / output)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_unwritable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the system is the reader's, and no part of a page stays. (A super-user can write everywhere.)"""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(PermissionError, match="Permission denied"):
        write_report(series(), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_top_of_the_page(runs: xr.Dataset, tmp_path: Path) -> None:
    """Who wrote the page, when, from what, and what is known of the recording."""
    facts = {"created": "2026-01-02T03:04:05", "model": "Net", "device": "cpu", "versions": {"torch": "2.13.0"}}
    source = runs.assign_attrs(provenance=json.dumps([json.dumps(facts), json.dumps(facts | {"model": "Tea"}), ""]))
    text = Elements(write_report(source, tmp_path / "report.html", title="x").read_text(encoding="utf-8")).text
    assert re.search(r"Written by probe .* at 2\d{3}-\d\d-\d\d \d\d:\d\d from series: 3 runs, 52 observations", text)
    assert "Recorded at 2026-01-02 03:04, of the model Net, Tea, with torch 2.13.0, on cpu." in text
    for bad in ("{", "[1, 2]", '{"versions": 3}', "null", "[]"):
        html = page(runs.assign_attrs(provenance=bad), None, "none", title="", source="")
        assert "Recorded" not in Elements(html).text


@pytest.mark.slow
def test_a_folder_of_1000_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    for run in range(1000):
        rows = [f"{s},{min(1, s / 9)},{min(1, max(0, s - 30) / 9)},{np.exp(-s / (9 + run))}\n" for s in range(60)]
        (tmp_path / "runs" / f"{run}").mkdir(parents=True)
        (tmp_path / "runs" / f"{run}" / "log.csv").write_text("step,train_accuracy,val_accuracy,loss\n" + "".join(rows))
    assert main(["report", "runs"]) == 0
    written = tmp_path / capsys.readouterr().out.split()[1]
    assert written.stat().st_size <= 2e6
    text = Elements(written.read_text(encoding="utf-8")).text
    assert "1,000 runs" in text
    assert "The tables show 100 of 1,000 runs" in text


def test_command(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that probe has not recorded, several recordings as runs, a damaged one among them, and bad input."""
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(LOGS / "tensorboard" / "plain"), "-o", "log.html"]) == 0
    assert capsys.readouterr().out == "written: log.html\n"
    log = Elements((tmp_path / "log.html").read_text(encoding="utf-8")).text
    assert "Delayed generalisation (grokking)" in log
    assert "'Acc/train'" in log
    assert main(["report", str(LOGS / "tensorboard" / "plain"), "-o", "log.html"]) == 2
    assert "log.html, which exists already" in capsys.readouterr().err

    found = [f"{SCRIPT.replace('/', '-')}.nc", "seed-1.nc"]
    for seed, name in enumerate(found):
        save(series(seed), tmp_path / name)
    (tmp_path / "damaged.nc").write_bytes((tmp_path / "seed-1.nc").read_bytes()[:1000])
    (tmp_path / "empty.csv").touch()
    (tmp_path / "foreign.pdf").write_bytes(b"%PDF-1.7\n\xff\xfe")
    assert main(["report", *found, "damaged.nc", "-o", "runs.html", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"written": "runs.html", "bytes": (tmp_path / "runs.html").stat().st_size}
    assert "damaged.nc could not be read and was left out" in err
    html = (tmp_path / "runs.html").read_text(encoding="utf-8")
    assert data_of(html)["runs"][1] == "seed-1.nc"
    assert "damaged.nc could not be read" in Elements(html).text
    assert "<script>alert(1)<" not in html
    assert "&lt;script&gt;alert(1)" in html
    capsys.readouterr()
    for bad in ("damaged.nc", "empty.csv", "foreign.pdf", "none.csv"):
        assert main(["report", bad, "-o", "bad.html"]) == 2
        assert "Expected " in capsys.readouterr().err
        assert not (tmp_path / "bad.html").exists()
    for options, words in ((["-o", "x.pdf"], "ends with .html"), (["--max-mb", "9"], "at most 5 MB")):
        assert main(["report", "seed-1.nc", *options]) == 2
        assert words in capsys.readouterr().err


def test_without_bokeh(monkeypatch: pytest.MonkeyPatch, capsys: Captured, tmp_path: Path) -> None:
    monkeypatch.setattr("probe.report.charts.find_spec", lambda _: None)
    assert main(["report", str(LOGS / "keras"), "-o", str(tmp_path / "x.html")]) == 2
    assert "Expected the package bokeh for a report, got none; pip install 'bokeh>=3.4'" in capsys.readouterr().err


def test_watch_renews_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """The page exists after the first look, holds new steps after the second, and is written for changes alone."""
    monkeypatch.chdir(tmp_path)
    log, seen = tmp_path / "log.csv", []
    rows = [f"{step},{min(1, step / 10)},{min(1, max(0, step - 30) / 10)}\n" for step in range(60)]
    log.write_text("step,train_accuracy,val_accuracy\n" + "".join(rows[:20]))

    def wait(_: float) -> bool:
        html = (tmp_path / "report.html").read_text(encoding="utf-8")
        data = data_of(html)
        seen.append((steps_of(data, 0)[-1], (tmp_path / "report.html").stat().st_ino))
        assert data["reload"] == 10
        assert 'id="reload"' in html
        with log.open("a") as file:
            file.writelines(rows[20:] if len(seen) == 2 else [])
        return len(seen) < 3

    monkeypatch.setattr(watching, "wait", wait)
    assert main(["report", "log.csv", "--watch"]) == 0
    assert [step for step, _ in seen] == [19, 19, 59]
    assert seen[0][1] == seen[1][1] != seen[2][1]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(", ", 2)[2] for line in lines] == ["step 19, 20 observations", "step 59, 60 observations"]


def test_watch_of_a_log_that_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """The page stays while its log is gone, half of a row is no error, and the page follows the log that is back."""
    monkeypatch.chdir(tmp_path)
    log, steps = tmp_path / "log.csv", list[float]()
    rows = [f"{step},{min(1, step / 10)},{min(1, max(0, step - 30) / 10)}\n" for step in range(60)]
    head = "step,train_accuracy,val_accuracy\n"
    log.write_text(head + "".join(rows[:20]))
    changes = [
        lambda: log.unlink(),
        lambda: None,  # still gone: now the error is printed
        lambda: log.write_text(head + "".join(rows[:40]) + rows[40][:4]),
        lambda: log.write_text(head + "".join(rows)),
    ]

    def wait(_: float) -> bool:
        data = data_of((tmp_path / "report.html").read_text(encoding="utf-8"))
        steps.append(max(steps_of(data, place)[-1] for place in range(len(data["xs"]))))
        if len(steps) <= len(changes):
            changes[len(steps) - 1]()
        return len(steps) <= len(changes)

    monkeypatch.setattr(watching, "wait", wait)
    assert main(["report", "log.csv", "--watch"]) == 0
    assert steps[:3] == [19, 19, 19]
    assert steps[3] in (39, 40)
    assert steps[4] == 59
    assert "log.csv" in capsys.readouterr().err


def test_one_infinite_limit_of_the_plane_is_left_out(tmp_path: Path) -> None:
    one = series()
    one["information_y_ceiling"][3, 0, 0] = np.inf
    assert data_of(one.probe.report(tmp_path / "report.html").read_text("utf-8"))["plane"]["ceiling"] == 5


def test_the_page_gives_its_reader_no_advice_to_the_author(tmp_path: Path) -> None:
    one = series().drop_vars(["information_x", "test_accuracy"]).rename(test_loss="val_nll")
    detector = PhaseDetector(information="zeta", test_loss="val_nll").fit(one)
    assert "pass test_accuracy=" in detector.summary()
    text = Elements(write_report(one, tmp_path / "a.html", detector=detector).read_text("utf-8")).text
    assert "not recorded: test accuracy" in text
    assert " pass " not in text
    with pytest.warns(ProbeWarning, match="observe more often"):
        written = write_report(one.isel(step=[0, 1]), tmp_path / "b.html")
    assert "Expected at least 4 observations, got 2</p>" in written.read_text("utf-8")


def test_other_curves_have_the_colours_of_figures(tmp_path: Path) -> None:
    one = series().assign({f"m{i}": ("step", np.ones(len(STEPS))) for i in range(9)})
    data = data_of(one.probe.report(tmp_path / "report.html").read_text("utf-8"))
    assert {colour for v in data["variables"] for colour in v["colours"].values()} <= {*CYCLE}


def test_the_table_of_markers_has_the_axis_of_the_log(tmp_path: Path) -> None:
    epochs = np.arange(100)
    (tmp_path / "log.csv").write_text("Epoch,train_acc\n" + "".join(f"{one},{min(1, one / 40)}\n" for one in epochs))
    detector = PhaseDetector().fit(tmp_path / "log.csv")
    write_report(detector.curves_, tmp_path / "log.html", detector=detector)
    page = (tmp_path / "log.html").read_text()
    assert '<th scope="col">marker</th><th scope="col" class="n">epoch</th>' in page
