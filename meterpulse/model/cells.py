"""The state of a view is an array; updating it is a scatter. These loops are the hot path, so they are compiled.

A **cell** is what one channel has gathered in one open 5-minute window, six integers side by side so that a reading of a
random channel touches one cache line (as separate arrays it touched five, and cost three times as much):

    bits of the 5-second slots 0-29 | of 30-59 | sum | min | max | last

The bits are the exact de-duplication: a reading whose slot is taken is a duplicate or is older than what stands there.
A **row** is a finished window: count, sum, min, max, last. Rows merge (`fold`), cells close into rows (`rows_of`).

Cells are int32 while all quantities are small enough for sixty of them to fit (a 5-second reading below 35 kWh), and int64
from the first larger one on: half the memory, half the traffic.
"""

from __future__ import annotations

import numpy as np
from numba import njit

SLOT_MS = 5_000
SLOTS = 60
CELL = 6
ROW = 5
COUNT, SUM, MIN, MAX, LAST = range(ROW)
AREA_ROW = 4
_BLOCK = 512
NARROW_LIMIT = (2**31 - 1) // SLOTS

APPLIED, DUPLICATE, REVISION, LOOSE, ELSEWHERE = 0, 1, 2, 3, 4

_compiled = njit(nogil=True, cache=True, boundscheck=False)


