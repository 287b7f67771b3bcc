"""The channels of a table of text, numbered as its rows name them, and what their numbers count in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from meterpulse.ingest.contract import BodyError, RowError
from meterpulse.model.channel import Channel, ChannelError

STREAMS_MAX = 2_000_000  # of one file
_PLACES = 19
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class Stream:
    """A channel, and how many thousandths of its base unit one in the file is: 1000 for W, 250000 for kW over 15 minutes."""

    channel: Channel
    factor: Fraction


# The stream of a row's key and the number of the value's column; None where that cell is nobody's reading. Raises RowError.
Define = Callable[[tuple[str, ...], int], Stream | None]


@dataclass
class Streams:
    """The streams met so far, by their number."""

    define: Define
    width: int  # how many values a row has
    keys: int  # how many texts say whose a row is
    names: list[str] = field(default_factory=list)
    factors: list[Fraction] = field(default_factory=list)
    factor_of: list[int] = field(default_factory=list)
    seconds: list[int] = field(default_factory=list)
    interval: list[bool] = field(default_factory=list)
    new: list[Channel] = field(default_factory=list)
    known: dict[bytes, tuple[np.ndarray, tuple[str, str] | None]] = field(default_factory=dict)
    tables: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def of(self, key: bytes) -> tuple[np.ndarray, tuple[str, str] | None]:
        """int32[values]: the streams of a row with that key, -1 for none; and why all of its rows are refused, if they are."""
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self._define(key)
        return found

    def _define(self, key: bytes) -> tuple[np.ndarray, tuple[str, str] | None]:
        numbers = np.full(self.width, -1, np.int32)
        by_id: dict[str, int] = {}
        try:
            parts = tuple(part.replace('""', '"') for part in key.decode().split("\x1f")) if self.keys else ()
            if len(parts) != self.keys:
                raise RowError("bad_csv", "a control character")
            for k in range(self.width):
                stream = self.define(parts, k)
                if stream is not None:
                    id = stream.channel.id
                    if id not in by_id:
                        by_id[id] = self._add(stream)
                    numbers[k] = by_id[id]
        except RowError as error:
            return numbers, (error.reason, error.detail)
        except UnicodeDecodeError as error:
            return numbers, ("bad_utf8", f"byte {error.start} of the channel's name is not valid UTF-8")
        except ChannelError as error:
            return numbers, ("wrong_type", str(error))
        return numbers, None

    def _add(self, stream: Stream) -> int:
        channel = stream.channel
        if len(self.names) >= STREAMS_MAX:
            raise BodyError(413, f"the file names more than {STREAMS_MAX} channels; divide it")
        if stream.factor not in self.factors:
            self.factors.append(stream.factor)
            self.tables = None
        self.names.append(channel.id)
        self.factor_of.append(self.factors.index(stream.factor))
        self.seconds.append(channel.interval_seconds)
        self.interval.append(channel.kind == "interval")
        self.new.append(channel)
        return len(self.names) - 1

    def factor_tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """By [factor, decimals]: factor / 10 ** decimals as a reduced fraction, and the largest mantissa that fits."""
        if self.tables is None:
            over, under, largest = (np.zeros((len(self.factors), _PLACES), np.int64) for _ in range(3))
            for f, factor in enumerate(self.factors):
                for p in range(_PLACES):
                    exact = factor / 10**p
                    if exact.denominator <= 2**62 and exact.numerator <= _INT64_MAX:
                        over[f, p], under[f, p] = exact.numerator, exact.denominator
                        largest[f, p] = _INT64_MAX // exact.numerator
            self.tables = over, under, largest
        return self.tables
