"""A city's registry content from a seed: customers, usage points, meters, channels; columns only, a few bytes per
customer.

Channels have the city's own dense indices, in eight blocks: electricity, gas and water of all customers (households
first), then solar export, registers of electricity, gas and water, and voltage, each of those on a share of the
customers. Customer number 12 has E-000012, G-000012, W-000012 and perhaps X-, RE-, RG-, RW- and V-000012.

>>> city = City(households=100, businesses=6, seed=1)
>>> first = next(city.channels())
>>> first.id, first.customer, first.unit, first.time_zone
('E-000001', 'H-000001', 'kWh', 'America/New_York')
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from meterpulse.model.channel import Channel, Utility
from meterpulse.simulator import customers, places
from meterpulse.simulator.chance import below, hashed, key_of, with_chance
from meterpulse.simulator.places import Area

NEW_YORK = (8_206_739, 536_890)  # households and businesses
HEARTBEAT_SECONDS = 5
CHUNK = 1 << 20


@dataclass(frozen=True)
class Block:
    """What the channels of a block have in common; they have dense indices from `first` on, one for each of its
    customers.
    """

    prefix: str
    utility: str
    unit: str
    scale: int  # thousandths of the base unit in one unit
    direction: str = "delivered"
    kind: str = "interval"
    digits: int | None = None  # of a register: it shows this many whole units


BLOCKS = (
    Block("E", "electricity", "kWh", 10**6),
    Block("G", "gas", "m3", 10**6),
    Block("W", "water", "L", 10**3),
    Block("X", "electricity", "kWh", 10**6, direction="received"),
    Block("RE", "electricity", "kWh", 10**6, kind="register", digits=7),
    Block("RG", "gas", "m3", 10**6, kind="register", digits=7),
    Block("RW", "water", "L", 10**3, kind="register", digits=9),
    Block("V", "electricity", "V", 10**3, kind="gauge"),
)
# The public shape of a channel; texts that repeat are dictionaries.
_WORD = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "usage_point", "meter", "customer")]
    + [(name, _WORD) for name in ("utility", "unit", "direction", "kind", "class", "area", "time_zone")]
    + [("interval_seconds", pa.int32()), ("multiplier", pa.int32()), ("digits", pa.int32())]
)


def businesses_for(households: int) -> int:
    """As many businesses as New York has for so many households (8,206,739 : 536,890); at least one."""
    return max(1, round(households * NEW_YORK[1] / NEW_YORK[0]))


@dataclass(frozen=True, eq=False)
class City:
    """Deterministic in its fields. `solar`, `cars`, `registers` and `gauges` are shares of the customers, 0 to 1.

    Raises ValueError for shares, counts or utilities that make no city.
    """

    households: int = 10_000
    businesses: int | None = None  # None: in New York's ratio
    seed: int = 1
    utilities: tuple[str, ...] = ("electricity", "gas", "water")
    solar: float = 0.04
    cars: float = 0.06
    registers: float = 0.01
    gauges: float = 0.01

    def __post_init__(self) -> None:
        if self.businesses is None:
            object.__setattr__(self, "businesses", businesses_for(self.households))
        unknown = sorted(set(self.utilities) - set(Utility.__members__))
        if unknown or not self.utilities:
            raise ValueError(
                f"utilities {', '.join(unknown) or '(none)'}: a city takes any of {', '.join(Utility.__members__)}"
            )
        if self.households < 0 or self.businesses < 0 or not 1 <= self.customers <= 500_000_000:
            raise ValueError(
                f"{self.households} households and {self.businesses} businesses: a city takes 1 to 500000000 customers"
            )
        for name in ("solar", "cars", "registers", "gauges"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it takes a share from 0 to 1")
        if self.count >= 2**32 - 1:
            raise ValueError(f"{self.count} channels do not fit into 32 bits; take fewer households")

    @property
    def customers(self) -> int:
        """Households and businesses together."""
        return self.households + self.businesses

    @property
    def count(self) -> int:
        """The number of channels."""
        return int(self.blocks[-1])

    @cached_property
    def key(self) -> int:
        """What the customers' own chances hang on."""
        return key_of(self.seed, "customer")

    @cached_property
    def blocks(self) -> np.ndarray:
        """int64[9]: the first dense index of each block, and the end."""
        sizes = [self.customers * (b.utility in self.utilities) for b in BLOCKS[:3]] + [len(m) for m in self._members]
        return np.concatenate(([0], np.cumsum(np.array(sizes, np.int64))))

    @cached_property
    def members(self) -> np.ndarray:
        """uint32: the customers of the blocks from solar on, one block after the other."""
        return np.concatenate([np.empty(0, np.uint32), *self._members])

    @cached_property
    def _members(self) -> list[np.ndarray]:
        power = "electricity" in self.utilities
        with_panels = self._share("solar", self.solar if power else 0)
        with_register = self._share("registers", self.registers)
        none = with_register[:0]
        registers = [with_register if b.utility in self.utilities else none for b in BLOCKS[4:7]]
        return [with_panels, *registers, self._share("gauges", self.gauges if power else 0)]

    def _share(self, purpose: str, rate: float) -> np.ndarray:
        if rate == 0:
            return np.empty(0, np.uint32)
        key = key_of(self.seed, purpose)
        parts = [
            first + np.flatnonzero(with_chance(hashed(key, np.arange(first, min(first + CHUNK, self.customers))), rate))
            for first in range(0, self.customers, CHUNK)
        ]
        return np.concatenate(parts).astype(np.uint32)

    @cached_property
    def area(self) -> np.ndarray:
        """uint16[customers]: each one's postcode as an index into `places.postcodes()`."""
        out = np.empty(self.customers, np.uint16)
        bounds = [np.cumsum([getattr(p, name) for p in places.postcodes()]) for name in ("homes", "businesses")]
        key = key_of(self.seed, "postcode")
        for first, end, bound in ((0, self.households, bounds[0]), (self.households, self.customers, bounds[1])):
            for at in range(first, end, CHUNK):
                rows = np.arange(at, min(at + CHUNK, end))
                out[rows[0] : rows[-1] + 1] = np.searchsorted(
                    bound, below(hashed(key, rows), int(bound[-1])), side="right"
                )
        return out

    @cached_property
    def traits(self) -> np.ndarray:
        """uint64[customers]: see `customers`."""
        out = np.empty(self.customers, np.uint64)
        size = np.array([customers.BOROUGH_SIZE[p.borough] for p in places.postcodes()], np.int64)
        customers.draw(np.uint64(self.key), 0, self.households, size, self.area, round(self.cars * 65_536), out)
        return out

    @cached_property
    def quiet(self) -> np.ndarray:
        """uint64: what `load` has found out about the channels before solar, so as not to look again; see
        `kernel.fill`.
        """
        return np.zeros(int(self.blocks[3]), np.uint64)

    def areas(self) -> tuple[Area, ...]:
        """City, boroughs and postcodes, parents first."""
        return places.areas()

    def block_of(self, channels: np.ndarray) -> np.ndarray:
        """int64[n]: the block (index into BLOCKS) of each channel."""
        return np.searchsorted(self.blocks, channels, side="right") - 1

    def customer_of(self, channels: np.ndarray) -> np.ndarray:
        """int64[n]: each channel's customer, households first, from 0."""
        channels = np.asarray(channels, np.int64)
        own = channels - self.blocks[self.block_of(channels)]
        shared = channels >= self.blocks[3]
        own[shared] = self.members[channels[shared] - self.blocks[3]]
        return own

    def area_of(self, channels: np.ndarray) -> np.ndarray:
        """uint16[n]: the postcode of each channel, as an index into `places.postcodes()`."""
        return self.area[self.customer_of(channels)]

    def ids(self, channels: np.ndarray) -> pa.Array:
        """The text ids of channels[n]."""
        channels = np.asarray(channels, np.int64)
        block, number = self.block_of(channels), self.customer_of(channels) + 1
        present = np.unique(block)
        if len(present) == 1:
            return _texts(BLOCKS[present[0]].prefix + "-", number, self._width)
        parts = pa.concat_arrays([_texts(BLOCKS[b].prefix + "-", number[block == b], self._width) for b in present])
        order = np.argsort(np.concatenate([np.flatnonzero(block == b) for b in present]), kind="stable")
        return parts.take(pa.array(order))

    def find(self, ids: pa.Array) -> np.ndarray:
        """int64[n]: the city's dense indices of text ids, -1 for those that are not of this city."""
        if not len(ids):
            return np.empty(0, np.int64)
        ids = ids.cast(pa.string())
        first = self._find_one(ids[0].as_py())
        if 0 <= first <= self.count - len(ids):  # the usual case: in the city's own order
            run = np.arange(first, first + len(ids))
            if self.ids(run).equals(ids):
                return run
        return np.array([self._find_one(id) for id in ids.to_pylist()], np.int64)

    def _find_one(self, id: str) -> int:
        prefix, _, number = id.partition("-")
        block = next((i for i, b in enumerate(BLOCKS) if b.prefix == prefix), None)
        if block is None or len(number) != self._width or not (number.isascii() and number.isdigit()):
            return -1
        first, end, place = int(self.blocks[block]), int(self.blocks[block + 1]), int(number) - 1
        if block >= 3:
            own = self.members[first - self.blocks[3] : end - self.blocks[3]]
            rank = int(np.searchsorted(own, place)) if place >= 0 else len(own)
            place = rank if rank < len(own) and own[rank] == place else -1
        return first + place if 0 <= place < end - first else -1

    @property
    def _width(self) -> int:
        return max(6, len(str(self.customers)))

    def channels(self) -> Iterator[Channel]:
        """One object a channel, in the order of the dense indices: for small cities; `tables` for large ones."""
        for table in self.tables():
            for row in table.to_pylist():
                yield Channel.from_dict(row)

    def tables(self, rows: int = CHUNK) -> Iterator[pa.Table]:
        """All channels as tables of up to `rows` rows in the public shape, in the order of the dense indices."""
        for block, (first, end) in enumerate(zip(self.blocks[:-1], self.blocks[1:], strict=True)):
            for at in range(int(first), int(end), rows):
                yield self._table(block, np.arange(at, min(at + rows, int(end))))

    def _table(self, block: int, channels: np.ndarray) -> pa.Table:
        b, n = BLOCKS[block], len(channels)
        customer = self.customer_of(channels)
        usage = b.utility[0].upper()
        business = customer >= self.households
        word = {
            "utility": b.utility,
            "unit": b.unit,
            "direction": b.direction,
            "kind": b.kind,
            "time_zone": places.TIME_ZONE,
        }
        columns = {name: _words(np.zeros(n, np.int32), [text]) for name, text in word.items()}
        columns |= {
            "id": _texts(b.prefix + "-", customer + 1, self._width),
            "usage_point": _texts(f"UP-{usage}-", customer + 1, self._width),
            "meter": _texts(f"M-{usage}-", customer + 1, self._width),
            "customer": self._names(customer, business),
            "class": _words(business.astype(np.int32), ["household", "business"]),
            "area": _words(self.area[customer].astype(np.int32), [p.name for p in places.postcodes()]),
            "interval_seconds": pa.array(np.full(n, HEARTBEAT_SECONDS, np.int32)),
            "multiplier": pa.array(np.ones(n, np.int32)),
            "digits": pa.array(np.full(n, b.digits, np.int32)) if b.digits else pa.nulls(n, pa.int32()),
        }
        return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)

    def _names(self, customer: np.ndarray, business: np.ndarray) -> pa.Array:
        """H-000001 and on for households, B-000001 and on for businesses."""
        if not np.any(business[1:] != business[:-1]):
            rows = [slice(None)]
        else:
            turns = [0, *(np.flatnonzero(business[1:] != business[:-1]) + 1).tolist(), len(business)]
            rows = [slice(a, b) for a, b in zip(turns, turns[1:], strict=False)]
        return pa.concat_arrays(
            [
                _texts("B-", customer[r] - self.households + 1, self._width)
                if business[r][0]
                else _texts("H-", customer[r] + 1, self._width)
                for r in rows
            ]
        )


def _words(codes: np.ndarray, words: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(words))


def _texts(prefix: str, numbers: np.ndarray, width: int) -> pa.Array:
    """Fixed-width texts, digit by digit for a whole column."""
    head = np.frombuffer(prefix.encode(), np.uint8)
    out = np.empty((len(numbers), len(head) + width), np.uint8)
    out[:, : len(head)] = head
    left = np.asarray(numbers).astype(np.uint32)
    for place in range(width - 1, -1, -1):
        left, digit = np.divmod(left, np.uint32(10))
        out[:, len(head) + place] = digit + ord("0")
    offsets = np.arange(len(numbers) + 1, dtype=np.int32) * out.shape[1]
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(out))
