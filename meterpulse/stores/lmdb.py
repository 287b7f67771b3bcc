"""Finished windows in LMDB: key = view, block, start, so that a channel's month of hours is one walk of neighbouring keys.

A value is a header and rows, dense (every key of the block, channel by channel) or sparse (only the rows that exist, with
their place), whichever is smaller, in 32-bit integers where they fit. Each row carries a check sum of its own, so that a read
of one channel verifies what it serves without touching the rest of the block.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import lmdb
import numpy as np
import xxhash

from meterpulse.model.gate import Gate
from meterpulse.model.mapfile import check_short, fill_up, for_want_of_room, is_short
from meterpulse.model.memory import let_go
from meterpulse.stores import (
    BLOCK,
    SPARSE_STEPS,
    Chunk,
    CorruptChunk,
    Rows,
    Span,
    Sparse,
    Store,
    StoreDamaged,
    StoreFull,
)
from meterpulse.stores.directory import Directory
from meterpulse.stores.keyrows import BEGIN, FIELDS, LAST, LINK, MULTIPLIER, rows_of_key

_VIEWS = {
    name: number
    for number, name in enumerate(
        ("usage_5m", "usage_1h", "usage_1d", "area_1m", "area_1h", "area_1d", "grades", "record", "area_record"), 1
    )
}
_KEY = struct.Struct(">BIQ")
# magic, dense, bytes a number, measures, keys, steps, batch bits, rows, first place, checksum of the head
_HEAD = struct.Struct("<4sBBHIIQIII")
_MAGIC, _UNLINKED = b"MPC3", b"MPC2"  # the latter had the sum of the places for the first place, and no links
_DAMAGED = "damaged"  # a file that asks the next start to begin anew
_BIAS = 1 << 62  # times before 1970 sort first
_Places = tuple[np.ndarray, np.ndarray, int, int]  # chunks uint64[k, FIELDS], their starts int64[k], steps, measures


class LmdbStore(Store):
    """See Store."""

    def __init__(self, directory: Path, max_bytes: int = 512 << 30, *, readonly: bool = False):
        self._directory = Path(directory)
        if not readonly:
            self._directory.mkdir(parents=True, exist_ok=True)
        self._max_bytes, self._readonly = max_bytes, readonly
        self.salvaged: str | None = None
        self._gate = Gate()
        self._mutex = threading.Lock()
        self._directory_now: Directory[_Places] | None = None  # None: something was written since
        try:
            self._open()
        except lmdb.Error as error:
            if readonly or isinstance(error, (lmdb.LockError, lmdb.ReadonlyError)):
                raise
            self._set_aside(str(error))
            self._open()

    def _open(self) -> None:
        file, damaged = self._directory / "data.mdb", self._directory / _DAMAGED
        if not self._readonly and damaged.exists():
            raise lmdb.CorruptedError(damaged.read_text(errors="replace") or "it was found damaged")
        if not self._readonly and file.exists() and file.stat().st_size == 0:
            raise lmdb.CorruptedError("the file is empty")
        self._env = lmdb.open(
            str(self._directory), map_size=self._max_bytes, max_dbs=2, readonly=self._readonly, max_readers=128,
            readahead=False,
        )  # fmt: skip
        try:
            if not self._readonly and is_short(self._env, file):
                check_short(self._env, file)
            self._chunks = self._env.open_db(b"chunks", create=not self._readonly)
            self._notes = self._env.open_db(b"notes", create=not self._readonly)
        except lmdb.Error:
            self._env.close()
            raise

    def _set_aside(self, why: str) -> None:
        """Everything here can be made anew from the lake, so a file that is broken is not mended."""
        kept = self._directory / f"data.mdb.damaged-{time.time_ns()}"
        if (self._directory / "data.mdb").exists():
            os.rename(self._directory / "data.mdb", kept)
        for name in ("lock.mdb", _DAMAGED):
            (self._directory / name).unlink(missing_ok=True)
        self.salvaged = f"the store was damaged ({why}) and begins anew; the old file is {kept.name}"

    @contextlib.contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction]:
        """A read transaction over buffers. Raises StoreDamaged where the pages do not lead on."""
        try:
            with self._gate.inside(), self._env.begin(buffers=True) as txn:
                yield txn
        except (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError) as error:
            raise self._damaged(error) from error

    @contextlib.contextmanager
    def _kept(self) -> Iterator[Directory[_Places]]:
        """The newest directory: of everything that was written before this is called."""
        try:
            with self._gate.inside():
                if self._readonly:  # who writes does not tell us
                    yield Directory(self._env.begin(buffers=True))
                    return
                with self._mutex:
                    if self._directory_now is None:
                        self._directory_now = Directory(self._env.begin(buffers=True))
                    now = self._directory_now
                yield now
        except (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError) as error:
            raise self._damaged(error) from error

    def _forget(self) -> None:
        """Something was written: what was found before is not looked at any more, and its pages may be used again."""
        with self._mutex:
            self._directory_now = None

    def _damaged(self, error: lmdb.Error) -> StoreDamaged:
        with contextlib.suppress(OSError):
            (self._directory / _DAMAGED).write_text(str(error))
        return StoreDamaged(
            f"the store in {self._directory} is damaged ({error}); start again: it is rebuilt by itself"
        )

    def write(
        self,
        chunks: Iterable[Chunk | Sparse],
        *,
        remove: Sequence[tuple[str, int, int]] = (),
        notes: Mapping[str, bytes] | Callable[[], Mapping[str, bytes]] | None = None,
        changed: Callable[[Chunk | None, Chunk], None] | None = None,
    ) -> None:
        try:
            with self._gate.inside(), self._env.begin(write=True, buffers=True) as txn:
                for view, block, start_ms in remove:
                    txn.delete(_key(view, block, start_ms), db=self._chunks)
                for chunk in chunks:
                    self._put(txn, chunk, changed)
                for name, value in ((notes() if callable(notes) else notes) or {}).items():
                    txn.put(name.encode(), value, db=self._notes) if value else txn.delete(
                        name.encode(), db=self._notes
                    )
            self._forget()
            fill_up(self._env, self._directory / "data.mdb")
        except lmdb.MapFullError as error:
            raise StoreFull(
                "the store has reached its size limit; shorten a retention or raise stores.max_bytes"
            ) from error
        except (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError) as error:
            raise self._damaged(error) from error
        except lmdb.Error as error:
            if for_want_of_room(error, self._directory):
                raise StoreFull(f"no space left for the store in {self._directory}") from error
            raise OSError(f"the store could not be written: {error}") from error

    def _put(
        self, txn: lmdb.Transaction, chunk: Chunk | Sparse, changed: Callable[[Chunk | None, Chunk], None] | None
    ) -> None:
        """What is there already is not written again: a rebuild that finds nothing new dirties no page."""
        key = _key(chunk.view, chunk.block, chunk.start_ms)
        value = _encode_sparse(chunk) if isinstance(chunk, Sparse) else _encode(chunk)
        there = txn.get(key, db=self._chunks)
        if changed is not None and isinstance(chunk, Chunk) and not _same_rows(there, value):
            with contextlib.suppress(CorruptChunk):
                old = None if there is None else _decode(chunk.view, chunk.block, chunk.start_ms, there)
                changed(old, chunk)
        if not value:
            txn.delete(key, db=self._chunks)
        elif there is None or not _equal(there, value):
            txn.put(key, value, db=self._chunks)

    def spans(self, view: str, key: int, start_ms: int, end_ms: int) -> list[Span]:
        block, row, found = key // BLOCK, key % BLOCK, []
        last = _key(view, block, end_ms)
        with self._reading() as txn, txn.cursor(self._chunks) as cursor:
            at = cursor.set_range(_key(view, block, start_ms))
            while at and bytes(cursor.key()) < last:
                start = _KEY.unpack(cursor.key())[2] - _BIAS
                span = _row(view, block, start, cursor.value(), row)
                if span is not None:
                    found.append(span)
                at = cursor.next()
        return found

    def series(self, view: str, key: int, start_ms: int, end_ms: int, step_ms: int) -> list[Rows]:
        block, row = key // BLOCK, key % BLOCK
        with self._kept() as directory:
            where = view, block, start_ms, end_ms
            chunks, starts, steps, measures = directory.of(where, lambda: self._places(directory.transaction, *where))
            if not len(starts):
                return []
            found = rows_of_key(chunks, starts, row, steps, measures, step_ms)
        if isinstance(found, int):
            raise CorruptChunk(view, block, int(starts[found]))
        return [Rows(*found)]

    def _places(self, txn: lmdb.Transaction, view: str, block: int, start_ms: int, end_ms: int) -> _Places:
        number, end, found, starts, steps, measures = _VIEWS[view], end_ms + _BIAS, [], [], 0, 0
        with txn.cursor(self._chunks) as cursor:
            if cursor.set_range(_key(view, block, start_ms)):
                for name, value in cursor.iternext():
                    of, at, start = _KEY.unpack(name)
                    if of != number or at != block or start >= end:
                        break
                    head = _shape(view, block, start - _BIAS, value)
                    address = np.frombuffer(value, np.uint8).ctypes.data + _HEAD.size
                    found.append((address, *head.place))
                    starts.append(start - _BIAS)
                    steps, measures = steps + head.steps, head.measures
        return np.array(found, np.uint64).reshape(-1, FIELDS), np.array(starts, np.int64), steps, measures

    def chunk(self, view: str, block: int, start_ms: int) -> Chunk | None:
        with self._reading() as txn:
            value = txn.get(_key(view, block, start_ms), db=self._chunks)
            if value is None:
                return None
            found = _decode(view, block, start_ms, value)
            let_go(value)  # who wants a whole chunk makes something else of it
            return found

    def sparse(self, view: str, block: int, start_ms: int) -> Sparse | None:
        with self._reading() as txn:
            value = txn.get(_key(view, block, start_ms), db=self._chunks)
            if value is None:
                return None
            s, table = _open(view, block, start_ms, value)
            _verify(view, block, start_ms, s, table)
            rows = np.ascontiguousarray(table[:, 1:-1]).view(np.int32 if s.width == 4 else np.int64)
            return Sparse(view, block, start_ms, s.keys, table[:, 0].copy(), rows.astype(np.int64))

    def starts(self, view: str, block: int, start_ms: int, end_ms: int) -> list[int]:
        found, last = [], _key(view, block, end_ms)
        with self._reading() as txn, txn.cursor(self._chunks) as cursor:
            at = cursor.set_range(_key(view, block, start_ms))
            while at and bytes(cursor.key()) < last:
                found.append(_KEY.unpack(cursor.key())[2] - _BIAS)
                at = cursor.next()
        return found

    def newest(self, view: str, key: int, step_ms: int, tries: int = 400) -> int | None:
        """The end of the newest step that a key has; None where the last `tries` chunks of its block have nothing of it."""
        block, row = key // BLOCK, key % BLOCK
        with self._reading() as txn, txn.cursor(self._chunks) as cursor:
            at = cursor.prev() if cursor.set_range(_key(view, block + 1, -_BIAS)) else cursor.last()
            for _ in range(tries):
                if not at or bytes(cursor.key()[:5]) != _key(view, block, 0)[:5]:
                    return None
                start = _KEY.unpack(cursor.key())[2] - _BIAS
                span = _row(view, block, start, cursor.value(), row)
                if span is not None and span.rows[:, 0].any():
                    return start + (int(np.flatnonzero(span.rows[:, 0])[-1]) + 1) * step_ms
                at = cursor.prev()
        return None

    def expire(self, view: str, before_ms: int, limit: int = 2_000) -> int:
        """Removes chunks of a view that start before `before_ms`, up to `limit` at a time; how many."""
        number, doomed = _VIEWS[view], []
        with self._reading() as txn, txn.cursor(self._chunks) as cursor:
            block = 0
            while len(doomed) < limit and cursor.set_range(_KEY.pack(number, block, 0)):
                found, block, start = _KEY.unpack(cursor.key())
                if found != number:
                    break
                while found == number and start - _BIAS < before_ms and len(doomed) < limit:
                    doomed.append(bytes(cursor.key()))
                    if not cursor.next():
                        break
                    found, at, start = _KEY.unpack(cursor.key())
                    if at != block:
                        break
                block += 1
        if not doomed:
            return 0
        with self._gate.inside(), self._env.begin(write=True) as txn:
            gone = sum(txn.delete(key, db=self._chunks) for key in doomed)
        self._forget()
        with (
            self._gate.inside(),
            self._env.begin(write=True) as txn,
        ):  # LMDB uses freed pages again from the second commit on
            txn.put(f"expired/{view}".encode(), str(before_ms).encode(), db=self._notes)
        return gone

    def note(self, name: str) -> bytes | None:
        with self._reading() as txn:
            found = txn.get(name.encode(), db=self._notes)
            return None if found is None else bytes(found)

    def notes(self, prefix: str) -> dict[str, bytes]:
        found = {}
        with self._reading() as txn, txn.cursor(self._notes) as cursor:
            at = cursor.set_range(prefix.encode())
            while at and (name := bytes(cursor.key())).startswith(prefix.encode()):
                found[name.decode()] = bytes(cursor.value())
                at = cursor.next()
        return found

    def verify(self) -> list[CorruptChunk]:
        """Every chunk whose rows do not match their sums."""
        bad = []
        with self._reading() as txn, txn.cursor(self._chunks) as cursor:
            for key, value in cursor:
                number, block, start = _KEY.unpack(key)
                view = next((v for v, n in _VIEWS.items() if n == number), "?")
                try:
                    _decode(view, block, start - _BIAS, value)
                except CorruptChunk as error:
                    bad.append(error)
        return bad

    def bytes_used(self) -> int:
        """On disk."""
        return os.stat(self._directory / "data.mdb").st_blocks * 512

    def close(self) -> None:
        with self._gate.alone():
            self._forget()
            self._env.close()


def _key(view: str, block: int, start_ms: int) -> bytes:
    return _KEY.pack(_VIEWS[view], block, start_ms + _BIAS)


def _sums(words: np.ndarray) -> np.ndarray:
    """One check word per row of uint32 words: a sum with odd weights sees every single flipped bit."""
    weights = np.arange(1, 2 * words.shape[1] + 1, 2, dtype=np.uint32) * np.uint32(MULTIPLIER)
    return np.einsum("ij,j->i", words, weights) + np.uint32(BEGIN)


def _links(places: np.ndarray) -> np.ndarray:
    """What a sparse row's check word says of the place behind it: a flipped bit could hide a row from the search, and
    unknown is not damaged."""
    return np.append(places[1:], np.uint32(LAST)) * np.uint32(LINK)


def _encode(chunk: Chunk) -> bytes:
    rows = chunk.rows
    keys, steps, measures = rows.shape
    present = rows[:, :, 0] != 0
    count = int(present.sum())
    if count == 0:
        return b""
    narrow = bool(rows.min() >= -(2**31) and rows.max() < 2**31)
    dtype = np.int32 if narrow else np.int64
    if count * (measures + 2) < keys * steps * measures:
        places = np.flatnonzero(present.reshape(-1)).astype(np.uint32)
        table = _placed(places, rows.reshape(-1, measures)[places], dtype)
        dense = 0
    else:
        words = np.ascontiguousarray(rows.reshape(keys, -1), dtype=dtype).view(np.uint32)
        table = np.column_stack((words, _sums(words)))
        dense = 1
    head = _head(dense, dtype, measures, keys, steps, chunk.batch, table)
    return head + np.ascontiguousarray(table, dtype="<u4").tobytes()


def _equal(there: memoryview, value: bytes | memoryview) -> bool:
    return len(there) == len(value) and bool((np.frombuffer(there, np.uint8) == np.frombuffer(value, np.uint8)).all())


def _same_rows(there: memoryview | None, value: bytes) -> bool:
    """Whether two encoded chunks hold the same rows, whoever made them; False where that is not seen at once."""
    if there is None or not value:
        return there is None and not value
    # The form and the steps; who made them (the batch bits) and how many channels there were then do not matter.
    form = bytes(there[:8]) == value[:8] and bytes(there[12:16]) == value[12:16]
    return form and _equal(there[_HEAD.size :], memoryview(value)[_HEAD.size :])


def _encode_sparse(chunk: Sparse) -> bytes:
    if not len(chunk.places):
        return b""
    narrow = bool(chunk.rows.min() >= -(2**31) and chunk.rows.max() < 2**31)
    dtype = np.int32 if narrow else np.int64
    table = _placed(chunk.places.astype(np.uint32), chunk.rows, dtype)
    head = _head(0, dtype, chunk.rows.shape[1], chunk.keys, SPARSE_STEPS[chunk.view], 0, table)
    return head + np.ascontiguousarray(table, dtype="<u4").tobytes()


def _placed(places: np.ndarray, rows: np.ndarray, dtype: type) -> np.ndarray:
    words = np.ascontiguousarray(rows, dtype=dtype).view(np.uint32)
    table = np.column_stack((places, words))
    return np.column_stack((table, _sums(table) + _links(places)))


def _head(dense: int, dtype: type, measures: int, keys: int, steps: int, batch: int, table: np.ndarray) -> bytes:
    first = 0 if dense else int(table[0, 0])
    head = _HEAD.pack(_MAGIC, dense, np.dtype(dtype).itemsize, measures, keys, steps, batch, len(table), first, 0)
    return head[:-4] + xxhash.xxh32_digest(head[:-4])[::-1]


class _Shape(NamedTuple):
    """What a chunk's head says; `numbers` are the 32-bit words of a row, its check word included."""

    dense: int
    width: int
    measures: int
    keys: int
    steps: int
    numbers: int
    batch: int
    rows: int
    first: int  # place
    linked: bool
    bytes: int  # of the chunk

    @property
    def place(self) -> tuple[int, ...]:
        """What `keyrows` wants to know besides the address."""
        return (
            self.rows, self.numbers, self.dense, self.linked, self.first, self.keys, self.steps, self.width == 8, self.batch
        )  # fmt: skip


