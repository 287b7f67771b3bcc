"""Memory that is free inside this process goes back to the machine: after large work, and now and then."""

from __future__ import annotations

import ctypes
import gc

import pyarrow as pa


def give_back() -> None:
    """Returns free pages of the allocators; takes some milliseconds. Does nothing where the C library is not glibc."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
