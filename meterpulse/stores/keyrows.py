"""One key's rows out of many chunks, compiled: found, verified, widened, and without the steps that have no reading.

A page asks for 25 chunks of each channel of a home. As numpy operations per chunk they cost 26 µs each; as a compiled call
per chunk still 6 µs, most of it in the interpreter; as one call over the places of all chunks 0.5 µs.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

MULTIPLIER, BEGIN = 2654435761, 0x9E3779B9  # of the check word: see `lmdb`
LINK, LAST = 2246822519, 0xFFFFFFFF  # a sparse row's check word also holds the place of the row behind it
# Of a chunk, in a row of uint64: where its rows lie in memory, how many there are and of how many words, and what its head says.
ADDRESS, ROWS, NUMBERS, DENSE, LINKED, FIRST, KEYS, STEPS, WIDE, BATCH, FIELDS = range(11)


def rows_of_key(
    chunks: np.ndarray, starts: np.ndarray, row: int, steps: int, measures: int, step_ms: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | int:
    """Rows of a key, the block's `row`-th, of chunks uint64[k, FIELDS] that start at int64[k] and have so many steps together:
    (start int64[n], rows int64[n, measures], batch bool[n]); or the number of the chunk where a row does not match its check
    word, or where it cannot be shown that all rows of the key were seen. The memory must stay as it is meanwhile.

    FIRST is the first row's place. In a sparse chunk that is not linked it is the sum of all places, and costs a pass.
    """
    start, rows, batch = np.empty(steps, np.int64), np.empty((steps, measures), np.int64), np.empty(steps, np.bool_)
    n = _rows(chunks, starts, row, step_ms, start, rows, batch)
    return -1 - n if n < 0 else (start[:n], rows[:n], batch[:n])


@intrinsic
def _pointer(typing, address):  # type: ignore[no-untyped-def]
    """An address as a pointer."""
    return types.voidptr(types.uint64), lambda context, builder, _, at: builder.inttoptr(at[0], cgutils.voidptr_t)


@njit(nogil=True, cache=True)
def _rows(chunks, starts, row, step_ms, start, rows, batch):  # type: ignore[no-untyped-def]
    n = 0
    for i in range(len(chunks)):
        c = chunks[i]
        shape = (np.int64(c[ROWS]), np.int64(c[NUMBERS]))
        table = carray(_pointer(c[ADDRESS]), shape, np.uint32)
        if not c[DENSE]:
            n = _sparse(table, c, starts[i], row, step_ms, start, rows, batch, n)
        elif row < c[KEYS]:
            n = _dense(table, c, starts[i], row, step_ms, start, rows, batch, n)
        if n < 0:
            return -1 - i
    return n


@njit(nogil=True, cache=True)
def _dense(table, c, begin, row, step_ms, start, rows, batch, n):  # type: ignore[no-untyped-def]
    if not _holds(table, row, False):
        return -1
    size = rows.shape[1] * (2 if c[WIDE] else 1)
    for step in range(c[STEPS]):
        if _widened(table[row], step * size, c[WIDE], rows[n]):
            start[n] = begin + step * step_ms
            batch[n] = c[BATCH] >> np.uint64(step) & np.uint64(1)
            n += 1
    return n


@njit(nogil=True, cache=True)
def _sparse(table, c, begin, row, step_ms, start, rows, batch, n):  # type: ignore[no-untyped-def]
    low, after, steps = 0, len(table), np.int64(c[STEPS])
    while low < after:
        middle = (low + after) >> 1
        if table[middle, 0] < row * steps:
            low = middle + 1
        else:
            after = middle
    if not c[LINKED]:
        total = np.uint64(0)
        for i in range(len(table)):
            total += np.uint64(table[i, 0])
        if total & np.uint64(LAST) != c[FIRST]:
            return -1
    elif low == 0:
        if table[0, 0] != c[FIRST]:
            return -1
    elif not _holds(table, low - 1, True):  # the row before knows which one is next
        return -1
    while low < len(table) and table[low, 0] < (row + 1) * steps and n < len(start):
        if not _holds(table, low, c[LINKED]):
            return -1
        step = np.int64(table[low, 0]) - row * steps
        if _widened(table[low], 1, c[WIDE], rows[n]):
            start[n] = begin + step * step_ms
            batch[n] = c[BATCH] >> np.uint64(step) & np.uint64(1)
            n += 1
        low += 1
    return n


@njit(nogil=True, cache=True)
def _widened(words, at, is_wide, out):  # type: ignore[no-untyped-def]
    """The measures from words[at] on; whether the first of them, the count, is anything."""
    for m in range(len(out)):
        if is_wide:
            lower, upper = np.uint64(words[at + 2 * m]), np.uint64(words[at + 2 * m + 1])
            out[m] = np.int64(lower | upper << np.uint64(32))
        else:
            out[m] = np.int32(words[at + m])
    return out[0] != 0


@njit(nogil=True, cache=True)
def _holds(table, i, linked):  # type: ignore[no-untyped-def]
    last = table.shape[1] - 1
    check = np.uint64(BEGIN)  # 64 bits wide, as numba's sums are; the lower 32 count
    for j in range(last):
        check += np.uint64(table[i, j]) * np.uint64(MULTIPLIER * (2 * j + 1) & 0xFFFFFFFF)
    if linked:
        check += np.uint64(table[i + 1, 0] if i + 1 < len(table) else LAST) * np.uint64(LINK)
    return check & np.uint64(0xFFFFFFFF) == table[i, last]
