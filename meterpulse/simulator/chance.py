"""Chance without a generator: a number is the hash of what it is for, so any slice of the city can be made alone.

The same function in two forms, for numpy columns and inside compiled loops (the finaliser of SplitMix64; Steele, Lea
and Flood 2014). All arithmetic is modulo 2^64.
"""

from __future__ import annotations

import numpy as np
from numba import njit, uint64

GOLDEN = 0x9E3779B97F4A7C15
_A, _B = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
MASK = 0xFFFFFFFFFFFFFFFF


def key_of(seed: int, purpose: str) -> int:
    """A 64-bit key for one purpose under a seed, from which `hashed` and `mix` make their numbers."""
    key = seed & MASK
    for byte in purpose.encode():
        key = int(hashed(key, np.array([byte]))[0])
    return key


def hashed(key: int, counter: np.ndarray) -> np.ndarray:
    """uint64[n] of a key and whole numbers[n]."""
    x = np.uint64(key) + np.asarray(counter).astype(np.uint64) * np.uint64(GOLDEN)
    x ^= x >> np.uint64(30)
    x *= np.uint64(_A)
    x ^= x >> np.uint64(27)
    x *= np.uint64(_B)
    return x ^ (x >> np.uint64(31))


def below(bits: np.ndarray, limit: int) -> np.ndarray:
    """int64[n] in [0, limit) from the upper 32 bits of hashes; limit up to 2^31."""
    return (((bits >> np.uint64(32)) * np.uint64(limit)) >> np.uint64(32)).astype(np.int64)


def with_chance(bits: np.ndarray, rate: float) -> np.ndarray:
    """bool[n]: true for the share `rate` (0 to 1) of the hashes."""
    return (bits >> np.uint64(11)) < np.uint64(round(rate * 2**53))


@njit(inline="always")
def mix(key, counter):
    """`hashed` for one counter, in compiled code."""
    x = uint64(key) + uint64(counter) * uint64(GOLDEN)
    x = (x ^ (x >> uint64(30))) * uint64(_A)
    x = (x ^ (x >> uint64(27))) * uint64(_B)
    return x ^ (x >> uint64(31))
