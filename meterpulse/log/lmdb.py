"""The log in LMDB: a group of records is one transaction, and its commit is one fsync.

Not opened with `writemap`: writing into a sparse map on a full disk is a SIGBUS, a failed `write` is an error we can answer.
After a failed commit the environment is opened anew before anything is acknowledged again (a failed fsync may have dropped
the pages it could not write). A file that is shorter than its last page (a lost tail) is salvaged entry by entry on opening.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import lmdb
import orjson
import xxhash

from meterpulse.log import CorruptEntry, Entry, Log, LogFull, Quarantined, Record
from meterpulse.model.reading import pack, unpack

_KEY = struct.Struct(">Q")
_HEAD = struct.Struct(
    "<4sBBHQQQqQ"
)  # magic, live, -, source bytes, offset, rows before, rows, received ms, payload bytes
_SUM = struct.Struct("<Q")
_MAGIC = b"MPL1"
_NEXT = struct.Struct("<QQQ")  # next offset, rows so far, next quarantine key
_TRIM_A_COMMIT = 64


class LmdbLog(Log):
    """See Log. One process writes; others may open the same directory with `readonly`."""

    def __init__(self, directory: Path, max_bytes: int = 64 << 30, *, readonly: bool = False):
        self._directory, self._max_bytes, self._readonly = Path(directory), max_bytes, readonly
        self._lock = threading.Lock()
        self._trim_below = 0
        self.salvaged: str | None = None
        if not readonly:
            self._directory.mkdir(parents=True, exist_ok=True)
        self._open()

    def _open(self) -> None:
        try:
            self._open_files()
        except lmdb.Error as error:
            if self._readonly or isinstance(error, (lmdb.LockError, lmdb.ReadonlyError)):
                raise
            self._salvage(str(error))
            self._open_files()

    def _open_files(self) -> None:
        self._env = lmdb.open(
            str(self._directory),
            map_size=self._max_bytes,
            max_dbs=4,
            readonly=self._readonly,
            max_readers=64,
            create=not self._readonly,
        )
        size = (self._directory / "data.mdb").stat().st_size
        wanted = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
        if size < wanted and not self._readonly:
            self._env.close()
            self._salvage(f"the file has {size} bytes of {wanted}")
            return self._open_files()
        self._entries = self._env.open_db(b"entries", create=not self._readonly)
        self._bad = self._env.open_db(b"quarantine", create=not self._readonly)
        self._meta = self._env.open_db(b"meta", create=not self._readonly)
        self._refresh()

    def refresh(self) -> None:
        """Sees what another process has appended."""
        self._refresh()

    def fast_forward(self, offset: int) -> None:
        """Gives no offset below this one again: consumers were further than a salvaged log."""
        with self._lock, self._env.begin(write=True) as txn:
            self.end = max(self.end, offset)
            txn.put(b"next", _NEXT.pack(self.end, self.rows, self._next_bad), db=self._meta)
        self._refresh()

    @property
    def quarantined_ever(self) -> int:
        """Rows that were put in quarantine since the beginning."""
        return self._next_bad - 1

    def _refresh(self) -> None:
        with self._env.begin(buffers=True) as txn:
            found = txn.get(b"next", db=self._meta)
            self.end, self.rows, self._next_bad = _NEXT.unpack(found) if found else (0, 0, 1)
            with txn.cursor(self._entries) as cursor:
                self.first = _KEY.unpack(cursor.key())[0] if cursor.first() else self.end

    @property
    def quarantine_count(self) -> int:
        """Rows in quarantine now."""
        with self._env.begin() as txn:
            return int(txn.stat(self._bad)["entries"])

    def append(self, records: Sequence[Record], bad: Sequence[Quarantined] = ()) -> int:
        with self._lock:
            first, end, rows, next_bad = self.end, self.end, self.rows, self._next_bad
            try:
                with self._env.begin(write=True) as txn:
                    for record in records:
                        txn.put(_KEY.pack(end), _encode(end, rows, record), db=self._entries, append=True)
                        end, rows = end + 1, rows + len(record.readings)
                    for row in bad:
                        txn.put(_KEY.pack(next_bad), _encode_bad(row), db=self._bad, append=True)
                        next_bad += 1
                    txn.put(b"next", _NEXT.pack(end, rows, next_bad), db=self._meta)
                    trimmed = self._trim_some(txn)
            except lmdb.MapFullError as error:
                raise LogFull(
                    f"the log has reached log.max_bytes = {self._max_bytes}; let the lake catch up or raise it"
                ) from error
            except (lmdb.Error, OSError) as error:
                self._reopen()
                if "No space" in str(error) or getattr(error, "errno", None) == 28:
                    raise LogFull(f"no space left for the log in {self._directory}") from error
                raise OSError(f"the log could not be written: {error}") from error
            self.end, self.rows, self._next_bad = end, rows, next_bad
            self.first = max(self.first, trimmed)
            return first

    def _trim_some(self, txn: lmdb.Transaction) -> int:
        below = min(self._trim_below, self.end)
        at = self.first
        for offset in range(at, min(below, at + _TRIM_A_COMMIT)):
            txn.delete(_KEY.pack(offset), db=self._entries)
            at = offset + 1
        return at

    def _reopen(self) -> None:
        self._env.close()
        self._open_files()

    def read(self, offset: int) -> Entry | None:
        if offset >= self.end and not self._readonly:
            return None
        with self._env.begin(buffers=True) as txn:
            value = txn.get(_KEY.pack(offset), db=self._entries)
            if value is not None:
                return _decode(offset, value)
            found = txn.get(b"next", db=self._meta)
        if found is None or offset >= _NEXT.unpack(found)[0]:
            return None
        raise KeyError(f"log entry {offset} was trimmed")

    def trim(self, below: int) -> None:
        self._trim_below = max(self._trim_below, below)

    def quarantined(self, after: int = 0, limit: int = 1000) -> Iterator[Quarantined]:
        with self._env.begin() as txn, txn.cursor(self._bad) as cursor:
            if not cursor.set_range(_KEY.pack(after + 1)):
                return
            for count, (key, value) in enumerate(cursor):
                if count >= limit:
                    return
                yield _decode_bad(_KEY.unpack(key)[0], value)

    def release(self, keys: Sequence[int]) -> int:
        with self._lock, self._env.begin(write=True) as txn:
            return sum(txn.delete(_KEY.pack(key), db=self._bad) for key in keys)

    def close(self) -> None:
        self._env.close()

    def _salvage(self, why: str) -> None:
        """Every entry that still has its checksum goes into a new file; the damaged one is kept beside it."""
        damaged = self._directory / f"data.mdb.damaged-{int(time.time() * 1000)}"
        os.rename(self._directory / "data.mdb", damaged)
        (self._directory / "lock.mdb").unlink(missing_ok=True)
        found = dict(_scan(damaged))
        offsets = sorted(found)
        env = lmdb.open(str(self._directory), map_size=self._max_bytes, max_dbs=4)
        entries, meta = env.open_db(b"entries"), env.open_db(b"meta")
        env.open_db(b"quarantine")
        with env.begin(write=True) as txn:
            for offset in offsets:
                txn.put(_KEY.pack(offset), found[offset], db=entries, append=True)
            if offsets:
                last = _decode(offsets[-1], found[offsets[-1]])
                rows = last.rows_before + len(last.record.readings)
                # Keys beyond any that were given out, so that no quarantine key is used twice.
                txn.put(b"next", _NEXT.pack(offsets[-1] + 1, rows, int(time.time() * 1000)), db=meta)
        env.close()
        self.salvaged = (
            f"the log was damaged ({why}); {len(offsets)} entries were saved, the old file is {damaged.name}"
        )


def _encode(offset: int, rows_before: int, record: Record) -> bytes:
    payload, source = pack(record.readings), record.source.encode()[:200]
    head = (
        _HEAD.pack(
            _MAGIC,
            record.live,
            0,
            len(source),
            offset,
            rows_before,
            len(record.readings),
            record.received_ms,
            len(payload),
        )
        + source
    )
    digest = xxhash.xxh3_64(head)
    digest.update(payload)
    return b"".join((head, _SUM.pack(digest.intdigest()), payload))


def _decode(offset: int, value: bytes | memoryview) -> Entry:
    view = memoryview(value)
    if len(view) < _HEAD.size + _SUM.size:
        raise CorruptEntry(offset, "too short")
    magic, live, _, source_bytes, at, rows_before, _, received_ms, size = _HEAD.unpack_from(view, 0)
    body = _HEAD.size + source_bytes + _SUM.size
    if magic != _MAGIC or at != offset or len(view) < body + size:
        raise CorruptEntry(offset, "header")
    digest = xxhash.xxh3_64(view[: _HEAD.size + source_bytes])
    digest.update(view[body : body + size])
    if digest.intdigest() != _SUM.unpack_from(view, _HEAD.size + source_bytes)[0]:
        raise CorruptEntry(offset, "checksum")
    source = bytes(view[_HEAD.size : _HEAD.size + source_bytes]).decode()
    return Entry(offset, rows_before, Record(source, unpack(view[body : body + size]), received_ms, bool(live)))


def _scan(file: Path) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of every entry in a damaged file whose checksum holds."""
    if file.stat().st_size == 0:
        return
    with open(file, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(_MAGIC)
        while at >= 0:
            if at + _HEAD.size <= len(data):
                _, _, _, source_bytes, offset, _, _, _, size = _HEAD.unpack_from(data, at)
                value = data[at : at + _HEAD.size + source_bytes + _SUM.size + size] if size < len(data) else b""
                try:
                    _decode(offset, value)
                    yield offset, value
                except (CorruptEntry, ValueError):
                    pass
            at = data.find(_MAGIC, at + 1)


def _encode_bad(row: Quarantined) -> bytes:
    meta = orjson.dumps([row.reason, row.detail, row.media_type, row.source, row.received_ms])
    return struct.pack("<I", len(meta)) + meta + row.original


def _decode_bad(key: int, value: bytes) -> Quarantined:
    size = struct.unpack_from("<I", value)[0]
    reason, detail, media_type, source, received_ms = orjson.loads(value[4 : 4 + size])
    return Quarantined(reason, detail, media_type, source, received_ms, bytes(value[4 + size :]), key)
