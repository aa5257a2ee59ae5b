"""Claims on chaos and cone, on planted recordings with known verdicts."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot as plt

from probe import save
from reference.claims import CONFIRMED, NOT_CONFIRMED, UNDECIDED, Claim, as_markdown, as_text, judge
from reference.claims.chaos_cone import PAPER, Evidence, Recording
from reference.claims.chaos_cone.transitions import fall, first_drop, rise

mpl.use("Agg")
SEEDS, LAST, DROP = 5, 1000, 500
STEPS = np.unique([*np.round(np.logspace(0, 2.4, 13)).astype(int), 0, *range(25, LAST + 1, 25)])
T0 = np.array([0, 5, 10, 20, 50, 100, 300, 700])
T1 = np.array([10, 30, 60, 100, 200, 300, 500, 700, 1000])
SIGNS = {"+": CONFIRMED, "-": NOT_CONFIRMED, "?": UNDECIDED}


def recording(
    *,
    response: np.ndarray,  # (t0,), 1 at the start
    barrier: float = 1.5,
    settles: float = 1.0,  # last disagreement over the largest one
    least: float = 0.0,  # of the disagreement over that of the first t0
    peak: np.ndarray | None = None,  # t1 (t0,) of the largest angle
    growth: np.ndarray | None = None,  # (step,)
    quadratic: float = 0.95,
    kinks: float = 0.0,
    kernels: np.ndarray | None = None,  # (run, step, number)
    norm: np.ndarray | float = 10.0,
    linear: np.ndarray | None = None,  # (t0,)
    fit: int = 20,
    noise_step: int = 20,
    drop: int = DROP,
) -> xr.Dataset:
    """Return a recording of a planted response, growth and kernel."""
    source = np.random.default_rng(0)

    def jittered(values: np.ndarray) -> np.ndarray:
        return values * (1 + 0.02 * source.standard_normal((SEEDS, *np.shape(values))))

    window = np.maximum(T1[None] - T0[:, None], 0)
    valid = np.where(T1[None] >= T0[:, None], 1.0, np.nan)
    rising = 1 - np.exp(-window / 100)
    line = jittered(barrier * response[:, None] * rising * valid)
    hump = np.exp(-((np.log10(T1 / 60) / 0.2) ** 2))
    answers = jittered(0.1 * np.maximum(response, least)[:, None] * (settles + (1 - settles) * hump) * valid)
    bell = window / LAST if peak is None else 0.1 + np.exp(-((np.log10(T1 / peak[:, None]) / 0.2) ** 2))
    grown = np.full(len(STEPS), -1.0) if growth is None else growth
    accuracies = np.full(len(T0), 0.6) if linear is None else linear
    places = np.ones((SEEDS, len(STEPS), 3)) if kernels is None else kernels
    batches = places[:, :, None] + 1e-3 * source.standard_normal((*places.shape[:2], 2, places.shape[2]))
    batches /= np.linalg.norm(batches, axis=-1, keepdims=True)
    distance = 1 - np.einsum("rsbk,rtbk->rsbt", batches, batches)
    runs = ("run", "step")
    data = {
        "train_accuracy": (runs, np.tile((fit <= STEPS) * 1.0, (SEEDS, 1))),
        "test_accuracy": (runs, np.full((SEEDS, len(STEPS)), 0.97)),
        "learning_rate": (runs, np.tile(np.where(drop <= STEPS, 0.01, 0.1), (SEEDS, 1))),
        "gradient_signal_to_noise": (runs, jittered(1 / (1 + (STEPS / noise_step) ** 4))),
        "chaos_growth": ((*runs, "direction", "size"), jittered(grown)[:, :, None, None] * [np.nan, 1]),
        "chaos_tangent_growth": ((*runs, "direction"), jittered(grown)[:, :, None]),
        "chaos_quadratic_growth": ((*runs, "direction"), quadratic * jittered(grown)[:, :, None]),
        "chaos_kink_limited": ((*runs, "direction"), np.full((SEEDS, len(STEPS), 1), kinks)),
        "tangent_kernel_distance": ((*runs, "split", "batch", "step_ref"), distance[:, :, None]),
        "tangent_kernel_norm": (
            (*runs, "split", "batch"),
            np.broadcast_to(np.reshape(norm, (-1, 1, 1)), (SEEDS, len(STEPS), 1, 2)).copy(),
        ),
        "map_barrier": (("run", "t0", "t1", "barrier"), np.stack([line, 0 * line], 3)),
        "map_disagreement": (("run", "t0", "t1"), answers),
        "map_angle": (("run", "t0", "t1"), jittered(1e-4 * bell * valid)),
        "linearised_accuracy": (
            ("run", "t0"),
            np.tile(accuracies, (SEEDS, 1)),
        ),
    }
    coords = {"run": np.arange(SEEDS), "step": STEPS, "step_ref": STEPS, "t0": T0, "t1": T1, "batch": [0, 1]}
    coords |= {"split": ["train"], "direction": ["gaussian"], "size": [1e-4, 1e-3], "barrier": ["line", "ends"]}
    return xr.Dataset(data, coords, {"window": 10})


def after(step: float, steps: np.ndarray = T0) -> np.ndarray:
    """Return a curve that rises from 0 to 1 at a step."""
    return 1 / (1 + ((steps + 1) / (step + 1)) ** -20.0)


def cone(entry: int) -> np.ndarray:
    """Return places that approach a centre until a step, and then move around it."""
    source, n = np.random.default_rng(1), 60
    places = 0.03 * source.standard_normal((SEEDS, len(STEPS), n))
    places[:, :, 0] = 1
    way = 1 - np.log10(STEPS + 1) / np.log10(entry + 1)
    places[:, :, 1] += np.maximum(way, 0) * 3
    return places


def random_walk(step: float = 0.004) -> np.ndarray:
    """Return places of a random walk with equal variance for each step, around a point that does not move."""
    source = np.random.default_rng(2)
    moves = source.standard_normal((SEEDS, len(STEPS), 200)) * np.sqrt(np.diff(STEPS, prepend=0))[None, :, None]
    places = step * moves.cumsum(1)
    places[:, :, 0] += 1
    return places


def as_in_the_paper(**changes: object) -> xr.Dataset:
    planted = {
        "response": 1 - after(20),
        "settles": 0.4,
        "peak": np.full(len(T0), 60.0),
        "growth": 2 - 4 * after(20, STEPS),
        "kernels": cone(20),
        "linear": 0.5 + 0.45 * after(20),
    }
    return recording(**(planted | changes))


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Return the effects of the paper, their contrary, next to nothing, and effects that do not coincide."""
    slow = np.maximum(1 - np.log10(T0 + 1) / 2.85, 0) ** 0.3
    contrary = recording(
        response=slow,
        least=0.8,
        peak=2.0 * (T0 + 10),
        growth=np.full(len(STEPS), 2.0),
        quadratic=0.2,
        kinks=1.0,
        kernels=random_walk(),
        norm=10.0 + STEPS,
        linear=np.full(len(T0), 0.6),
    )
    nothing = recording(
        response=np.ones(len(T0)), barrier=0.02, linear=np.full(len(T0), 0.95), kernels=random_walk(0.001)
    )
    apart = as_in_the_paper(kernels=cone(100), fit=300, noise_step=2, linear=0.5 + 0.45 * after(300))
    folder = tmp_path_factory.mktemp("recordings")
    for name, one in zip(
        ("vgg", "resnet", "division", "subtraction"), (as_in_the_paper(), contrary, nothing, apart), strict=True
    ):
        save(one, folder / f"chaos-cone-{name}.nc")
    return Evidence(folder)


