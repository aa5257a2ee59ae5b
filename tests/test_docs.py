"""What the documentation shows, run."""

import importlib
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch

import probe

mpl.use("Agg")
ROOT = Path(__file__).parent.parent


def blocks(page: str) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S))


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    plt.close("all")


def test_adding_a_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page runs check_probe on its measures; and kurtosis has its closed values."""
    (tmp_path / "measures_of_the_page.py").write_text(blocks("docs/adding_a_measure.md"))
    monkeypatch.syspath_prepend(tmp_path)
    page = importlib.import_module("measures_of_the_page")
    x = torch.tensor([[1.0, 0, 7], [-1, 0, 7], [0, 0, 7], [0, 0, 7]])  # kurtosis 0.5 / 0.5^2 = 2 of the first unit
    found = page.KurtosisProbe().fit(torch.nn.Identity(), {"some": (x, None), "none": (x[2:], None)}).series_
    assert found["kurtosis"].values.flatten() == pytest.approx([-1, float("nan")], nan_ok=True)
    assert found["kurtosis_constant_share"].values.flatten() == pytest.approx([2 / 3, 1])
    assert found["kurtosis_undefined"].values.flatten().tolist() == [0, 1]
    moved = page.AblationProbe(layers="0").fit(torch.nn.Sequential(torch.nn.Identity()), (x, None)).series_
    assert moved["ablation"].item() == pytest.approx((2 * 50**0.5 + 2 * 7) / 4)


def test_readme_on_a_model_of_ones_own(away: Path) -> None:
    """The first screen, with the names that it leaves to the reader."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    x = torch.randn(60, 6)
    y = x[:, :3].argmax(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    training = """
for _ in range(60):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(x_train), y_train).backward()
    optimizer.step()
"""
    first = blocks("README.md").split("```")[0].split("probes.attach(\n")[0]
    names = {"torch": torch, "model": model, "optimizer": optimizer}
    names |= {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}
    exec(re.sub(r"^\.\.\..*$", training, first, flags=re.M), names)
    assert names["detector"].markers_["status"].sel(marker="fit_end") != "undefined"
    assert (away / "phases.png").stat().st_size > 10_000
    assert probe.load(away / "run.nc").sizes["step"] > 15


def test_gallery_example_on_logged_curves() -> None:
    runpy.run_path(str(ROOT / "docs/gallery/plot_logged_curves.py"))
    plt.close("all")


def test_information_in_a_loss_is_trained_away() -> None:
    names: dict[str, dict[float, float]] = {}
    page = blocks("docs/information.md")
    assert "steps=300" in page
    exec(page.replace("steps=300", "steps=150"), names)
    assert names["bits"][0.1] < names["bits"][0.0] - 0.5


def test_regions_page(away: Path) -> None:
    """Every block runs; R = 1 + sum(chords + crossings), and the mechanisms add up to the change."""
    names: dict[str, Any] = {}
    exec(blocks("docs/regions.md"), names)
    before, after = names["partition"], names["after"]
    assert before.n_regions == 1 + sum(site.segments + site.crossings for site in before.arrangements)
    assert sum(map(names["changes"].total, names["changes"].parts)) == after.n_regions - before.n_regions


def test_first_order_pages(capsys: pytest.CaptureFixture[str]) -> None:
    for page in ("first_order", "first_order_theory"):
        exec(blocks(f"docs/{page}.md"), {})
    printed = capsys.readouterr().out.split()
    assert [word[:6] for word in printed] == ["0.1787", "GMFL-I", "GMFL-I", "30.669"]


@pytest.mark.slow
def test_tutorial(away: Path) -> None:
    exec(blocks("docs/tutorial.md"), {})
    assert (away / "digits.png").stat().st_size > 10_000
