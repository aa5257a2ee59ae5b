"""Logs as common frameworks write them: what is recognised without an option, and the numbers."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from test_readers import agrees

from probe.readers import read

sys.path.insert(0, str(Path(__file__).parent / "logs"))
import kinds

EXPECTED = json.loads((kinds.HERE / "kinds" / "expected.json").read_text())
PLANTED = ("dvclive", "trackio", "tensorboard-export")


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: f"{kind.framework}, {kind.files}")
def test_kinds_of_logs(kind: kinds.Kind, tmp_path: Path) -> None:
    series = read(kinds.path_of(kind, tmp_path), **kind.said)
    assert f'"format": "{kind.format}"' in series.attrs["provenance"].replace("\\", "")
    assert kind.note in series.attrs["reading"]
    if kind.format in PLANTED:
        for seed in range(series.sizes.get("run", 1)):
            agrees(series.isel(run=seed) if "run" in series.sizes else series, [*kinds.ALL], seed, rtol=1e-5)
        return
    own = kind.name.rsplit(".", 1)[0]
    expected = kind.expected or EXPECTED.get(own) or EXPECTED[own.split("/")[0]]
    one = series.isel(run=-1) if "run" in series.sizes else series
    for role, values in expected.items():
        found = one[role].values
        np.testing.assert_allclose(found[~np.isnan(found)], values, rtol=1e-4, atol=5e-5)
    for role in set(kinds.ALL) - set(expected) - set(kind.said):
        assert kind.text is not None or role not in series, role
    if kind.steps is not None:
        assert one["step"].values.tolist() == kind.steps


def test_the_page_has_the_table_of_kinds() -> None:
    assert kinds.PAGE.read_text(encoding="utf-8") == kinds.page(), "run: python tests/logs/kinds.py"