@_compiled
def scatter(cells, area, group_of, channel, first_channel, start, quantity, revision, base_ms, outcome):
    """Adds readings to `cells[window, channel - first_channel]` and, in the same pass, to the minutes of their groups.

    cells int32|int64[windows, channels, 6], area int64[windows * 5, groups, 4] (count, sum, min, max), group_of uint32[all
    channels] (0: none), start and revision of length n or 1, base_ms the start of cells[0]; outcome uint8[n] is written.
    Returns (applied, duplicates, others); the outcome of the others says why: REVISION of a slot that is taken, LOOSE (the
    start is not on the grid of 5 seconds), ELSEWHERE (not in these windows).
    """
    n = len(channel)
    one_start, one_revision = len(start) == 1, len(revision) == 1
    applied, duplicates = 0, 0
    slots = 60 * cells.shape[0]
    at = start[0] - base_ms if n else 0
    slot_of_day = at // 5000
    revised = n > 0 and revision[0] > 0
    # In blocks, cells first and groups after: mixed in one loop, the uncertain addresses of the group totals kept the
    # processor from overlapping the cache misses of random cells (13 M readings/s; apart 21 M/s, sequential 80 M/s).
    taken = np.empty(_BLOCK, np.int64)
    touched = 0
    for low in range(0, n, _BLOCK):
        high = min(low + _BLOCK, n)
        if cells.shape[0] == 1:
            # Few instructions a miss: more of them are under way at once.
            for i in range(low, high):
                touched ^= cells[0, channel[i] - first_channel, 0]
        k = 0
        for i in range(low, high):
            if not one_start:
                at = start[i] - base_ms
                slot_of_day = at // 5000
            if slot_of_day < 0 or slot_of_day >= slots:
                outcome[i] = 4
                continue
            if slot_of_day * 5000 != at:
                outcome[i] = 3
                continue
            if not one_revision:
                revised = revision[i] > 0
            window = slot_of_day // 60
            slot = slot_of_day - window * 60
            cell = cells[window, channel[i] - first_channel]
            word = 0 if slot < 30 else 1
            bit = 1 << (slot - 30 * word)
            if cell[word] & bit:
                outcome[i] = 2 if revised else 1
                duplicates += not revised
                continue
            q = quantity[i]
            if cell[0] | cell[1]:
                cell[2] += q
                cell[3] = min(q, cell[3])
                cell[4] = max(q, cell[4])
                if (word == 1 or cell[1] == 0) and cell[word] < bit:
                    cell[5] = q
            else:
                cell[2], cell[3], cell[4], cell[5] = q, q, q, q
            cell[word] |= bit
            outcome[i] = 0
            taken[k] = i
            k += 1
        applied += k
        for j in range(k):
            i = taken[j]
            group = group_of[channel[i]]
            if group:
                q = quantity[i]
                minute = (start[0] if one_start else start[i]) - base_ms
                total = area[minute // 60000, group]
                if total[0] == 0:
                    total[2], total[3] = q, q
                total[0] += 1
                total[1] += q
                total[2] = min(q, total[2])
                total[3] = max(q, total[3])
    outcome[n:] = touched & 1  # no row is written; the reads ahead must not be optimised away
    return applied, duplicates, n - applied - duplicates


@_compiled
def _ones(x):
    x = x - ((x >> 1) & 0x5555555555555555)
    x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((x * 0x0101010101010101) & 0x7FFFFFFFFFFFFFFF) >> 56


@_compiled
def rows_of(cells, out):
    """Closes cells[windows, channels, 6] into out[channels, windows, 5]; an empty cell gives zeros. Returns the rows made."""
    found = 0
    for w in range(cells.shape[0]):
        for c in range(cells.shape[1]):
            cell = cells[w, c]
            low, high = np.int64(cell[0]), np.int64(cell[1])
            if low | high:
                row = out[c, w]
                row[0] = _ones(low) + _ones(high)
                row[1], row[2], row[3], row[4] = cell[2], cell[3], cell[4], cell[5]
                found += 1
    return found


@_compiled
def last_slot(low, high):
    """The newest slot whose bit is set, -1 where there is none."""
    word, at = (high, 30) if high else (low, 0)
    if word == 0:
        return -1
    while word > 1:
        word >>= 1
        at += 1
    return at


@_compiled
def add_loose(rows, newest_ms, area, group_of, channel, first_channel, start, quantity, base_ms):
    """Adds effective readings off the grid, unique and sorted by start within a channel, to rows[channels, windows, 5].

    newest_ms int64[channels, windows] holds the start of each row's `last`, so that the newer of both ways stands.
    """
    for i in range(len(channel)):
        c, at, q = channel[i] - first_channel, start[i] - base_ms, quantity[i]
        row = rows[c, at // 300000]
        if row[0] == 0:
            row[2], row[3] = q, q
        row[0] += 1
        row[1] += q
        row[2] = min(row[2], q)
        row[3] = max(row[3], q)
        if start[i] >= newest_ms[c, at // 300000]:
            row[4] = q
            newest_ms[c, at // 300000] = start[i]
        group = group_of[channel[i]]
        if group:
            total = area[at // 60000, group]
            if total[0] == 0:
                total[2], total[3] = q, q
            total[0] += 1
            total[1] += q
            total[2] = min(total[2], q)
            total[3] = max(total[3], q)


@_compiled
def fold(rows, target, kind, out):
    """Merges rows[key, step, m] into out[key, target[kind[key], step], m], steps in order of time; m is 5 (with last) or 4."""
    measures = rows.shape[2]
    for k in range(rows.shape[0]):
        for s in range(rows.shape[1]):
            row = rows[k, s]
            if row[0] == 0:
                continue
            to = out[k, target[kind[k], s]]
            if to[0] == 0:
                for m in range(measures):
                    to[m] = row[m]
                continue
            to[0] += row[0]
            to[1] += row[1]
            to[2] = min(to[2], row[2])
            to[3] = max(to[3], row[3])
            if measures == 5:
                to[4] = row[4]


@_compiled
def choose(channel, first_channel, start, revision, base_ms, winner, outcome):
    """The effective reading per (channel, slot): the highest revision, and the first in log order among equal ones.

    All rows of a bucket's day in log order; winner int32[channels, slots] is zeros before and after, and reused. outcome
    uint8[n] becomes 0 where the row stands, 1 where another one does, 3 where it is loose. Two passes over the rows, none
    over the matrix, which is mostly empty where intervals are longer than 5 seconds.
    """
    one_start, one_revision = len(start) == 1, len(revision) == 1
    for i in range(len(channel)):
        at = (start[0] if one_start else start[i]) - base_ms
        if at % 5000:
            outcome[i] = 3
            continue
        stands = winner[channel[i] - first_channel, at // 5000]
        if stands == 0 or (not one_revision and revision[i] > revision[stands - 1]):
            if stands:
                outcome[stands - 1] = 1
            winner[channel[i] - first_channel, at // 5000] = i + 1
            outcome[i] = 0
        else:
            outcome[i] = 1
    for i in range(len(channel)):
        at = (start[0] if one_start else start[i]) - base_ms
        if outcome[i] == 0:
            winner[channel[i] - first_channel, at // 5000] = 0


def effective(
    channel: np.ndarray, start: np.ndarray, quantity: np.ndarray, revision: np.ndarray
) -> tuple[np.ndarray, ...]:
    """(channel, start, quantity) of the readings that stand, sorted by (channel, start): the general way, by sorting.

    For readings off the grid; the input is in log order.
    """
    order = np.lexsort((np.arange(len(channel)), -revision, start, channel))
    channel, start, quantity = channel[order], start[order], quantity[order]
    first = np.ones(len(channel), bool)
    first[1:] = (channel[1:] != channel[:-1]) | (start[1:] != start[:-1])
    return channel[first], start[first], quantity[first]
