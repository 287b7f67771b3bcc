"""The compiled loops of a rebuild: rows of a day are dealt into buckets of channels, then a channel's whole day is made at once.

A row that is dealt is a **key** (channel within its bucket << 15 | 5-second slot of the day) and a quantity: 8 or 12 bytes
instead of 36. What is not that simple (a revision above 0, a start off the grid) is put aside and decided first: the winner of
a revised slot takes the slot's bit, so that everything else that comes for it finds the slot taken. One channel's day of
cells (14 kB) and the minutes of its group (46 kB) stay in the processor's own cache, whatever order the rows came in.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from meterpulse.model.cells import last_slot
from meterpulse.model.quality import Quality

SLOT_BITS = 15  # 17,280 slots a day
MIXED = int(Quality.MIXED)

_compiled = njit(nogil=True, cache=True, boundscheck=False)


@_compiled
def deal(channel, start, revision, quantity, quality, first, after, shift, base_ms, key, out_quantity, out_quality):
    """Rows with first <= channel < after into buckets of 1 << shift channels, stable: fills key, out_quantity and, where
    `quality` is not empty, out_quality. Columns start, revision and quality have length n or 1.

    Returns (offsets int64[buckets + 1] into them, int64 indices of the rows that are put aside).
    """
    n, one_start, one_revision = len(channel), len(start) == 1, len(revision) == 1
    one_quality = len(quality) == 1
    buckets = ((after - first) >> shift) + 1
    offsets = np.zeros(buckets + 1, np.int64)
    put_aside = 0
    for i in range(n):
        c = channel[i]
        if c < first or c >= after:
            continue
        at = (start[0] if one_start else start[i]) - base_ms
        if at % 5000 or (revision[0] if one_revision else revision[i]) > 0:
            put_aside += 1
        else:
            offsets[((c - first) >> shift) + 1] += 1
    for b in range(buckets):
        offsets[b + 1] += offsets[b]
    to = offsets[:-1].copy()
    aside = np.empty(put_aside, np.int64)
    k, within = 0, (1 << shift) - 1
    for i in range(n):
        c = channel[i]
        if c < first or c >= after:
            continue
        at = (start[0] if one_start else start[i]) - base_ms
        slot = at // 5000
        if slot * 5000 != at or (revision[0] if one_revision else revision[i]) > 0:
            aside[k] = i
            k += 1
            continue
        own = np.int64(c) - first
        j = to[own >> shift]
        to[own >> shift] = j + 1
        key[j] = (own & within) << SLOT_BITS | slot
        out_quantity[j] = quantity[i]
        if len(quality):
            out_quality[j] = quality[0] if one_quality else quality[i]
    return offsets, aside


@_compiled
def count_keys(key, begin):
    """Adds the rows of each channel to begin[channel + 1]."""
    for i in range(len(key)):
        begin[(key[i] >> SLOT_BITS) + 1] += 1


@_compiled
def place_keys(key, quantity, quality, to, slot, out_quantity, out_quality):
    """A counting sort by channel, stable; `to` says where each channel's next row goes. An empty quality is raw throughout."""
    for i in range(len(key)):
        c = key[i] >> SLOT_BITS
        j = to[c]
        to[c] = j + 1
        slot[j] = key[i] & 0x7FFF
        out_quantity[j] = quantity[i]
        if len(out_quality):
            out_quality[j] = quality[i] if len(quality) else 14


@_compiled
def order_by(channel, first, channels):
    """(begin int64[channels + 1], the stable order by channel)."""
    begin = np.zeros(channels + 1, np.int64)
    for i in range(len(channel)):
        begin[channel[i] - first + 1] += 1
    for c in range(channels):
        begin[c + 1] += begin[c]
    to, order = begin[:-1].copy(), np.empty(len(channel), np.int64)
    for i in range(len(channel)):
        c = channel[i] - first
        order[to[c]] = i
        to[c] += 1
    return begin, order


@_compiled
def _group(total, q):
    if total[0] == 0:
        total[2], total[3] = q, q
    total[0] += 1
    total[1] += q
    total[2] = min(total[2], q)
    total[3] = max(total[3], q)


@_compiled
def _graded(marks, w, is_first, quality):
    """All readings of a window agree on a quality, or it is mixed."""
    if is_first:
        marks[w] = quality
    elif marks[w] != quality:
        marks[w] = MIXED


@_compiled
def _add(cell, slot, q):
    word = 0 if slot < 30 else 1
    bit = 1 << (slot - 30 * word)
    if cell[0] | cell[1]:
        cell[2] += q
        cell[3] = min(q, cell[3])
        cell[4] = max(q, cell[4])
        if (word == 1 or cell[1] == 0) and cell[word] < bit:
            cell[5] = q
    else:
        cell[2], cell[3], cell[4], cell[5] = q, q, q, q
    cell[word] |= bit


@_compiled
def _ones(x):
    x = x - ((x >> 1) & 0x5555555555555555)
    x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((x * 0x0101010101010101) & 0x7FFFFFFFFFFFFFFF) >> 56