EXPECTED = {  # verdicts on vgg, resnet, division, subtraction
    "early perturbations lead to another solution": "+ + - +",
    "late perturbations lead to the same solution": "+ - + +",
    "early perturbations change more answers": "+ - - +",
    "the same with equal windows": "+ + - +",
    "a perturbation grows at first": "+ + - +",
    "a perturbation does not grow later": "+ - + +",
    "the transition is early": "+ -? ? +",
    "the transition is sharp": "+ -? ? +",
    "the angle between the parameters has a peak over t1": "+ + - +",
    "the peak lies at one t1 for all t0": "+ - ? +",
    "disagreement is larger at early t1": "+ - - +",
    "the growth does not depend on the size": "+ - + +",
    "learning rate and curvature explain the growth": "+ - ? +",
    "the kernel slows down": "+ - - -",
    "the floor does not depend on the number of steps": "+ - - +",
    "the kernel enters a cone": "+ - - +",
    "the cone is narrow": "+ - + +",
    "distance to later references is flat": "+ - - +",
    "the start lies outside the cone": "+ - - +",
    "a cone over drops of the learning rate": "+ - - +",
    "the kernel's size stays": "+ - + +",
    "the cone is not universal": ". . + -",
    "end of chaos and cone coincide": "+ ? ? -",
    "linearised training improves with t0": "+ - - +",
    "linearised training is as good as the full one": "+ - + +",
    "linearised training improves where chaos ends": "+ ? ? -",
    "end of chaos at the end of fitting": "+ -? ? -",
    "end of chaos at the drop of the learning rate": "- +? ? -",
    "end of chaos at the fall of the gradient's signal to noise": "+ -? ? -",
    "entry into the cone at the end of fitting": "+ ? ? -",
    "entry into the cone at the drop of the learning rate": "- ? ? -",
    "entry into the cone at the fall of the gradient's signal to noise": "+ ? ? -",
}


