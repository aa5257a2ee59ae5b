"""Measure how fast event files are read, and compare with TensorBoard's own reader.

    python docs/benchmarks/read_events.py [--megabytes 100] [--tags 8] [--against SITE_PACKAGES] [--file FILE]

The script writes scalars as torch.utils.tensorboard does (``simple_value``; several tags at each step). Each reader
reads them in its own process, which prints its CPU time (imports included) and its peak memory. ``--against`` names a
site-packages folder with tensorboard. TensorBoard keeps all points here. Its default keeps 1,000 for each tag.
"""

import argparse
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np


def write(path: Path, size: int, tags: int, block_steps: int = 20_000) -> int:
    """Write an event file of about ``size`` bytes in whole blocks of steps, and return the number of scalars."""
    names = [f"train/metric_{i}".encode() for i in range(tags)]
    count, step, written = 0, 0, 0
    with open(path, "wb") as file:
        while written < size:
            records = []
            for step in range(step, step + block_steps):  # noqa: B020
                for name in names:
                    value = b"\x0a" + bytes([len(name)]) + name + b"\x15" + struct.pack("<f", 1 / (step + 1))
                    summary = b"\x0a" + bytes([len(value)]) + value
                    body = b"\x09" + struct.pack("<d", 1.7e9 + step) + b"\x10" + varint(step + 1)
                    records.append(body + b"\x2a" + bytes([len(summary)]) + summary)
            heads = [struct.pack("<Q", len(record)) for record in records]
            checks = checksums(np.frombuffer(b"".join(heads), np.uint8).reshape(-1, 8)).tolist()
            sums = {}
            for length in {len(record) for record in records}:
                same = [i for i, record in enumerate(records) if len(record) == length]
                rows = np.frombuffer(b"".join(records[i] for i in same), np.uint8).reshape(-1, length)
                sums.update(zip(same, checksums(rows).tolist(), strict=True))
            frames = zip(heads, checks, records, (sums[i] for i in range(len(records))), strict=True)
            block = b"".join(h + struct.pack("<I", c) + r + struct.pack("<I", s) for h, c, r, s in frames)
            written += file.write(block)
            count += len(records)
            step += 1
    return count


def checksums(rows: np.ndarray) -> np.ndarray:
    """Return the masked CRC-32C (Castagnoli) of each row, uint32 (n,), of uint8 (n, length)."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
    state = np.full(len(rows), 0xFFFFFFFF, dtype=np.uint32)
    for column in rows.T:
        state = table[(state ^ column) & 0xFF] ^ (state >> 8)
    crc = ~state
    return ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)


def varint(number: int) -> bytes:
    """Return an integer with seven bits per byte."""
    return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])


def read_probe(path: str) -> int:
    """Read with probe up to the Dataset, and return the number of scalars."""
    from probe.readers import read

    return int(read(path, strict=False).to_array().count())


def read_accumulator(path: str) -> int:
    """Read with TensorBoard's EventAccumulator, which keeps all points."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(path, size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    return sum(len(events.Scalars(tag)) for tag in tags["scalars"]) + sum(
        len(events.Tensors(t)) for t in tags["tensors"]
    )


def read_loader(path: str) -> int:
    """Read every scalar with TensorBoard's RawEventFileLoader and protobuf, and keep none."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    count = 0
    for record in RawEventFileLoader(path).Load():
        event = Event.FromString(record)
        count += sum(value.HasField("simple_value") for value in event.summary.value)
    return count


READERS = {
    "probe": read_probe,
    "accumulator": read_accumulator,
    "loader": read_loader,
}


def main() -> None:
    """Write a file, read it with each reader, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--tags", type=int, default=8)
    parser.add_argument("--against", help="site-packages with tensorboard")
    parser.add_argument("--file", help="an event file that exists, instead of one written here")
    parser.add_argument("--only", choices=READERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        return _one(args.only, args.file)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(args.file or Path(folder, "events.out.tfevents.1700000000.host.1.0"))
        if not args.file:
            print(
                f"{write(path, int(args.megabytes * 1e6), args.tags):,} scalars in {path.stat().st_size / 1e6:.0f} MB"
            )
        for name in READERS if args.against else list(READERS)[:1]:
            command = [sys.executable, __file__, "--only", name, "--file", str(path)]
            paths = [str(Path(__file__).parents[2]), *([args.against] if "probe" not in name else [])]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            print(done.stdout.strip() or f"{name}: {done.stderr.strip().splitlines()[-1]}", flush=True)
    return None


def _one(name: str, path: str) -> None:
    start, wall = process_time(), perf_counter()
    count = READERS[name](path)
    spent, wall = process_time() - start, perf_counter() - wall
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1e3  # Linux
    each = f"{1e6 * spent / count:6.2f} us each"
    print(f"{name:20} {count:12,} scalars  {spent:8.1f} s CPU  {wall:8.1f} s  {each}  {peak:6.0f} MB")


if __name__ == "__main__":
    main()
