"""Readings of a file as a format finds them, run by run, made into one Arrow body.

>>> rows = Gathered("text/x-nem12")
>>> rows.channel(Channel("NMI1:E1", "electricity", "kWh"))
0
>>> rows.add(0, start=[0, 1_800_000], seconds=1_800, texts=["1.5", "x"], scale=UNITS["kWh"].scale, original=b"300,...")
>>> batch = rows.batch(position=64)
>>> batch.rows, [row.reason for row in batch.rejected]
(1, ['not_a_number'])
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, groupby, repeat

import numpy as np
import pyarrow as pa

from meterpulse.ingest import ARROW, FileBatch
from meterpulse.ingest.amounts import UNITS, amounts
from meterpulse.ingest.contract import Rejected
from meterpulse.model.channel import Channel
from meterpulse.model.quality import RAW

__all__ = ["UNITS", "BATCH_ROWS", "Gathered"]

BATCH_ROWS = 1 << 16
SHOWN_BYTES = 64 * 1024  # of a refused row, so that a line without an end does not fill the quarantine


@dataclass(slots=True)
class _Run:
    channel: int
    start: Sequence[int]
    seconds: int | Sequence[int]
    texts: Sequence[str]
    scale: Fraction
    revision: int
    quality: int | Sequence[int]
    original: bytes


class Gathered:
    """What was read since the last batch. Channels are numbered as they are named; `media_type` is that of refused rows."""

    def __init__(self, media_type: str):
        self._media_type = media_type
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []
        self._new: list[Channel] = []
        self._runs: list[_Run] = []
        self._rejected: list[Rejected] = []
        self._ignored: Counter[str] = Counter()
        self.rows = 0

    def __bool__(self) -> bool:
        return bool(self._runs or self._rejected or self._ignored)

    def number_of(self, id: str) -> int | None:
        """The number of a channel that was named before."""
        return self._numbers.get(id)

    def channel(self, definition: Channel) -> int:
        """The number of a channel; the first definition of an id stands."""
        number = self._numbers.get(definition.id)
        if number is None:
            number = self._numbers[definition.id] = len(self._names)
            self._names.append(definition.id)
            self._new.append(definition)
        return number

    def add(
        self,
        channel: int,
        start: Sequence[int],
        seconds: int | Sequence[int],
        texts: Sequence[str],
        scale: Fraction,
        original: bytes,
        revision: int = 0,
        quality: int | Sequence[int] = RAW,
    ) -> None:
        """Readings of one record: starts in ms UTC, decimal texts in a unit of so many thousandths of the base unit."""
        self._runs.append(_Run(channel, start, seconds, texts, scale, revision, quality, original))
        self.rows += len(texts)

    def refuse(self, reason: str, detail: str, original: bytes) -> None:
        """A record, or a part of one, that cannot be taken."""
        self._rejected.append(Rejected(reason, detail, original[:SHOWN_BYTES], self._media_type))

    def ignore(self, what: str) -> None:
        """A record that is no reading and is passed over."""
        self._ignored[what] += 1

    def batch(self, position: int) -> FileBatch:
        """Everything since the last call."""
        quantity, good = self._quantities()
        runs = self._runs
        lengths = [len(run.texts) for run in runs]

        def column(kind: type, name: str) -> np.ndarray:
            values = [getattr(run, name) for run in runs]
            if all(isinstance(value, int) for value in values):
                return np.repeat(np.array(values, kind), lengths)[good]
            each = (v if not isinstance(v, int) else repeat(v, n) for v, n in zip(values, lengths, strict=True))
            return np.fromiter(chain.from_iterable(each), kind, len(good))[good]

        codes = pa.array(column(np.int32, "channel"), pa.int32())
        columns = {
            "channel": pa.DictionaryArray.from_arrays(codes, pa.array(self._names, pa.string())),
            "start": pa.array(column(np.int64, "start"), pa.timestamp("ms", "UTC")),
            "seconds": column(np.int32, "seconds"),
            "quantity": quantity[good],
            "revision": column(np.int64, "revision"),
            "quality": column(np.int32, "quality"),
        }
        batch, sink = pa.record_batch(columns), pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        made = FileBatch(
            sink.getvalue().to_pybytes(),
            ARROW,
            batch.num_rows,
            position,
            self._new,
            self._rejected,
            dict(self._ignored),
        )
        self._new, self._runs, self._rejected, self._ignored, self.rows = [], [], [], Counter(), 0
        return made

    def _quantities(self) -> tuple[np.ndarray, np.ndarray]:
        """int64[rows] and bool[rows]: which could be read. Refuses the others, once per record and reason."""
        texts = [text for run in self._runs for text in run.texts]
        quantity, good, at = np.zeros(len(texts), np.int64), np.ones(len(texts), np.bool_), 0
        for scale, same in groupby(self._runs, key=lambda run: run.scale):
            some = list(same)
            end = at + sum(len(run.texts) for run in some)
            quantity[at:end], refused = amounts(texts[at:end], scale)
            if refused:
                good[[at + row for row in refused]] = False
                self._refuse_values(some, refused)
            at = end
        return quantity, good

    def _refuse_values(self, runs: Sequence[_Run], refused: dict[int, tuple[str, str]]) -> None:
        begin = 0
        for run in runs:
            end = begin + len(run.texts)
            rows = [row for row in range(begin, end) if row in refused]
            for reason in sorted({refused[row][0] for row in rows}):
                of_it = [row for row in rows if refused[row][0] == reason]
                more = f" (and {len(of_it) - 1} more of this record)" if len(of_it) > 1 else ""
                detail = f"{self._names[run.channel]}: value {of_it[0] - begin + 1}: {refused[of_it[0]][1]}{more}"
                self.refuse(reason, detail, run.original)
            begin = end
