"""``python -m reference first-order order``: record, test, draw."""

from pathlib import Path

from tqdm import tqdm

from probe import save
from probe.stats import Estimate
from reference.theory.order.analysis import OrderTests, order_tests
from reference.theory.order.figures import draw_order
from reference.theory.order.recording import n_blocks, record_order
from reference.theory.order.settings import ORDER, PREDICTIONS, OrderSettings


def measure_order(
    folder: Path, n_jobs: int, *, progress: bool, settings: OrderSettings = ORDER
) -> tuple[OrderTests, list[Path]]:
    """Record chains and loops, test the order of the transition, and draw; return the tests and all written paths."""
    with tqdm(total=n_blocks(settings), unit="block", desc="order", mininterval=0.1 if progress else 60) as bar:
        blocks = folder / "first-order-order"
        recorded = record_order(settings, blocks, n_jobs=n_jobs, on_block=lambda: bar.update(1))
    found = order_tests(recorded)
    paths = [save(recorded, folder / "first-order-order.nc")]
    for name, figure in draw_order(recorded, found).items():
        paths.append(folder / f"first-order-order-{name}.png")
        figure.savefig(paths[-1], dpi=110)
    return found, paths


def order_text(found: OrderTests) -> str:
    """Return predictions and results as text."""
    b, c = found.barriers, found.control
    lines = ["Predictions, committed before the recording:", *(f"  {name}: {x}" for name, x in PREDICTIONS.items()), ""]
    lines += _table(found)
    lines += ["", f"barriers: {b.status} {b.reason}; slope {_interval(b.slope, 4)}"]
    lines.append(f"control: {c.status} {c.reason}; barriers {c.barriers.round(2)}")
    for name, (slope, error, p_value) in found.slopes.items():
        lines.append(f"log rate {name}: slope {slope:.4f} (standard error {error:.4f}, p of the line {p_value:.2f})")
    for d, loop in found.loops.items():
        numbers = f"areas {loop.areas.round(4)}, at zero rate {_interval(loop.zero_rate, 4)}, p {loop.p_value:.2f}"
        lines.append(f"loops, d = {d}: {loop.status} {loop.reason}; {numbers}")
    return "\n".join(lines)


def _interval(estimate: Estimate, digits: int) -> str:
    return f"{estimate.value:.{digits}f} ({estimate.lower:.{digits}f} to {estimate.upper:.{digits}f})"


def _table(found: OrderTests) -> list[str]:
    """Return a line for each number, with a column for each size."""
    t, b = found.table, found.barriers
    rows = {name: [f"{x:.3g}" for x in t[name].values] for name in map(str, t)}
    rows["measured barrier"] = [f"{x:.2f}" for x in b.barriers]
    rows["its interval"] = [f"{low:.2f}-{high:.2f}" for low, high in zip(b.lower, b.upper, strict=True)]
    head = "d".ljust(22) + "".join(f"{d:.0f}".rjust(12) for d in b.sizes)
    return [head, *(name.ljust(22) + "".join(cell.rjust(12) for cell in cells) for name, cells in rows.items())]
