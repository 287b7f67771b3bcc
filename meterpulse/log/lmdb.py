"""The log in LMDB: a group of records is one transaction, and its commit is one fsync.

Not opened with `writemap`: writing into a sparse map on a full disk is a SIGBUS, a failed `write` is an error we can answer.
After a failed commit the environment is opened anew before anything is acknowledged again (a failed fsync may have dropped
the pages it could not write). A file that is shorter than its last page (a lost tail), or whose pages do not lead to every
entry, is salvaged entry by entry on opening.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lmdb

from meterpulse.log import CorruptEntry, Entry, Log, LogFull, Quarantined, Record
from meterpulse.log.packed import decode, decode_bad, encode, encode_bad, find_bad, find_entries
from meterpulse.model.gate import Gate
from meterpulse.model.mapfile import check_short, fill_up, for_want_of_room, is_short
from meterpulse.model.memory import let_go

_KEY = struct.Struct(">Q")
_NEXT = struct.Struct("<QQQ")  # next offset, rows so far, next quarantine key
_POSITION = b"position/"
_TRIM_A_COMMIT = 64
_CHECK_READERS_EVERY = 256  # appends
_PAGE = 4096


class LmdbLog(Log):
    """See Log. One process writes; others may open the same directory with `readonly`.

    `max_bytes` bounds what is kept: entries that are not trimmed yet, and the quarantine. The file may be up to twice as
    large, for pages that are free at the moment.
    """

    def __init__(self, directory: Path, max_bytes: int = 64 << 30, *, readonly: bool = False):
        self._directory, self._max_bytes, self._readonly = Path(directory), max_bytes, readonly
        self._lock = threading.Lock()  # one writer
        self._gate = Gate()  # no reader while the environment is opened anew
        self._trim_below = self._appends = 0
        self.salvaged: str | None = None
        if not readonly:
            self._directory.mkdir(parents=True, exist_ok=True)
        self._open()

    @classmethod
    def open(cls, directory: Path, settings: Any) -> LmdbLog:
        if not (directory / "data.mdb").exists() and any(directory.glob("*.json")):
            raise OSError(
                f"{directory} belongs to a log of another engine; a city stays with the log that it began with: set log.engine "
                "back, or begin with a new data folder"
            )
        return cls(directory, settings.max_bytes)

    @classmethod
    def follow(cls, directory: Path, settings: Any) -> LmdbLog:
        return cls(directory, settings.max_bytes, readonly=True)

    def _open(self) -> None:
        try:
            file = self._directory / "data.mdb"
            if not self._readonly and file.exists() and file.stat().st_size == 0:
                raise lmdb.CorruptedError("the file is empty")  # it would be taken for a new one
            self._open_files()
        except lmdb.Error as error:
            if self._readonly or isinstance(error, (lmdb.LockError, lmdb.ReadonlyError)):
                raise
            self._salvage(str(error))
            self._open_files()

    def _open_files(self) -> None:
        self._env = lmdb.open(
            str(self._directory), map_size=2 * self._max_bytes + (64 << 20), max_dbs=4, readonly=self._readonly, max_readers=64,
            create=not self._readonly,
        )  # fmt: skip
        try:
            file = self._directory / "data.mdb"
            short = not self._readonly and is_short(self._env, file)
            if short:
                check_short(self._env, file)
            self._entries = self._env.open_db(b"entries", create=not self._readonly)
            self._bad = self._env.open_db(b"quarantine", create=not self._readonly)
            self._meta = self._env.open_db(b"meta", create=not self._readonly)
            if not self._readonly:
                self._walk(read=short)
            with self._env.begin(buffers=True) as txn:
                self._load(txn)
        except lmdb.Error:
            self._env.close()
            raise

    def _walk(self, *, read: bool) -> None:
        """Every entry can be reached; raises lmdb.Error. What it holds is checked when it is read, or now."""
        with self._env.begin(buffers=True) as txn:
            for database, decoder in ((self._entries, decode), (self._bad, decode_bad)):
                found = 0
                for key, value in txn.cursor(database):
                    found += 1
                    if read:
                        try:
                            decoder(_KEY.unpack(key)[0], bytes(value))
                        except (CorruptEntry, ValueError) as error:
                            raise lmdb.CorruptedError(str(error)) from error
                if found != txn.stat(database)["entries"]:
                    raise lmdb.CorruptedError(f"{found} of {txn.stat(database)['entries']} entries can be reached")

    def refresh(self, at_least: int = 0) -> None:
        self._refresh()

    def fast_forward(self, offset: int, rows: int = 0) -> None:
        with self._lock, self._env.begin(write=True) as txn:
            self.end, self.rows = max(self.end, offset), max(self.rows, rows)
            txn.put(b"next", _NEXT.pack(self.end, self.rows, self._next_bad), db=self._meta)
        self._refresh()

    @property
    def quarantined_ever(self) -> int:
        return self._next_bad - 1

    def _refresh(self) -> None:
        with self._reading() as txn:
            self._load(txn)

    def _load(self, txn: lmdb.Transaction) -> None:
        found = txn.get(b"next", db=self._meta)
        self.end, self.rows, self._next_bad = _NEXT.unpack(found) if found else (0, 0, 1)
        with txn.cursor(self._entries) as cursor:
            self.first = _KEY.unpack(cursor.key())[0] if cursor.first() else self.end

    @contextlib.contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction]:
        """A read transaction; the environment stays open for as long as it lasts."""
        with self._gate.inside(), self._env.begin(buffers=True) as txn:
            yield txn

    @property
    def quarantine_count(self) -> int:
        """Rows in quarantine now."""
        with self._reading() as txn:
            return int(txn.stat(self._bad)["entries"])

    def append(
        self, records: Sequence[Record], bad: Sequence[Quarantined] = (), positions: Mapping[str, str] | None = None
    ) -> int:
        with self._lock:
            first, end, rows, next_bad = self.end, self.end, self.rows, self._next_bad
            values, rejected = [], []
            for record in records:
                values.append(encode(end, rows, record))
                end, rows = end + 1, rows + len(record.readings)
            for row in bad:
                rejected.append(encode_bad(next_bad, row))
                next_bad += 1
            try:
                self._make_room(sum(-(-len(v) // _PAGE) * _PAGE for v in values) + sum(map(len, rejected)))
                with self._env.begin(write=True) as txn:
                    for offset, value in enumerate(values, first):
                        txn.put(_KEY.pack(offset), value, db=self._entries, append=True)
                    for key, value in enumerate(rejected, self._next_bad):
                        txn.put(_KEY.pack(key), value, db=self._bad, append=True)
                    for name, position in (positions or {}).items():
                        txn.put(_POSITION + name.encode(), position.encode(), db=self._meta)
                    txn.put(b"next", _NEXT.pack(end, rows, next_bad), db=self._meta)
                    trimmed = self._trim_some(txn)
            except lmdb.MapFullError as error:
                raise self._full() from error
            except (lmdb.Error, OSError) as error:
                if isinstance(error, LogFull):
                    raise
                self._reopen()
                if for_want_of_room(error, self._directory):
                    raise LogFull(f"no space left for the log in {self._directory}") from error
                raise OSError(f"the log could not be written: {error}") from error
            fill_up(self._env, self._directory / "data.mdb")
            self.end, self.rows, self._next_bad = end, rows, next_bad
            self.first = max(self.first, trimmed)
            self._appends += 1
            if self._appends % _CHECK_READERS_EVERY == 0:
                self._env.reader_check()  # of processes that were killed while they read: they would keep every page
            return first

    def position(self, name: str) -> str | None:
        with self._reading() as txn:
            found = txn.get(_POSITION + name.encode(), db=self._meta)
            return None if found is None else bytes(found).decode()

    def _make_room(self, wanted: int) -> None:
        """Trims in a transaction of its own where the log is full: one that is full cannot trim any more."""
        if self._used() + wanted <= self._max_bytes:
            return
        while self.first < min(self._trim_below, self.end) and self._used() + wanted > self._max_bytes:
            with self._env.begin(write=True) as txn:
                self.first = max(self.first + 1, self._trim_some(txn))
        if self._used() + wanted > self._max_bytes:
            raise self._full()

    def _full(self) -> LogFull:
        return LogFull(f"the log has reached log.max_bytes = {self._max_bytes}; let the lake catch up or raise it")

    def _used(self) -> int:
        with self._env.begin() as txn:
            stats = [txn.stat(database) for database in (self._entries, self._bad)]
        return sum((s["branch_pages"] + s["leaf_pages"] + s["overflow_pages"]) * s["psize"] for s in stats)

    def _trim_some(self, txn: lmdb.Transaction) -> int:
        below = min(self._trim_below, self.end)
        at = self.first
        for offset in range(at, min(below, at + _TRIM_A_COMMIT)):
            txn.delete(_KEY.pack(offset), db=self._entries)
            at = offset + 1
        return at

    def _reopen(self) -> None:
        with self._gate.alone():
            self._env.close()
            self._open_files()

    def read(self, offset: int) -> Entry | None:
        if offset >= self.end and not self._readonly:
            return None
        with self._reading() as txn:
            value = txn.get(_KEY.pack(offset), db=self._entries)
            if value is not None:
                entry = decode(offset, value)
                let_go(value)  # the log is read once by each consumer; 5 GB of it would look like 5 GB of memory
                return entry
            found = txn.get(b"next", db=self._meta)
            if found is None or offset >= _NEXT.unpack(found)[0]:
                return None
        raise KeyError(f"log entry {offset} was trimmed")

    def following(self, offset: int) -> int:
        with self._reading() as txn, txn.cursor(self._entries) as cursor:
            return _KEY.unpack(cursor.key())[0] if cursor.set_range(_KEY.pack(offset)) else max(offset, self.end)

    def trim(self, below: int) -> None:
        self._trim_below = max(self._trim_below, below)

    def quarantined(self, after: int = 0, limit: int = 1000) -> Iterator[Quarantined]:
        found: list[Quarantined] = []
        with self._reading() as txn, txn.cursor(self._bad) as cursor:
            at = cursor.set_range(_KEY.pack(after + 1))
            while at and len(found) < limit:
                key = _KEY.unpack(cursor.key())[0]
                try:
                    found.append(decode_bad(key, bytes(cursor.value())))
                except CorruptEntry as error:
                    found.append(
                        Quarantined(
                            "damaged", str(error), "application/octet-stream", "", 0, bytes(cursor.value()), key
                        )
                    )
                at = cursor.next()
        return iter(found)

    def release(self, keys: Sequence[int]) -> int:
        with self._lock, self._env.begin(write=True) as txn:
            return sum(txn.delete(_KEY.pack(key), db=self._bad) for key in keys)

    def close(self) -> None:
        with self._lock, self._gate.alone():
            self._env.close()

    def _salvage(self, why: str) -> None:
        """Everything that still has its checksum goes into a new file; the damaged one is kept beside it."""
        damaged = self._directory / f"data.mdb.damaged-{int(time.time() * 1000)}"
        os.rename(self._directory / "data.mdb", damaged)
        (self._directory / "lock.mdb").unlink(missing_ok=True)
        found, bad = find_entries(damaged), find_bad(damaged)
        env = lmdb.open(str(self._directory), map_size=2 * self._max_bytes + (64 << 20), max_dbs=4)
        entries, quarantine, meta = (env.open_db(name) for name in (b"entries", b"quarantine", b"meta"))
        with open(damaged, "rb") as file, env.begin(write=True) as txn:
            end = rows = 0
            for database, places in ((entries, found), (quarantine, bad)):
                for number in sorted(places):
                    file.seek(places[number].at)
                    value = file.read(places[number].size)
                    txn.put(_KEY.pack(number), value, db=database, append=True)
                    if database is entries:
                        last = decode(number, value)
                        end, rows = number + 1, last.rows_before + len(last.record.readings)
            txn.put(b"next", _NEXT.pack(end, rows, max(bad, default=0) + 1), db=meta)
        env.close()
        self.salvaged = f"the log was damaged ({why}); {len(found)} entries were saved, the old file is {damaged.name}"
