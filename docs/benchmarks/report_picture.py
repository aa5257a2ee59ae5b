"""Take the picture of the report page: ``python docs/benchmarks/report_picture.py`` writes docs/images/report.png.

The source is the recorded run of the demo. It needs Bokeh and Chromium, without a network.
"""

import sys
import tempfile
from pathlib import Path

from probe.report import write_report

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from browser import browser

OUTPUT = ROOT / "docs/images/report.png"
STEP = 300  # marked: after fitting, before generalisation


def main() -> None:
    """Write the page, mark a step, and take the picture of its upper part."""
    with tempfile.TemporaryDirectory() as folder, browser() as page:
        source, output = ROOT / "reference/results/demo.nc", Path(folder) / "report.html"
        report = write_report(source, output, title="One run of the demo")
        page.open(report, width=1200, height=1380)
        page.js(f"probeReport.moved('p0', probeReport.position({STEP}), 0)")
        page.frame()
        page.screenshot(OUTPUT, whole=False)


if __name__ == "__main__":
    main()