@pytest.mark.parametrize("claim", PAPER.claims, ids=lambda claim: claim.name)
def test_planted_effects_have_the_expected_verdicts(evidence: Evidence, claim: Claim) -> None:
    found = list(claim.ours(evidence))
    words = [{f.verdict.word for f in found if f.runs.split(",")[0] == name} for name in evidence.names]
    assert words == [{SIGNS[sign] for sign in signs if sign in SIGNS} for signs in EXPECTED[claim.name].split()], found


def test_transitions_of_a_curve() -> None:
    steps = np.array([0, 9, 99, 999])
    found = fall(steps, np.array([1.0, 1.0, 0.0, 0.0]))
    assert found[:4] == ("found", pytest.approx(10**1.5 - 1), 9, 99)
    assert found.width == pytest.approx(0.6)
    assert fall(steps, np.array([1.0, np.nan, 0.5, 0.0])).step == pytest.approx(99)
    assert fall(steps, np.array([0.4, 1.6, 0.0, 0.0])).step == found.step  # the first two values are pooled
    assert fall(steps, np.array([1.0, 0.3, 0.9, 0.0])).lower == 99  # a later rise belongs to the chaotic phase
    assert fall(steps, np.array([1.0, 1.0, 0.9, 0.6])).status == "right_censored"
    assert fall(steps, np.array([0.05, 0.0, 0.0, 0.0]), least=0.1).status == "absent"
    assert fall(steps, np.array([1.0, 0.0, np.nan, np.nan])).status == "undefined"
    assert rise(steps, np.array([0.2, 0.2, 0.8, 0.8])).step == pytest.approx(found.step)
    assert rise(steps, np.full(4, 0.5)).status == "absent"
    assert first_drop(steps, np.array([0.0, 1.0, np.nan, 0.1]))[:4] == ("found", 999, 9, 999)
    assert first_drop(steps, np.array([0.01, 1.0, 0.8, 0.6])).status == "absent"


def test_few_or_missing_observations_are_undecided() -> None:
    one = as_in_the_paper()
    one["tangent_kernel_distance"][:, 5:] = np.nan
    one["map_barrier"][0] = np.nan
    one["chaos_tangent_growth"][:] = np.nan
    broken = Evidence(names=("vgg",))
    broken._ours["vgg"] = Recording("vgg", one)
    names = (
        "early perturbations lead",
        "kernel enters",
        "cone is narrow",
        "is flat",
        "slows down",
        "explain the growth",
    )
    chosen = [claim for claim in PAPER.claims if any(name in claim.name for name in names)]
    assert len(chosen) == len(names)
    for claim in chosen:
        assert UNDECIDED in {finding.verdict.word for finding in claim.ours(broken)}, claim.name


def test_reported_numbers_are_shown_and_not_judged(evidence: Evidence) -> None:
    judgements = judge(PAPER, evidence)
    page, text = as_markdown(judgements), as_text(judgements)
    assert "| reported (third-party summary) | VGG-16 | not judged | 1 to 2 for t0" in page
    assert "published curves" not in page
    assert "the paper's kinds of network" in page.splitlines()[0]
    assert "  . paper VGG-16" in text
    assert text.endswith(". not judged, third-party summary")


def test_tables_of_the_page(evidence: Evidence) -> None:
    found = PAPER.tables["recordings"](evidence).splitlines()
    assert found[2].startswith("| `vgg` | 5 | 1,000 | 500 | 0, 5, 10, 20, 50, 100, 300, 700 | 1.000 | 0.970 |")
    rows = {
        row.split(" | ")[0].strip("| "): row.split(" | ")[1:]
        for row in PAPER.tables["transitions"](evidence).splitlines()
    }
    assert rows["end of fitting"][0] == "25 in 5"
    assert rows["entry into the cone"][1] == "5 right censored"
    assert rows["end of chaos by barriers"][2] == "5 absent"


def test_missing_recordings_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"chaos-cone-vgg\.nc .* record them: python -m reference chaos-cone vgg"
    ):
        Evidence(tmp_path).all()


@pytest.mark.parametrize("name", PAPER.figures)
def test_figures_are_drawn(evidence: Evidence, name: str) -> None:
    figure = PAPER.figures[name](evidence)
    assert len(figure.axes) >= len(evidence.names)
    plt.close(figure)
