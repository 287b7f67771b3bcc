"""How good a value is, as one int32 that loses nothing of where it came from.

The low byte is ESPI's code (Green Button `QualityOfReading`), so it goes out unchanged. A value from NEM12 also keeps its
flag (A, E, F, N, S or V), its two-digit method and its reason code, so that it goes out as it came in:

    bits 0-7 ESPI code | 8-15 NEM12 method, 0 for none | 16-18 NEM12 flag, 0 for none | 19-27 reason + 1, 0 for none

>>> text_of(of_nem12("S", 17)), Quality(code_of(of_nem12("S", 17))).word
('S17', 'linear')
>>> text_of(of_nem12("F", 14, 53)), reason_of(packed_of("F14:53"))
('F14:53', 53)
>>> packed_of("estimated by hand")
Traceback (most recent call last):
    ...
ValueError: quality 'estimated by hand' is not known; it takes a word such as raw, validated, edited, or NEM12's such as A, S17
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Any

import numpy as np


class Quality(IntEnum):
    """ESPI QualityOfReading codes (NAESB REQ.21)."""

    VALID = 0
    EDITED = 7
    REFERENCE_DAY = 8
    LINEAR = 9
    QUESTIONABLE = 10
    DERIVED = 11
    FORECAST = 12
    MIXED = 13
    RAW = 14
    WEATHER = 15
    OTHER = 16
    VALIDATED = 17
    VERIFIED = 18
    REVENUE = 19

    @property
    def word(self) -> str:
        """The word shown to people."""
        return self.name.lower().replace("_", " ")


RAW = int(Quality.RAW)
FLAGS = " AEFNSV"  # NEM12's, by the number that is kept
REASON_MAX = 255  # AEMO's list ends at 99
# What NEM12's methods (AEMO's list) are in ESPI's words; the others follow from their flag.
_CODE_OF_METHOD = {
    11: Quality.VERIFIED,
    12: Quality.DERIVED,
    13: Quality.VERIFIED,
    14: Quality.REFERENCE_DAY,
    15: Quality.REFERENCE_DAY,
    17: Quality.LINEAR,
    18: Quality.VERIFIED,
    20: Quality.FORECAST,
    22: Quality.FORECAST,
    54: Quality.LINEAR,
}
_CODE_OF_FLAG = {
    "A": Quality.VALID,
    "E": Quality.FORECAST,
    "F": Quality.EDITED,
    "N": Quality.OTHER,
    "S": Quality.EDITED,
    "V": Quality.MIXED,
}
# The flag and method that a value gets on its way out where it did not come from NEM12.
_NEM12_OF_CODE = {
    Quality.EDITED: "F16",
    Quality.REFERENCE_DAY: "S14",
    Quality.LINEAR: "S17",
    Quality.QUESTIONABLE: "A",
    Quality.DERIVED: "S12",
    Quality.FORECAST: "E20",
    Quality.MIXED: "V",
    Quality.WEATHER: "S24",
    Quality.OTHER: "S16",
}
_NEM12 = re.compile(r"([AEFNSV])(\d\d)?(?::(\d{1,3}))?", re.ASCII)
_WORDS = {q.word: int(q) for q in Quality} | {q.name.lower(): int(q) for q in Quality}
_CODES = np.array([int(q) for q in Quality])
ESTIMATES = frozenset({Quality.REFERENCE_DAY, Quality.LINEAR, Quality.FORECAST, Quality.WEATHER})


def code_of(packed: Any) -> Any:
    """The ESPI code of a packed quality, or of an array of them."""
    return packed & 0xFF


def method_of(packed: Any) -> Any:
    """NEM12's method, 0 where there is none."""
    return packed >> 8 & 0xFF


def is_packed(values: Any) -> Any:
    """bool[n]: which integers are qualities."""
    code, method, flag, reason = values & 0xFF, values >> 8 & 0xFF, values >> 16 & 7, values >> 19
    known = np.isin(code, _CODES) & (method <= 99) & (flag < len(FLAGS)) & (reason >= 0) & (reason <= REASON_MAX + 1)
    return known & ((flag > 0) | (method == 0) & (reason == 0))


def of_nem12(flag: str, method: int = 0, reason: int | None = None) -> int:
    """Packed, of NEM12's flag, method and reason code; raises ValueError."""
    if flag not in _CODE_OF_FLAG or not 0 <= method <= 99:
        raise ValueError(f"quality {flag}{method or ''} is not NEM12's; a flag is one of A, E, F, N, S, V")
    if reason is not None and not 0 <= reason <= REASON_MAX:
        raise ValueError(f"reason code {reason} is not NEM12's; it takes 0 to {REASON_MAX}")
    code = _CODE_OF_FLAG[flag] if flag in "AN" else _CODE_OF_METHOD.get(method, _CODE_OF_FLAG[flag])
    return int(code) | method << 8 | FLAGS.index(flag) << 16 | (0 if reason is None else reason + 1) << 19


def nem12_of(packed: int) -> tuple[str, int]:
    """NEM12's flag and method of any quality: as it came, or the nearest."""
    if packed >> 16 & 7:
        return FLAGS[packed >> 16 & 7], packed >> 8 & 0xFF
    text = _NEM12_OF_CODE.get(Quality(packed & 0xFF), "A")
    return text[0], (packed >> 8 & 0xFF) or int(text[1:] or 0)


def reason_of(packed: int) -> int | None:
    """NEM12's reason code, None where there is none."""
    return (packed >> 19) - 1 if packed >> 19 else None


def packed_of(text: str) -> int:
    """Packed, of a word of ESPI's (`raw`, `reference day`) or NEM12's flag, method, reason (`A`, `S17`, `F14:53`);
    raises ValueError."""
    known = _WORDS.get(text.lower())
    if known is not None:
        return known
    match = _NEM12.fullmatch(text)
    if match is None:
        raise ValueError(
            f"quality {text[:40]!r} is not known; it takes a word such as raw, validated, edited, or NEM12's such as A, S17"
        )
    return of_nem12(match[1], int(match[2] or 0), None if match[3] is None else int(match[3]))


def text_of(packed: int) -> str:
    """The inverse of `packed_of`."""
    if packed >> 16:
        method, reason = packed >> 8 & 0xFF, reason_of(packed)
        told = FLAGS[packed >> 16 & 7] + (f"{method:02d}" if method else "")
        return told if reason is None else f"{told}:{reason}"
    return Quality(packed & 0xFF).word