_shapes: dict[bytes, _Shape] = {}  # heads repeat from chunk to chunk
_SHAPES = 4_096


def _shape(view: str, block: int, start_ms: int, value: memoryview) -> _Shape:
    head = bytes(value[: _HEAD.size])
    shape = _shapes.get(head)
    if shape is None:
        shape = _shape_of(view, block, start_ms, head)
        if len(_shapes) >= _SHAPES:
            _shapes.clear()
        _shapes[head] = shape
    if len(value) != shape.bytes:
        raise CorruptChunk(view, block, start_ms)
    return shape


def _shape_of(view: str, block: int, start_ms: int, head: bytes) -> _Shape:
    try:
        magic, dense, width, measures, keys, steps, batch, rows, first, check = _HEAD.unpack_from(head, 0)
    except struct.error:
        raise CorruptChunk(view, block, start_ms) from None
    if magic not in (_MAGIC, _UNLINKED) or check != xxhash.xxh32_intdigest(head[:-4]):
        raise CorruptChunk(view, block, start_ms)
    numbers = (measures * (1 if not dense else steps)) * (width // 4) + (1 if dense else 2)
    size = _HEAD.size + rows * numbers * 4
    return _Shape(dense, width, measures, keys, steps, numbers, batch, rows, first, magic == _MAGIC, size)


def _open(view: str, block: int, start_ms: int, value: memoryview) -> tuple[_Shape, np.ndarray]:
    s = _shape(view, block, start_ms, value)
    return s, np.frombuffer(value, "<u4", s.rows * s.numbers, _HEAD.size).reshape(s.rows, s.numbers)


def _verify(view: str, block: int, start_ms: int, s: _Shape, table: np.ndarray) -> None:
    sums = _sums(table[:, :-1])
    if not s.dense and s.linked:
        sums += _links(table[:, 0])
    if (sums != table[:, -1]).any():
        raise CorruptChunk(view, block, start_ms)


def _row(view: str, block: int, start_ms: int, value: memoryview, row: int) -> Span | None:
    """One key's rows of a chunk, copied and verified; None where it has none."""
    s, table = _open(view, block, start_ms, value)
    if row >= s.keys:
        return None
    if s.dense:
        words = table[row : row + 1]
        if _sums(words[:, :-1])[0] != words[0, -1]:
            raise CorruptChunk(view, block, start_ms)
        dtype = np.int32 if s.width == 4 else np.int64
        return Span(start_ms, words[0, :-1].copy().view(dtype).reshape(s.steps, s.measures).astype(np.int64), s.batch)
    place = np.array([(table.ctypes.data, *s.place)], np.uint64)
    found = rows_of_key(place, np.zeros(1, np.int64), row, s.steps, s.measures, 1)
    if isinstance(found, int):
        raise CorruptChunk(view, block, start_ms)
    step, rows, _ = found
    if not len(step):
        return None
    out = np.zeros((s.steps, s.measures), np.int64)
    out[step] = rows
    return Span(start_ms, out, s.batch)


def _decode(view: str, block: int, start_ms: int, value: memoryview) -> Chunk:
    s, table = _open(view, block, start_ms, value)
    dense, width, measures, keys, steps, _, batch, *_ = s
    dtype = np.int32 if width == 4 else np.int64
    _verify(view, block, start_ms, s, table)
    if dense:
        rows = np.ascontiguousarray(table[:, :-1]).view(dtype).reshape(keys, steps, measures).astype(np.int64)
    else:
        rows = np.zeros((keys * steps, measures), np.int64)
        rows[table[:, 0]] = np.ascontiguousarray(table[:, 1:-1]).view(dtype)
        rows = rows.reshape(keys, steps, measures)
    return Chunk(view, block, start_ms, rows, batch)
