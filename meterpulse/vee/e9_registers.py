"""E9: estimates are made to add up to the registers that span them. What is billed is then what the register says.

Each estimate of a span becomes shape * (register - known) / sum of shapes, in whole thousandths: all are rounded down,
and the thousandths left over go to the largest remainders, the earlier column first. Where the estimates are all zero,
every interval takes the same. Not an estimator: it changes what estimators told, whichever they were.
"""

from __future__ import annotations

import numpy as np

from meterpulse.vee import Findings, RegisterSpans, Status
from meterpulse.vee.runs import compiled

SHAPE_MAX = 1 << 31  # shapes are halved until their sum is below it, so that products fit 64 bits


def scale(quantity: np.ndarray, missing: np.ndarray, estimated: np.ndarray, registers: RegisterSpans) -> Findings:
    """Scales in place the `estimated` (bool[n, m]) of `quantity` (int64[n, m]).

    A span is left alone that lies in part outside of the columns, that has a `missing` (bool[n, m]) value nobody could
    tell, or no estimate. Where more is known than the register says, nothing is scaled, and that is a finding of V11.
    """
    first, after = registers.first.astype(np.int64), registers.after.astype(np.int64)
    known = np.zeros(len(first), np.int64)
    short = np.zeros(len(first), bool)
    _scale(quantity, missing, estimated, registers.row, first, after, registers.quantity, known, short)
    return Findings.of(
        11, registers.row[short], first[short], after[short], Status.FAIL, known[short], registers.quantity[short]
    )


@compiled
def _scale(quantity, missing, estimated, rows, first, after, register, known, short):  # type: ignore[no-untyped-def]
    for s in range(len(rows)):
        a, b, row = first[s], after[s], rows[s]
        if a < 0 or b > quantity.shape[1] or b <= a:
            continue
        count, complete, total = 0, True, 0
        for c in range(a, b):
            if missing[row, c]:
                complete = False
            elif estimated[row, c]:
                count += 1
            else:
                total += quantity[row, c]
        if not complete or count == 0:
            continue
        known[s] = total
        if total > register[s]:
            short[s] = True
            continue
        _share(quantity[row], estimated[row], a, b, count, register[s] - total)


@compiled
def _share(values, estimated, a, b, count, rest):  # type: ignore[no-untyped-def]
    at = np.empty(count, np.int64)
    shape = np.empty(count, np.int64)
    k = 0
    for c in range(a, b):
        if estimated[c]:
            at[k], shape[k] = c, max(values[c], 0)
            k += 1
    whole = _halved(shape)
    # value * rest / whole without a product that leaves 64 bits
    times, over = rest // whole, rest % whole
    left = rest
    remainder = np.empty(count, np.int64)
    for k in range(count):
        product = shape[k] * over
        values[at[k]] = shape[k] * times + product // whole
        remainder[k] = -(product % whole)
        left -= values[at[k]]
    for k in np.argsort(remainder, kind="mergesort")[:left]:
        values[at[k]] += 1


@compiled
def _halved(shape):  # type: ignore[no-untyped-def]
    """The sum of the shape, which is halved in place until the sum is small enough, or made even where it is zero."""
    whole = shape.sum()
    while whole >= SHAPE_MAX:
        shape >>= 1
        whole = shape.sum()
    if whole == 0:
        shape[:] = 1
        whole = len(shape)
    return whole
