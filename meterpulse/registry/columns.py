"""A column: an array in a file that grows at its end, read through a map and written with plain writes.

Writes go through `pwrite`, not through the map, so that a full disk is an OSError and not a signal that ends the
process. The file is made longer than what it holds (the rest is a hole); how many values count is known by the owner.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np

from meterpulse.model.problem import Problem


class Column:
    """Values of one dtype in the file `path`. `view` is the whole capacity, read-only; grown columns get a new view,
    and the older ones stay readable and see later writes to the places that they cover."""

    def __init__(self, path: Path, dtype: np.dtype | type, count: int):
        self.path, self.dtype = path, np.dtype(dtype)
        existed = path.exists()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        size = os.fstat(self._file).st_size
        if size < count * self.dtype.itemsize:
            os.close(self._file)
            raise Problem(
                500,
                "registry-damaged",
                "The registry is damaged",
                f"{path} holds {size} bytes of {count * self.dtype.itemsize} that were committed; restore a backup",
            )
        if not existed:
            sync_directory(path.parent)
        self._dirty = False
        self._map(max(size // self.dtype.itemsize, 4096))

    def reserve(self, count: int) -> None:
        """Make room for `count` values."""
        if count > self.view.size:
            self._map(max(count, self.view.size * 3 // 2))

    def write(self, at: int, values: np.ndarray) -> None:
        """Put `values` at index `at`; they are on disk after `sync`. Raises OSError where the disk is full."""
        if not len(values):
            return
        self.reserve(at + len(values))
        rest = memoryview(np.ascontiguousarray(values, self.dtype)).cast("B")
        position = at * self.dtype.itemsize
        self._dirty = True
        while rest:
            written = os.pwrite(self._file, rest, position)
            rest, position = rest[written:], position + written

    def put(self, indices: np.ndarray, values: np.ndarray) -> None:
        """Replace the values at the (ascending, different) `indices`; neighbours go in one write."""
        breaks = np.flatnonzero(np.diff(indices.astype(np.int64)) != 1) + 1
        for run, new in zip(np.split(indices, breaks), np.split(values, breaks), strict=True):
            if len(run):
                self.write(int(run[0]), new)

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

    def _map(self, capacity: int) -> None:
        size = -(-capacity * self.dtype.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE
        if os.fstat(self._file).st_size < size:
            os.ftruncate(self._file, size)
        memory = mmap.mmap(self._file, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        self.view = np.frombuffer(memory, self.dtype)


def sync_directory(directory: Path) -> None:
    """Returns once the names in a directory are on disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
