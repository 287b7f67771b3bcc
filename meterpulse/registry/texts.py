"""Text to dense index and back: a persistent, exact, append-only hash over files.

Three files carry the name of the index: `.cells` (16 bytes per text, see `cells`), `.heap` (the texts of more than 15
bytes) and `.slots` (the hash table, a copy as of some count of texts, with a checksum). Cells and heap are the truth;
the slots are mapped copy-on-write, texts added since are put in at opening, and a missing or damaged table is made
anew.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from meterpulse.registry import cells as loops
from meterpulse.registry.columns import Column, sync_directory

_HEADER = np.dtype([("magic", "S8"), ("slots", "<u8"), ("count", "<u8"), ("checksum", "<u8")])
_HEADER_BYTES = 4096  # the slots start on a page, so each group of 8 is one cache line
_MAGIC = b"MPSLOTS1"
_FULL = 0.8  # of the slots, at most
_ROOMY = 0.625  # of the slots, after growing
_CHUNK = 1 << 20
_TAIL = 1 << 16  # texts that may be missing in the file of slots before it is written again


@dataclass(frozen=True, slots=True)
class TextView:
    """The first `count` texts, for any thread, whatever is added meanwhile."""

    slots: np.ndarray
    cells: np.ndarray
    heap: np.ndarray
    count: int

    def find(self, offsets: np.ndarray, data: np.ndarray) -> np.ndarray:
        """uint32[n]: the indices of n texts in Arrow's layout, offsets int32|int64[n + 1] and bytes; NOT_FOUND if
        unknown."""
        out = np.empty(max(len(offsets) - 1, 0), np.uint32)
        if len(out):
            data = np.ascontiguousarray(data).view(np.uint8)
            if offsets[0] < 0 or offsets[-1] > data.size:
                raise ValueError("offsets point outside of the data")
            loops.find(_frozen(self.slots), self.cells, self.heap, self.count, _frozen(offsets), _frozen(data), out)
        return out

    def find_one(self, text: str) -> int:
        """The index of one text, or NOT_FOUND."""
        data = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
        return int(self.find(np.array([0, data.size], np.int64), data)[0])

    def texts(self, indices: np.ndarray) -> pa.Array:
        """The texts of the indices (large_string where they exceed 2 GB, else string), null for NOT_FOUND."""
        indices = np.ascontiguousarray(indices, np.uint32)
        known = indices != loops.NOT_FOUND
        if np.any(indices[known] >= self.count):
            raise IndexError(f"an index is beyond the {self.count} there are")
        offsets = np.empty(len(indices) + 1, np.int64)
        out = np.empty(loops.lengths_of(self.cells, indices, offsets), np.uint8)
        loops.copy_texts(self.cells, self.heap, indices, offsets, out)
        wide = out.size > 2**31 - 1
        kind = pa.large_string() if wide else pa.string()
        valid = None if known.all() else pa.array(known).buffers()[1]
        ends = pa.py_buffer(offsets if wide else offsets.astype(np.int32))
        return pa.Array.from_buffers(kind, len(indices), [valid, ends, pa.py_buffer(out)])


class TextIndex:
    """One set of texts. `add` writes, `sync` makes it durable, the owner commits `count` and `heap_used`, then
    publishes `view()`. The slots are loaded when first needed."""

    def __init__(self, directory: Path, name: str, count: int, heap_used: int):
        self.directory, self.name = directory, name
        self.count, self.heap_used = count, heap_used
        self._cells = Column(directory / f"{name}.cells", np.uint64, 2 * count)
        self._heap = Column(directory / f"{name}.heap", np.uint8, heap_used)
        self._slots: np.ndarray | None = None
        self._saved = 0  # texts in the file of slots

    @property
    def slots(self) -> np.ndarray:
        """The hash table, loaded or made anew at the first use."""
        if self._slots is None:
            self._slots, self._saved = self._load()
        return self._slots

    def view(self) -> TextView:
        """The texts as they are now."""
        return TextView(self.slots, self._cells.view, self._heap.view, self.count)

    def reserve(self, count: int) -> None:
        """Make room in the slots for `count` texts in all."""
        if count > _FULL * self.slots.size:
            self._slots, self._saved = self._build(count), 0

    def add(self, offsets: np.ndarray, data: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """uint32[n]: the indices of the texts where `wanted`, new ones following in order of appearance; else
        NOT_FOUND."""
        out = np.full(len(offsets) - 1, loops.NOT_FOUND)
        number = int(np.count_nonzero(wanted))
        if not number:
            return out
        self.reserve(self.count + number)
        new_cells = np.empty(2 * number, np.uint64)
        new_heap = np.empty(int(offsets[-1] - offsets[0]), np.uint8)
        added, heap_added = loops.add(
            self.slots,
            self._cells.view,
            self._heap.view,
            self.count,
            _frozen(offsets),
            _frozen(data),
            wanted,
            new_cells,
            new_heap,
            self.heap_used,
            out,
        )
        self._heap.write(self.heap_used, new_heap[:heap_added])
        self._cells.write(2 * self.count, new_cells[: 2 * added])
        self.count, self.heap_used = self.count + int(added), self.heap_used + int(heap_added)
        return out

    def sync(self) -> None:
        """Returns once all texts are on disk."""
        self._heap.sync()
        self._cells.sync()

    def save(self, tail: int = _TAIL) -> None:
        """Write the slots to their file if more than `tail` texts (or an eighth) are missing there. A full disk does no
        harm: the table is then made anew at the next opening."""
        if self._slots is None or self.count - self._saved <= max(tail, self._saved // 8 if tail else 0):
            return
        path = self.directory / f"{self.name}.slots"
        fresh = path.with_suffix(".slots.new")
        header = np.zeros(1, _HEADER)
        header[0] = (_MAGIC, self._slots.size, self.count, xxhash.xxh3_64_intdigest(self._slots))
        try:
            with open(fresh, "wb") as file:
                file.write(header.tobytes().ljust(_HEADER_BYTES, b"\0"))
                file.write(memoryview(self._slots).cast("B"))
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, path)
            sync_directory(self.directory)
        except OSError:
            fresh.unlink(missing_ok=True)
            return
        self._slots, self._saved = _map_slots(path), self.count  # gives the private memory back

    def close(self) -> None:
        """Save the slots and close the files."""
        self.save(tail=0)
        self.abandon()

    def abandon(self) -> None:
        """Close the files as they are."""
        self._cells.close()
        self._heap.close()

    def _load(self) -> tuple[np.ndarray, int]:
        path = self.directory / f"{self.name}.slots"
        saved = _saved_count(path)
        if saved is None or saved > self.count or self.count > _FULL * (slots := _map_slots(path)).size:
            return self._build(self.count), 0
        loops.index_cells(slots, self._cells.view, saved, self.count)
        return slots, saved

    def _build(self, count: int) -> np.ndarray:
        size = max(1024, -(-int(count / _ROOMY) // loops.GROUP) * loops.GROUP)
        memory = mmap.mmap(-1, 8 * size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):  # a kernel may have none
            memory.madvise(mmap.MADV_HUGEPAGE)  # every access is to another page
        slots = np.frombuffer(memory, np.uint64)
        loops.index_cells(slots, self._cells.view, 0, self.count)
        return slots


def _saved_count(path: Path) -> int | None:
    """How many texts a file of slots holds; None if there is none or it is not whole."""
    try:
        with open(path, "rb") as file:
            header = np.frombuffer(file.read(_HEADER_BYTES)[: _HEADER.itemsize], _HEADER)[0]
            size = os.fstat(file.fileno()).st_size
            if header["magic"] != _MAGIC or size != _HEADER_BYTES + 8 * int(header["slots"]):
                return None
            digest = xxhash.xxh3_64()
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except (OSError, IndexError, ValueError):
        return None
    return int(header["count"]) if digest.intdigest() == int(header["checksum"]) else None


def _map_slots(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return np.frombuffer(memory, np.uint64, offset=_HEADER_BYTES)


def _frozen(array: np.ndarray) -> np.ndarray:
    """A read-only view: one type for the compiled loops, wherever an array comes from."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
