"""The numbers that mean "no value": all bits of a counter set."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from meterpulse.model.quantity import QUANTITY_MAX, Unit

_WIDE_BITS = 24  # from here on a pattern is looked for in thousandths too


@lru_cache(maxsize=256)
def patterns_of(unit: Unit, bits: tuple[int, ...]) -> np.ndarray:
    """int64, ascending: the patterns of these widths in thousandths of the base unit, as a channel of `unit` has them.

    >>> from meterpulse.model.quantity import unit_of
    >>> patterns_of(unit_of("Wh"), (16, 24)).tolist()
    [16777215, 65535000, 16777215000]
    """
    found = set()
    for width in bits:
        ones = (1 << width) - 1
        found.add(round(ones * unit.scale))
        if width >= _WIDE_BITS:
            found.add(ones)
    patterns = np.array(sorted(p for p in found if p <= QUANTITY_MAX), np.int64)
    return patterns
