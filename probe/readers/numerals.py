"""Numbers as people and spreadsheets write them: thousands separators, percent signs, decimal commas."""

import re
from collections.abc import Iterable

import numpy as np

_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:([,'_ \u00a0\u2009\u202f])\d{3})(?:\1\d{3})*(?:\.\d*)?(?:[eE][+-]?\d+)?")
_POINTS = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+,\d*")  # thousands as points before a decimal comma
_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+%?")  # the same without decimals
_NUMERIC = re.compile(r"[+-]?[\d.,]*\d[\d.,]*%?")
_SEPARATORS = re.compile(r"[,'_ \u00a0\u2009\u202f]")
_LONGEST = 64  # characters of a number


def number_of(text: str, comma: bool = False) -> float | None:
    """Return the number that a text means, None for other text.

    Parameters
    ----------
    text : str
        ``"0.5"``, ``"1e-3"``, ``"1,234"``, ``"1 234.5"``, ``"NaN"``, ``"-inf"``. A percent sign at the end is ignored.
    comma : bool
        True: a comma is the decimal mark.
    """
    text = text.strip()
    if not text or len(text) > _LONGEST:
        return None
    text = text[:-1].rstrip() if text.endswith("%") else text
    if comma and _POINTS.fullmatch(text):
        text = text.replace(".", "").replace(",", ".")
    elif comma and _COMMA.fullmatch(text):
        text = text.replace(",", ".")
    elif _THOUSANDS.fullmatch(text):
        text = _SEPARATORS.sub("", text)
    elif "_" in text:  # Python allows it in numbers
        return None
    try:
        return float(text)
    except ValueError:
        return None


def is_percent(text: str) -> bool:
    """Return whether a text is a number with a percent sign."""
    return text.rstrip().endswith("%") and number_of(text) is not None


def is_decimal_comma(text: str) -> bool:
    """Return whether a text is a number with a decimal comma for certain: ``"0,5"``, and not ``"1,234"``."""
    text = text.strip().removesuffix("%").rstrip()
    if _POINTS.fullmatch(text):
        return True
    return bool(_COMMA.fullmatch(text)) and (not _THOUSANDS.fullmatch(text) or text.lstrip("+-").startswith("0,"))


def numbers_of(texts: Iterable[str], comma: bool = False) -> np.ndarray:
    """Return the numbers of texts, float64 (n,); NaN where a text is no number.

    With a decimal comma, points divide thousands (``"12.500"``) if they can do so in all texts.
    """
    texts = list(texts)
    pointed = [text for text in texts if "." in text and "," not in text and _NUMERIC.fullmatch(text)] if comma else []
    if pointed and all(map(_GROUPS.fullmatch, pointed)):
        grouped = {*pointed}
        texts = [text.replace(".", "") if text in grouped else text for text in texts]
    return np.array([np.nan if (number := number_of(text, comma)) is None else number for text in texts], dtype=float)
