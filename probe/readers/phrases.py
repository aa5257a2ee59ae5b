"""Numbers in a line of text, each with the phrase before it, as ``step 250: train loss 1.93 | val acc 41.2%``."""

import re
from functools import lru_cache
from typing import NamedTuple

from probe.readers.spelling import SPLITS, like_accuracies, like_losses, parts_of, words_of

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CLOCKS = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?)?Z?|\d+ days?, |\d+:\d\d(?::\d\d)?(?:[.,]\d+)?\b"
)
_LEVELS = re.compile(r"\b(?:INFO|DEBUG|WARNING|ERROR)\b(?::root\b)?")
_TENSOR = re.compile(r"\s?\b(?:tensor|np\.float\d+|Array)\(([-+.\deE]+|nan|-?inf)(?:, [^()\n]*(?:\(\))?[^()\n]*)?\)")
# "0,52", "4,0015": a decimal comma for certain, if no number of the line has a decimal point.
_DECIMAL_COMMA = re.compile(r"(?<![\w.,])([-+]?)(?:(0),(\d+)|(\d+),(\d\d?|\d{4,}))(?![\w,]*\d)(?!\w*,\d)")
_COMMA = re.compile(r"(?<![\w.,])([-+]?\d+),(\d+)(?![\w,]*\d)")
_POINT = re.compile(r"\d\.(?!\d{3}(?:\D|$))\d|\b0\.\d")
_GROUPED = re.compile(r"(?<![\w.,])[1-9]\d{0,2}(?:\.\d{3})+(?![\w.,]*\d)")
_QUOTED = re.compile(r"(['\"])([-+.\d][-+.\deE]*)\1")
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d*)?|\.\d+"
_NUMBER = re.compile(
    rf"(?<![\w.@/+\-'])[-+]?(?:(?:{_DIGITS})(?:[eE][-+]?\d+)?|nan|inf(?:inity)?)(?![\d.]*\d)", re.IGNORECASE
)
_TOTAL = re.compile(rf"\s*/\s*({_DIGITS})(?![\w.]*\w)")
_UNIT = re.compile(r"\s?%|[a-zA-Zµ]+(?:/[a-z]+)?")
_UNITS = {
    "s",
    "ms",
    "us",
    "m",
    "h",
    "sec",
    "min",
    "it",
    "k",
    "b",
    "g",
    "x",
    "mb",
    "gb",
    "kb",
    "mib",
    "gib",
    "tok",
    "img",
}
_AVERAGE = re.compile(rf"\s*\(\s*([-+]?(?:{_DIGITS})(?:[eE][-+]?\d+)?)\s*\)")
_BOUNDARIES = re.compile(r"[,;|()\[\]{}<>:=\t]| -+ |\|")
_LAST_BRACKET = re.compile(r"\([^()]*\)\s?[:=]?$")
_COUNTERS = re.compile(r"(.*?)\b(?:at|in|after|for) (iteration|iter|step|epoch)$", re.IGNORECASE)
_SPLIT_WORDS = {word: split for split, words in SPLITS.items() for word in words}
# Words beside a split that name no measure, as in "Test set:", "Validation results:", "Averaged stats:".
_BESIDE_SPLITS = {"set", "error", "results", "result", "metrics", "stats", "summary", "phase", "performance", "epoch"}


class Number(NamedTuple):
    """A number in a line.

    Attributes
    ----------
    name : str
        The phrase before the number, "" for none.
    split : str
        The split that precedes the name, "" for none: "Test" in "Test: loss 0.5".
    value : float
    total : float or None
        As in "epoch 3/10".
    average : float or None
        As in "loss 2.1 (2.3)".
    unit : str
        "%", "ms", ...
    """

    name: str
    split: str
    value: float
    total: float | None
    average: float | None
    unit: str


def cleaned(line: str) -> str:
    """Return a line without escape sequences, dates, times, durations, levels of logging, and quotes of numbers.

    The number of a tensor, as PyTorch prints it, stands for the tensor.
    """
    line = _CLOCKS.sub(";", _ESCAPES.sub("", _TENSOR.sub(r" \1", line) if "(" in line else line))
    if "," in line and _DECIMAL_COMMA.search(line) and not _POINT.search(line):
        line = _GROUPED.sub(lambda match: match[0].replace(".", ""), line)
        line = _COMMA.sub(r"\1.\2", line)
    return _QUOTED.sub(r"\2", _LEVELS.sub(";", line))


def numbers_in(line: str) -> list[Number]:
    """Return the numbers of a cleaned line from left to right, with their names."""
    found: list[Number] = []
    end = 0
    for match in _NUMBER.finditer(line):
        if match.start() < end:
            continue
        start, before, end = match.start(), line[end : match.start()], match.end()
        unit = _UNIT.match(line, end)
        if unit and (text := unit[0].strip().lower()) != "%" and text.split("/")[0] not in _UNITS:
            end = start  # a word that begins with digits; it belongs to the next phrase
            continue
        end = unit.end() if unit else end
        total = _TOTAL.match(line, end)
        end = total.end() if total else end
        average = _AVERAGE.match(line, end)
        end = average.end() if average else end
        name, split = _phrase(before)
        value = _value(match[0], name, line) if "," in match[0] else float(match[0])
        numbers = [float(part[1].replace(",", "")) if part else None for part in (total, average)]
        found.append(Number(name, split, value, numbers[0], numbers[1], unit[0].strip() if unit else ""))
    return found


def _value(text: str, name: str, line: str) -> float:
    """Return a number with commas. That of a loss, in a line without a decimal point, has a decimal comma."""
    is_curve = bool(like_losses([name]) or like_accuracies([name]))
    decimal = text.count(",") == 1 and is_curve and re.search(r"\d\.\d", line) is None
    return float(text.replace(",", "." if decimal else ""))


@lru_cache(2**12)  # the same phrases stand in all lines
def _phrase(text: str) -> tuple[str, str]:
    """Return the name at the end of the text before a number, and the split that stands before the name."""
    parts = [part.strip(" \"'*#=-─━>.") for part in _BOUNDARIES.split(_LAST_BRACKET.sub("", text.rstrip()))]
    parts = [part for part in parts if re.search(r"[A-Za-z]", part)]
    if not parts or re.fullmatch(r"\s*[(\[]\s*|.*\]\s*\[\s*", text):
        return ("", "") if not parts else (parts[-1], split_of(parts[:-1]))
    counter = _COUNTERS.match(parts[-1])
    if counter:
        return counter[2], split_of([*parts[:-1], " ".join(w for w in counter[1].split() if w.lower() in _SPLIT_WORDS)])
    name = re.sub(r"\s+", " ", parts[-1])
    if re.search(r"[^\s=]=$", text) and " " in name and parts_of(name) is None:  # "[worker 3] step=10"
        beside, name = name.rsplit(" ", 1)
        parts.insert(-1, beside)
    return name, split_of(parts[:-1])


def split_of(parts: list[str]) -> str:
    """Return the last split that one of the parts names alone, as "Test set"; "" for none."""
    found = ""
    for part in parts:
        words = {*words_of(part)} - _BESIDE_SPLITS
        if words and words <= _SPLIT_WORDS.keys() and len({_SPLIT_WORDS[word] for word in words}) == 1:
            found = next(iter(words))
    return found
