"""Join the key and the answers of two readers: `python docs/benchmarks/curves/collect_readings.py FOLDER`.

FOLDER holds key.json, reader1.json and reader2.json. The script writes readings.json beside this file:

    {NAME: {"dense": [answer 1, answer 2], ..., "class": [class 1, class 2],
            "top": {"dense": [step or null, ...], ...}, "rises": {"dense": [true, false or null, ...], ...}}}

An answer is "found", "not" or "cannot tell". "top" has the step of the last hump where it was found. "rises" states for
"not" whether the curve rises to the end. The script prints the agreement of the readers, and raises ValueError for a
missing or an unknown answer.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RISES = "rises to the end"
CLASSES = (
    "delayed generalisation",
    "overfitting",
    "plain learning",
    "memorised without generalising",
    "not fitted",
    "collapsed",
    "diverged",
    "undecided",
    "too short to tell",
)
Answers = dict[str, dict[str, str]]


def parse(answer: str) -> tuple[str, float | None, bool | None]:
    """Split the answer of a reader into verdict, step of the top, and whether the curve rises to the end."""
    text = " ".join(answer.lower().split())
    if match := re.fullmatch(r"found,?(?: (\d+(?:\.\d+)?))?", text):
        return "found", float(match[1]) if match[1] else None, None
    if re.fullmatch(rf"not(,? {RISES})?", text):
        return "not", None, RISES in text
    if text == "cannot tell":
        return text, None, None
    raise ValueError(f"Expected 'found STEP', 'not', 'not, {RISES}' or 'cannot tell', got {answer!r}.")


def class_of(answer: str) -> str:
    text = " ".join(answer.lower().split())
    if text not in CLASSES:
        raise ValueError(f"Expected one of {', '.join(CLASSES)}, got {answer!r}.")
    return text


def answers_of(readers: list[Answers], series: str, code: str) -> list[str]:
    """Return one answer for each reader."""
    for number, reader in enumerate(readers, 1):
        if code not in reader.get(series, {}):
            raise ValueError(f"Expected an answer for panel {code} of {series}, got none from reader {number}.")
    return [reader[series][code] for reader in readers]


def join(key: Answers, readers: list[Answers]) -> dict[str, dict[str, Any]]:
    """Return the readings by run."""
    readings: dict[str, dict[str, Any]] = {name: {} for name in sorted(key["classes"].values())}
    for series, names in key.items():
        for code, name in names.items():
            answers, reading = answers_of(readers, series, code), readings[name]
            if series == "classes":
                reading["class"] = [class_of(answer) for answer in answers]
                continue
            parsed = [parse(answer) for answer in answers]
            reading[series] = [verdict for verdict, _, _ in parsed]
            reading.setdefault("top", {})[series] = [top for _, top, _ in parsed]
            reading.setdefault("rises", {})[series] = [rises for _, _, rises in parsed]
    return readings


def print_agreement(readings: dict[str, dict[str, Any]], series: list[str]) -> None:
    print("| series | panels | readers agree | both found | both not | both cannot tell |", "|---" * 6 + "|", sep="\n")
    for name in series:
        pairs = [reading[name] for reading in readings.values()]
        same = [a for a, b in pairs if a == b]
        counts = [str(same.count(verdict)) if name != "class" else "" for verdict in ("found", "not", "cannot tell")]
        print(f"| {name} | {len(pairs)} | {len(same)} | {' | '.join(counts)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "readings.json")
    arguments = parser.parse_args()
    key, *readers = (
        json.loads((arguments.folder / f"{name}.json").read_text()) for name in ("key", "reader1", "reader2")
    )
    readings = join(key, readers)
    lines = (f"{json.dumps(name)}: {json.dumps(reading)}" for name, reading in readings.items())
    arguments.out.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print_agreement(readings, [series for series in key if series != "classes"] + ["class"])


if __name__ == "__main__":
    main()
