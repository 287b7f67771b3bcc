"""Memory that is free inside this process goes back to the machine: after large work, and now and then."""

from __future__ import annotations

import ctypes
import gc
import mmap

import numpy as np
import pyarrow as pa

_LARGE = 16 * mmap.PAGESIZE  # what is smaller is not worth a call to the system
_library = ctypes.CDLL(None)


def give_back() -> None:
    """Returns free pages of the allocators; takes some milliseconds. Does nothing where the C library is not glibc."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    trim = getattr(_library, "malloc_trim", None)
    if trim is not None:
        trim(0)


def let_go(mapped: bytes | memoryview) -> None:
    """Of a part of a mapped file that was read and is not needed again soon: its pages stay with the system's cache and stop
    being memory of this process. What is read there afterwards comes from the cache again. Whole pages only.
    """
    if len(mapped) < _LARGE or not hasattr(mmap, "MADV_DONTNEED"):
        return
    address = np.frombuffer(mapped, np.uint8).ctypes.data
    first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    size = (address + len(mapped) - first) // mmap.PAGESIZE * mmap.PAGESIZE
    if size > 0:
        _library.madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), mmap.MADV_DONTNEED)