@_compiled
def days_of_channels(
    begin, slot, quantity, quality,
    revised_begin, revised_slot, revised_quantity, revised_revision, revised_quality,
    loose_begin, loose_at, loose_quantity, loose_revision, loose_quality,
    group_of, area, rows, revised, dropped, marks,
):  # fmt: skip
    """A bucket's channels, one after the other. Rows of the three kinds lie sorted by channel in log order; a `begin`
    says where each channel's are. The highest revision of a start stands, and the first in log order among equal ones.

    group_of uint32[channels], area int64[groups, 1440, 4]; written are rows int64[channels, 288, 5], which is zeros,
    revised uint8[channels, 288] (a revision above 0 stands there), dropped int32[channels, 288] (readings that do not stand)
    and, where it has rows, marks int32[channels, 288] (the readings' quality). Returns how many readings stand.
    """
    graded, standing = len(marks) > 0, 0
    cells = np.zeros((288, 6), np.int64)
    winner = np.zeros(17280, np.int32)
    nobody = np.zeros((1440, 4), np.int64)
    for c in range(len(group_of)):
        low, high = begin[c], begin[c + 1]
        rlow, rhigh = revised_begin[c], revised_begin[c + 1]
        llow, lhigh = loose_begin[c], loose_begin[c + 1]
        if low == high and rlow == rhigh and llow == lhigh:
            continue
        group = group_of[c]
        minutes = area[group] if group else nobody
        cells[:, 0] = 0
        cells[:, 1] = 0
        for i in range(rlow, rhigh):
            there = winner[revised_slot[i]]
            if there == 0 or revised_revision[i] > revised_revision[rlow + there - 1]:
                winner[revised_slot[i]] = i - rlow + 1
        for i in range(rlow, rhigh):
            s = np.int64(revised_slot[i])
            w = s // 60
            if winner[s] != i - rlow + 1:
                dropped[c, w] += 1
                continue
            if graded:
                _graded(marks[c], w, cells[w, 0] | cells[w, 1] == 0, revised_quality[i])
            _add(cells[w], s - 60 * w, revised_quantity[i])
            revised[c, w] = 1
            _group(minutes[s // 12], revised_quantity[i])
            standing += 1
        for i in range(rlow, rhigh):
            winner[revised_slot[i]] = 0
        for i in range(low, high):
            s = np.int64(slot[i])
            w = s // 60
            at = s - 60 * w
            cell = cells[w]
            word = 0 if at < 30 else 1
            if cell[word] >> (at - 30 * word) & 1:
                dropped[c, w] += 1
                continue
            q = np.int64(quantity[i])
            if graded:
                _graded(marks[c], w, cell[0] | cell[1] == 0, quality[i])
            _add(cell, at, q)
            _group(minutes[s // 12], q)
            standing += 1
        for w in range(288):
            cell = cells[w]
            if cell[0] | cell[1]:
                row = rows[c, w]
                row[0] = _ones(cell[0]) + _ones(cell[1])
                row[1], row[2], row[3], row[4] = cell[2], cell[3], cell[4], cell[5]
        if llow < lhigh:
            standing += _loose(
                loose_at[llow:lhigh], loose_quantity[llow:lhigh], loose_revision[llow:lhigh], loose_quality[llow:lhigh],
                cells, minutes, rows[c], revised[c], dropped[c], marks[c : c + 1],
            )  # fmt: skip
        if group == 0:
            nobody[:, 0] = 0
    return standing


@_compiled
def _loose(at, quantity, revision, quality, cells, minutes, rows, revised, dropped, marks):
    """Readings off the grid of a channel, merged into its rows."""
    order = np.argsort(at, kind="mergesort")
    standing, i, newest_w, newest = 0, 0, -1, np.int64(0)
    while i < len(order):
        best, after = order[i], i + 1
        while after < len(order) and at[order[after]] == at[best]:
            if revision[order[after]] > revision[best]:
                best = order[after]
            after += 1
        w, q = at[best] // 300000, quantity[best]
        row = rows[w]
        if w != newest_w:
            newest_w, newest = w, w * 300000 + last_slot(cells[w, 0], cells[w, 1]) * 5000
        if len(marks):
            _graded(marks[0], w, row[0] == 0, quality[best])
        if row[0] == 0:
            row[2], row[3], row[4] = q, q, q
        row[0] += 1
        row[1] += q
        row[2] = min(row[2], q)
        row[3] = max(row[3], q)
        if at[best] >= newest:
            row[4] = q
            newest = at[best]
        if revision[best] > 0:
            revised[w] = 1
        dropped[w] += after - i - 1
        _group(minutes[at[best] // 60000], q)
        standing += 1
        i = after
    return standing


@_compiled
def merge_groups(total, other, groups):
    """Adds the minutes int64[groups, 1440, 4] of some groups to a total."""
    for g in groups:
        for m in range(other.shape[1]):
            row, to = other[g, m], total[g, m]
            if row[0] == 0:
                continue
            if to[0] == 0:
                to[2], to[3] = row[2], row[3]
            to[0] += row[0]
            to[1] += row[1]
            to[2] = min(to[2], row[2])
            to[3] = max(to[3], row[3])
