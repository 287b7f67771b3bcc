"""A column: an array in a file that grows at its end, read through a map or from memory, and written with plain writes.

Writes go through `pwrite`, not through a map, so that a full disk is an OSError and not a signal that ends the process.
The file is made longer than what it holds (the rest is a hole); how many values count is known by the owner.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np

from meterpulse.model.problem import Problem

_LEAST = 4096  # values that a new file has room for


class Column:
    """Values of one dtype in the file `path`. `view` is the whole capacity, read-only, and follows what is written; a
    grown column gets a new view, and the older ones go on following the places that they cover."""

    view: np.ndarray

    def __init__(self, path: Path, dtype: np.dtype | type, count: int):
        self.path, self.dtype = path, np.dtype(dtype)
        existed = path.exists()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._dirty = False
        size = os.fstat(self._file).st_size
        if size < count * self.dtype.itemsize:
            self.close()
            raise Problem(
                500,
                "registry-damaged",
                "The registry is damaged",
                f"{path} holds {size} bytes of {count * self.dtype.itemsize} that were committed; restore a backup",
            )
        if not existed:
            sync_directory(path.parent)
        self._open(max(size // self.dtype.itemsize, _LEAST), count)

    def write(self, at: int, values: np.ndarray) -> None:
        """Put `values` behind the others, at index `at`; on disk after `sync`. Raises OSError when the disk is full."""
        self._reserve(at + len(values))
        self._write(at, values)

    def put(self, indices: np.ndarray, values: np.ndarray) -> None:
        """Replace the values at the (ascending, different) `indices`; neighbours go in one write."""
        breaks = np.flatnonzero(np.diff(indices.astype(np.int64)) != 1) + 1
        for run, new in zip(np.split(indices, breaks), np.split(values, breaks), strict=True):
            if len(run):
                self._write(int(run[0]), new)

    def sync(self) -> None:
        """Returns once everything written is on disk."""
        if self._dirty:
            os.fdatasync(self._file)
            self._dirty = False

    def close(self) -> None:
        """Close the file; views stay readable."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, at: int, values: np.ndarray) -> None:
        rest = memoryview(np.ascontiguousarray(values, self.dtype)).cast("B")
        position = at * self.dtype.itemsize
        self._dirty = True
        while rest:
            written = os.pwrite(self._file, rest, position)
            rest, position = rest[written:], position + written

    def _reserve(self, count: int) -> None:
        if count > self.view.size:
            self._open(max(count, self.view.size * 3 // 2), self.view.size)

    def _open(self, capacity: int, count: int) -> None:
        """Make the file `capacity` long and `view` its values, of which `count` matter."""
        size = self._lengthen(capacity)
        self.view = np.frombuffer(mmap.mmap(self._file, size, mmap.MAP_SHARED, mmap.PROT_READ), self.dtype)

    def _lengthen(self, capacity: int) -> int:
        size = -(-capacity * self.dtype.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE
        if os.fstat(self._file).st_size < size:
            os.ftruncate(self._file, size)
        return size


class SnapshotColumn(Column):
    """A column of which a `view`, cut to the values there are, never changes: what the hot path derives from it, such
    as the number of areas, holds for all of it. The values are in memory; a change in place makes a copy."""

    def write(self, at: int, values: np.ndarray) -> None:
        """Put `values` behind the others: no view that was cut before covers them."""
        super().write(at, values)
        self.view[at : at + len(values)] = values
        self._count = at + len(values)

    def put(self, indices: np.ndarray, values: np.ndarray) -> None:
        """Replace the values at the `indices`, in the file and in a new view."""
        super().put(indices, values)
        self.view = self._copy(self.view.size)
        self.view[indices] = values

    def _open(self, capacity: int, count: int) -> None:
        capacity = self._lengthen(capacity) // self.dtype.itemsize
        if hasattr(self, "view"):
            self.view = self._copy(capacity)
        else:
            self._count = count
            self.view = np.empty(capacity, self.dtype)
            self.view[:count] = np.fromfile(self.path, self.dtype, count)

    def _copy(self, capacity: int) -> np.ndarray:
        copy = np.empty(capacity, self.dtype)
        copy[: self._count] = self.view[: self._count]
        return copy


def sync_directory(directory: Path) -> None:
    """Returns once the names in a directory are on disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
