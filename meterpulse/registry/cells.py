"""Text as fixed cells of 16 bytes, and the compiled loops that hash, find, add and read them.

A cell is two uint64 words. Texts of up to 15 bytes lie in the cell itself (zero-padded, the last byte is the length).
Longer ones lie in a heap of bytes: the first word is `heap position << 16 | length`, the second a 56-bit hash under
the tag 0xFF. Comparing two cells therefore decides equality of short texts exactly; of long ones the bytes are
compared too.

A slot of the hash table is one uint64, `fingerprint << 32 | index + 1`, 0 when empty. A text belongs into the cache
line of 8 slots that `hash >> 32` selects, or into the first free slot after it. Nothing is ever deleted or moved, so a
reader may look while a writer adds.

The loops work on blocks of `BLOCK` ids, one step at a time over the whole block, and ask for the memory of the next
step early: at 26 million ids every step is a cache miss, and misses that do not wait for each other cost a fifth.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from meterpulse.registry.words import load1, load8, match_line, prefetch

NOT_FOUND = np.uint32(0xFFFFFFFF)
INLINE_BYTES = 15
MAX_BYTES = 200
BLOCK = 128
GROUP = 8  # slots in a cache line

_TAG = np.uint64(0xFF) << np.uint64(56)
_LOW_56 = np.uint64((1 << 56) - 1)
_LOW_32 = np.uint64(0xFFFFFFFF)
_LOW_16 = np.uint64(0xFFFF)
_MIX_A = np.uint64(0x9E3779B97F4A7C15)
_MIX_B = np.uint64(0xC2B2AE3D27D4EB4F)
_U0, _U1, _U3, _U4, _U8 = (np.uint64(i) for i in (0, 1, 3, 4, 8))
_U15, _U16, _U29, _U32, _U56, _U64 = (np.uint64(i) for i in (15, 16, 29, 32, 56, 64))

# Why a text was refused: the codes that `check_texts` gives.
OK, EMPTY, TOO_LONG, CONTROL, NOT_UTF8 = 0, 1, 2, 3, 4


@njit(nogil=True, cache=True)
def _mix(a, b):
    h = (a ^ (b * _MIX_B)) * _MIX_A
    h ^= h >> _U32
    h *= _MIX_B
    return h ^ (h >> _U29)


@njit(nogil=True, cache=True)
def _word(at, length, end):
    """The first 8 bytes of the text at an address as a zero-padded word; `end` is where the memory ends."""
    if at + _U8 <= end:
        word = load8(at)
        return word if length >= _U8 else word & ((_U1 << (length * _U8)) - _U1)
    word = _U0
    for i in range(min(length, _U8)):
        word |= load1(at + np.uint64(i)) << (np.uint64(i) * _U8)
    return word


@njit(nogil=True, cache=True)
def _long_hash(at, length):
    """The hash of a text of at least 8 bytes: of its words, and of its last 8 bytes, which overlap them."""
    h = length * _MIX_B
    last = at + length - _U8
    while at < last:
        h = (h ^ load8(at)) * _MIX_A
        h ^= h >> _U32
        at += _U8
    return _mix(h, load8(last))


@njit(nogil=True, cache=True)
def _key(at, length, end):
    """The cell of a text; of a long one the first word holds the length alone, for its heap position is not known
    here."""
    if length <= _U8:
        return _word(at, length, end), length << _U56
    if length <= _U15:
        return load8(at), _word(at + _U8, length - _U8, end) | (length << _U56)
    return length, (_long_hash(at, length) & _LOW_56) | _TAG


@njit(nogil=True, cache=True)
def _same(c0, k0, heap, at):
    """Whether a long text, at an address, is that of a cell whose second word is the same."""
    there = heap + (c0 >> _U16)
    if c0 & _LOW_16 != k0 or load8(there + k0 - _U8) != load8(at + k0 - _U8):
        return False
    last = at + k0 - _U8
    while at < last:
        if load8(at) != load8(there):
            return False
        at += _U8
        there += _U8
    return True


@njit(nogil=True, cache=True)
def _is(cells, heap, index, k0, k1, at):
    """Whether the text with this key, at an address, is the one of that index."""
    cell = cells + index * _U16
    if load8(cell + _U8) != k1:
        return False
    return load8(cell) == k0 if k1 < _TAG else _same(load8(cell), k0, heap, at)


@njit(nogil=True, cache=True)
def _home(h, groups):
    """The number of the group of slots where a text with this hash belongs."""
    return ((h >> _U32) * groups) >> _U32


@njit(nogil=True, cache=True)
def _probe(table, home, fingerprint, k0, k1, at):
    """The index of a text, slot by slot from its home group to the first empty slot."""
    slots, size, cells, heap, count = table
    s = home * _U8
    while True:
        slot = load8(slots + s * _U8)
        if slot == _U0:
            return NOT_FOUND
        if slot >> _U32 == fingerprint:
            index = (slot & _LOW_32) - _U1
            if index < count and _is(cells, heap, index, k0, k1, at):
                return np.uint32(index)
        s += _U1
        if s == size:
            s = _U0


@njit(nogil=True, cache=True)
def find(slots, cells, heap, count, offsets, data, out):
    """out[i] = index of text i (Arrow string layout) among the first `count`, NOT_FOUND where there is none.

    Ids often come in the order of registration: then the next one is tried first, which costs no probe at all.
    """
    n = offsets.size - 1
    size = np.uint64(slots.size)
    groups = size // _U8
    count = np.uint64(count)
    slot_at, cell_at = np.uint64(slots.ctypes.data), np.uint64(cells.ctypes.data)
    heap_at, data_at = np.uint64(heap.ctypes.data), np.uint64(data.ctypes.data)
    data_end = data_at + np.uint64(data.size)
    keys0 = np.empty(BLOCK, np.uint64)
    keys1 = np.empty(BLOCK, np.uint64)
    places = np.empty(BLOCK, np.uint64)
    prints = np.empty(BLOCK, np.uint64)
    homes = np.empty(BLOCK, np.uint64)
    maybe = np.empty(BLOCK, np.uint64)
    waiting = np.empty(BLOCK, np.uint64)
    slot_end = slot_at + groups * _U64
    guess = _U0
    for first in range(0, n, BLOCK):
        after = min(first + BLOCK, n)
        m = _U0
        some_long = False
        begin = np.uint64(offsets[first])
        for i in range(np.uint64(first), np.uint64(after)):
            stop = np.uint64(offsets[i + _U1])
            at = data_at + begin
            k0, k1 = _key(at, stop - begin, data_end)
            begin = stop
            if guess < count and _is(cell_at, heap_at, guess, k0, k1, at):
                out[i] = np.uint32(guess)
                guess += _U1
                continue
            h = _mix(k0, k1)
            home = _home(h, groups)
            prefetch(slot_at + home * _U64)
            keys0[m] = k0
            keys1[m] = k1
            places[m] = at
            prints[m] = h & _LOW_32
            homes[m] = home
            waiting[m] = i
            some_long |= k1 >= _TAG
            m += _U1
        for j in range(m):
            line = slot_at + homes[j] * _U64
            match = match_line(line, prints[j])
            while match == _U0 and load8(line + _U56) != _U0:  # a full line: the text may lie in the next one
                line += _U64
                if line == slot_end:
                    line = slot_at
                match = match_line(line, prints[j])
            maybe[j] = match & _LOW_32
            prefetch(cell_at + (maybe[j] - _U1) * _U16)
        if some_long:
            for j in range(m):
                if maybe[j] - _U1 < count and keys1[j] >= _TAG:
                    c0 = load8(cell_at + (maybe[j] - _U1) * _U16)
                    prefetch(heap_at + (c0 >> _U16))
                    prefetch(heap_at + (c0 >> _U16) + (c0 & _LOW_16))
        for j in range(m):
            index = maybe[j] - _U1  # none: wraps round to a number above any count
            if index < count and _is(cell_at, heap_at, index, keys0[j], keys1[j], places[j]):
                out[waiting[j]] = np.uint32(index)
            elif maybe[j] == _U0:
                out[waiting[j]] = NOT_FOUND
            else:  # another text with the same fingerprint, or one that is just being added
                table = slot_at, size, cell_at, heap_at, count
                out[waiting[j]] = _probe(table, homes[j], prints[j], keys0[j], keys1[j], places[j])
        if out[after - 1] != NOT_FOUND:
            guess = np.uint64(out[after - 1]) + _U1


@njit(nogil=True, cache=True)
def add(slots, cells, heap, count, offsets, data, wanted, new_cells, new_heap, heap_used, out):
    """Find or add the texts where wanted[i]; returns (texts added, heap bytes added).

    Text i gets out[i]: its index, or the next free one in order of appearance. What is new is written to `new_cells`
    (two words each) and `new_heap`, which follow the `count` texts of `cells` and the `heap_used` bytes of `heap`. The
    slots must have room. A text twice in the same call gets the same index.
    """
    n = offsets.size - 1
    size = np.uint64(slots.size)
    groups = size // _U8
    count = np.uint64(count)
    slot_at, cell_at, new_at = (
        np.uint64(slots.ctypes.data),
        np.uint64(cells.ctypes.data),
        np.uint64(new_cells.ctypes.data),
    )
    heap_at, data_at = np.uint64(heap.ctypes.data), np.uint64(data.ctypes.data)
    data_end = data_at + np.uint64(data.size)
    used = np.uint64(heap_used)
    new_heap_at = np.uint64(new_heap.ctypes.data)
    keys0 = np.empty(BLOCK, np.uint64)
    keys1 = np.empty(BLOCK, np.uint64)
    hashes = np.empty(BLOCK, np.uint64)
    added = _U0
    heap_added = _U0
    for first in range(0, n, BLOCK):
        block = min(BLOCK, n - first)
        for j in range(np.uint64(block)):
            i = np.uint64(first) + j
            if wanted[i]:
                begin = np.uint64(offsets[i])
                k0, k1 = _key(data_at + begin, np.uint64(offsets[i + _U1]) - begin, data_end)
                keys0[j] = k0
                keys1[j] = k1
                hashes[j] = _mix(k0, k1)
                prefetch(slot_at + _home(hashes[j], groups) * _U64)
        for j in range(np.uint64(block)):
            i = np.uint64(first) + j
            if not wanted[i]:
                continue
            at = data_at + np.uint64(offsets[i])
            k0 = keys0[j]
            k1 = keys1[j]
            fingerprint = hashes[j] & _LOW_32
            s = _home(hashes[j], groups) * _U8
            index = np.uint64(NOT_FOUND)
            while slots[s] != _U0:
                if slots[s] >> _U32 == fingerprint:
                    candidate = (slots[s] & _LOW_32) - _U1
                    if candidate < count:
                        same = _is(cell_at, heap_at, candidate, k0, k1, at)
                    else:  # heap positions count from the start of the heap, and new_heap is its continuation
                        same = _is(new_at, new_heap_at - used, candidate - count, k0, k1, at)
                    if same:
                        index = candidate
                        break
                s += _U1
                if s == size:
                    s = _U0
            if index == np.uint64(NOT_FOUND):
                index = count + added
                if k1 >= _TAG:
                    for b in range(k0):
                        new_heap[heap_added + b] = np.uint8(load1(at + b))
                    k0 |= (used + heap_added) << _U16
                    heap_added += keys0[j]
                new_cells[_U1 * 2 * added] = k0
                new_cells[_U1 * 2 * added + _U1] = k1
                slots[s] = (fingerprint << _U32) | (index + _U1)
                added += _U1
            out[i] = np.uint32(index)
    return added, heap_added


@njit(nogil=True, cache=True)
def index_cells(slots, cells, first, after):
    """Put the texts [first, after), all different and none of them known yet, into the slots."""
    size = np.uint64(slots.size)
    groups = size // _U8
    slot_at = np.uint64(slots.ctypes.data)
    hashes = np.empty(BLOCK, np.uint64)
    for start in range(first, after, BLOCK):
        block = np.uint64(min(BLOCK, after - start))
        for j in range(block):
            c = np.uint64(2) * (np.uint64(start) + j)
            k0 = cells[c]
            k1 = cells[c + _U1]
            hashes[j] = _mix(k0 & _LOW_16 if k1 >= _TAG else k0, k1)
            prefetch(slot_at + _home(hashes[j], groups) * _U64)
        for j in range(block):
            s = _home(hashes[j], groups) * _U8
            while slots[s] != _U0:
                s += _U1
                if s == size:
                    s = _U0
            slots[s] = ((hashes[j] & _LOW_32) << _U32) | (np.uint64(start) + j + _U1)


@njit(nogil=True, cache=True)
def lengths_of(cells, indices, offsets):
    """Fill offsets[n + 1] with where the texts of `indices` go; NOT_FOUND is an empty text. Returns the bytes in
    all."""
    total = np.int64(0)
    offsets[0] = 0
    for i in range(indices.size):
        if indices[i] != NOT_FOUND:
            c = np.int64(indices[i]) * 2
            k1 = cells[c + 1]
            total += np.int64(cells[c] & _LOW_16) if k1 >= _TAG else np.int64(k1 >> _U56)
        offsets[i + 1] = total
    return total


@njit(nogil=True, cache=True)
def copy_texts(cells, heap, indices, offsets, out):
    """Write the texts of `indices` to out, at the offsets that `lengths_of` gave."""
    for i in range(indices.size):
        if indices[i] == NOT_FOUND:
            continue
        c = np.int64(indices[i]) * 2
        c0 = cells[c]
        c1 = cells[c + 1]
        at = offsets[i]
        length = offsets[i + 1] - at
        if c1 >= _TAG:
            begin = np.int64(c0 >> _U16)
            for b in range(length):
                out[at + b] = heap[begin + b]
        else:
            for b in range(length):
                word = c0 if b < 8 else c1
                out[at + b] = np.uint8((word >> np.uint64(8 * (b & 7))) & np.uint64(0xFF))


@njit(nogil=True, cache=True)
def _sequence(data, b, end):
    """Bytes of the UTF-8 sequence that starts at b with a byte above 127, 0 if it is none (RFC 3629)."""
    lead = data[b]
    size = 2 if 0xC2 <= lead <= 0xDF else 3 if 0xE0 <= lead <= 0xEF else 4 if 0xF0 <= lead <= 0xF4 else 0
    if size == 0 or b + size > end:
        return 0
    low, high = 0x80, 0xBF
    if lead == 0xE0:
        low = 0xA0  # shorter forms exist
    elif lead == 0xED:
        high = 0x9F  # surrogates
    elif lead == 0xF0:
        low = 0x90
    elif lead == 0xF4:
        high = 0x8F  # beyond U+10FFFF
    if not low <= data[b + 1] <= high:
        return 0
    for i in range(2, size):
        if not 0x80 <= data[b + i] <= 0xBF:
            return 0
    return size


@njit(nogil=True, cache=True)
def check_texts(offsets, data, code):
    """code[i] = OK, EMPTY, TOO_LONG, CONTROL or NOT_UTF8 for each text; returns how many are not OK."""
    bad = 0
    for i in range(offsets.size - 1):
        b = np.int64(offsets[i])
        end = np.int64(offsets[i + 1])
        verdict = EMPTY if end == b else TOO_LONG if end - b > MAX_BYTES else OK
        while b < end and verdict == OK:
            if data[b] < 128:
                if data[b] < 32 or data[b] == 127:
                    verdict = CONTROL
                b += 1
            else:
                size = _sequence(data, b, end)
                if size == 0:
                    verdict = NOT_UTF8
                b += size
        code[i] = verdict
        bad += verdict != OK
    return bad
