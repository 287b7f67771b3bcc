"""What the record says of a day where that is more than "measured, and validated": estimates, edits, doubts, as few rows.

The views of measured readings stay as they are. The **overlay** of a block of channels and a UTC day (view `record`) has a row
for each interval whose effective value or quality is another, at the 5-minute step in which it begins; `area_record` has what
that changes in the totals of groups. Of a day that is recorded, an interval without a row is measured and validated; of a
channel that is not judged (see `batch.loadprofiles.is_judged`), measured and raw.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import numpy as np

from meterpulse.model.window import DAY_MS
from meterpulse.stores import Sparse, Store

MISSING = -1  # in place of a quality: there is no value
STEPS = 288
_HAS_MEASURED, _HAS_QUANTITY = 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class Overlay:
    """k intervals, by key and time. `place` is key within the block * 288 + 5-minute step of the day."""

    place: np.ndarray  # uint32[k]
    seconds: np.ndarray  # int64[k], how long the interval is
    quantity: np.ndarray  # int64[k], effective, thousandths of the base unit; 0 where quality is MISSING
    quality: np.ndarray  # int32[k], packed; MISSING where there is no effective value
    measured: np.ndarray  # int64[k], 0 where nothing was measured
    has_measured: np.ndarray  # bool[k]
    method: np.ndarray  # int64[k], index into the methods of the day
    known_s: np.ndarray  # int64[k], when this was learned, seconds since 1970

    def __len__(self) -> int:
        return len(self.place)

    @property
    def key(self) -> np.ndarray:
        """int64[k]: the channel within its block."""
        return self.place.astype(np.int64) // STEPS

    @property
    def step(self) -> np.ndarray:
        """int64[k]: the 5-minute step of the day."""
        return self.place.astype(np.int64) % STEPS

    @property
    def change(self) -> np.ndarray:
        """int64[k]: effective minus measured, what is not known counting nothing."""
        return self.quantity - self.measured

    def equals(self, other: Overlay) -> bool:
        """Whether both say the same."""
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in _COLUMNS)

    def take(self, rows: np.ndarray) -> Overlay:
        """The rows of a mask or an index array."""
        return Overlay(*(getattr(self, name)[rows] for name in _COLUMNS))

    @classmethod
    def none(cls) -> Overlay:
        """Nothing to say."""
        return cls.decoded(np.empty(0, np.uint32), np.empty((0, 6), np.int64))

    @classmethod
    def concat(cls, parts: list[Overlay]) -> Overlay:
        """All of them, by place."""
        whole = cls(*(np.concatenate([getattr(p, name) for p in [cls.none(), *parts]]) for name in _COLUMNS))
        return whole.take(np.argsort(whole.place, kind="stable"))

    @classmethod
    def decoded(cls, place: np.ndarray, rows: np.ndarray) -> Overlay:
        """Of rows int64[k, 6] as `encoded` makes them."""
        has_quantity, has_measured = rows[:, 0] & _HAS_QUANTITY > 0, rows[:, 0] & _HAS_MEASURED > 0
        quality = np.where(has_quantity, rows[:, 3], MISSING).astype(np.int32)
        return cls(place, rows[:, 0] >> 2, rows[:, 1], quality, rows[:, 2], has_measured, rows[:, 4], rows[:, 5])

    def encoded(self) -> np.ndarray:
        """int64[k, 6]; the first number of a row is never 0."""
        has_quantity = self.quality != MISSING
        state = self.seconds << 2 | has_quantity * _HAS_QUANTITY | self.has_measured * _HAS_MEASURED
        grade = np.where(has_quantity, self.quality, 0)
        return np.column_stack((state, self.quantity, self.measured, grade, self.method, self.known_s)).astype(np.int64)

    def chunk(self, block: int, day: int, keys: int) -> Sparse:
        """As the store takes it."""
        return Sparse("record", block, day * DAY_MS, keys, self.place, self.encoded())


_COLUMNS = tuple(Overlay.__dataclass_fields__)


def overlay_of(store: Store, block: int, day: int) -> Overlay:
    """Of a whole block; raises CorruptChunk."""
    found = store.sparse("record", block, day * DAY_MS)
    return Overlay.none() if found is None else Overlay.decoded(found.places, found.rows)


@dataclass(frozen=True)
class Recorded:
    """What is noted of a day that has a record. `known_s`: when what has no row of its own was learned; `versions`: of the
    rules that judged, by the number of the channels' profile in the registry; `is_followed`: it was made when the day after it
    was there as well, which it depends on."""

    known_s: int
    methods: list[str] = field(default_factory=lambda: [""])
    versions: dict[int, int] = field(default_factory=dict)
    is_followed: bool = True

    def text(self) -> bytes:
        """As it is noted."""
        told = {"known": self.known_s, "methods": self.methods, "versions": self.versions, "followed": self.is_followed}
        return json.dumps(told).encode()

    @classmethod
    def of(cls, text: bytes) -> Recorded:
        """The inverse of `text`."""
        told = json.loads(text)
        versions = {int(k): v for k, v in told["versions"].items()}
        return cls(told["known"], told["methods"], versions, told["followed"])

    def with_methods(self, names: list[str]) -> Recorded:
        """The same, with names that it did not have behind those it had: rows that are stored keep their meaning."""
        return replace(self, methods=[*self.methods, *(n for n in dict.fromkeys(names) if n not in self.methods)])
