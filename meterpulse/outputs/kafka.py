"""Closed windows as messages of Kafka: one topic per view, each row once, in transactions.

A window is told when the watermark has passed its end, and what changes in it later is told again with a higher `revision`: a
reading that came in time for an update, a day that batch has rebuilt. What has been told stands in the topic `<prefix>.state`,
written in the same transaction, so after a crash it goes on exactly there.

The work is done an hour and a block of channels (or groups) at a time: a **page**, rows int64[keys, steps, measures].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa
import xxhash

from meterpulse.kafka import Connection, make_topics
from meterpulse.kafka.numbered import Numbered, NumberedTopic, parts_of
from meterpulse.kafka.transactions import SPREAD, Outgoing, Transactions
from meterpulse.kafka.trimming import Trimming
from meterpulse.model.cells import fold
from meterpulse.model.groups import fold_up
from meterpulse.model.window import DAY_MS, HOUR_MS, MINUTE_MS, WINDOW_MS, floor_to, iso
from meterpulse.outputs import Output
from meterpulse.outputs.windowrows import Writer, writer_of
from meterpulse.stores import BLOCK

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

_STEPS_MS = {"usage_5m": WINDOW_MS, "area_1m": MINUTE_MS}
_MEASURES = {"usage_5m": 5, "area_1m": 4}
_HOURLY = {"usage_5m": "usage_1h", "area_1m": "area_1h"}
_KEPT_HOURS = 6  # of which it is remembered what was told; older ones that change are told as a whole
_TRIM_EVERY = 64  # commits
_FOREVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


@dataclass
class State:
    """What has been told, as of transaction `number`: of each page up to which time, and a digest of its rows; `done_ms`: hours
    before it are complete; `closed_ms`: how far windows were closed; `rebuilt`: by UTC day, which rebuild."""

    number: int = 0
    closed_ms: int = 0
    done_ms: int | None = None
    pages: dict[str, tuple[int, str]] = field(default_factory=dict)
    rebuilt: dict[str, str] = field(default_factory=dict)

    def pack(self) -> bytes:
        """As a message."""
        return orjson.dumps(self)

    @classmethod
    def unpack(cls, value: bytes) -> State:
        """Of a message."""
        told = orjson.loads(value)
        return cls(**told | {"pages": {name: (until, digest) for name, (until, digest) in told["pages"].items()}})


class KafkaViews(Output):
    """See Output; settings in config.OutputsKafka."""

    def __init__(self, settings: Any, pipeline: Pipeline):
        super().__init__(settings, pipeline)
        self._bases = [
            base for base in _STEPS_MS if {base, _HOURLY[base]} & set(settings.views)
        ]  # hours are folded from these
        self._state = State()
        self._known: dict[tuple[str, int, int], tuple[int, np.ndarray]] = {}
        self._seen: Any = None
        self._writers: dict[tuple[str, int], tuple[int, Writer]] = {}
        self._told = 0

    def facts(self) -> dict[str, Any]:
        until = iso(self._state.closed_ms) if self._state.closed_ms else None
        return {"published": self._told, "transactions": self._state.number, "until": until}

    def run(self) -> None:
        """See Output."""
        settings, connection = self.settings, Connection.of(self.settings)
        copies, prefix = settings.replication_factor, settings.topic_prefix
        names = [f"{prefix}.{view}" for view in settings.views]
        make_topics(connection, names, partitions=settings.partitions, copies=copies, config={})
        make_topics(connection, [f"{prefix}.state"], partitions=1, copies=copies, config=_FOREVER)
        self._transactions = Transactions(connection, f"{prefix}.writer", settings.timeout_seconds)
        self._transactions.open()  # settles what was left half done, before the state is read
        self._states = NumberedTopic(connection, f"{prefix}.state", 1 << 20)
        self._trimming = Trimming(connection)
        try:
            newest = self._states.last()
            self._state = State.unpack(newest.value) if newest else self._begun()
            self._known.clear()
            self._seen = None
            while not self.stopping.is_set():
                self._tick()
                self.stopping.wait(1.0)
        finally:
            self._states.close()

    def _begun(self) -> State:
        """Nothing was told yet: history is not told, what is open now will be."""
        return State(rebuilt=self._rebuilt())

    # -- which pages -----------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        p, state = self.pipeline, self._state
        if not p.runner.ready.is_set():
            return  # the log is replayed: the views are on their way to where they were
        watermark = p.engine.watermark.value(p.clock(), p.config.speed.idle_seconds * 1000)
        boundary = p.keeper.boundary_ms  # before anything is read: what retires later is looked at once more
        closed = max(floor_to(max(boundary, 0 if watermark is None else watermark), WINDOW_MS), state.closed_ms)
        windows = p.engine.open_windows()
        rebuilt = self._rebuilt()
        seen = closed, boundary, [(w.start_ms, w.changed) for w in windows if w.end_ms <= closed], rebuilt
        if closed == 0 or seen == self._seen:
            return
        state.closed_ms = closed
        if state.done_ms is None:
            state.done_ms = floor_to(min([w.start_ms for w in windows] or [closed]), HOUR_MS)
        for hour in range(state.done_ms, closed, HOUR_MS):
            self._hour(hour, closed)
        state.done_ms = max(state.done_ms, floor_to(max(boundary, 0), HOUR_MS))
        for day, token in rebuilt.items():
            if state.rebuilt.get(day) != token:
                for hour in range(int(day) * DAY_MS, min((int(day) + 1) * DAY_MS, state.done_ms), HOUR_MS):
                    self._hour(hour, closed)
                state.rebuilt[day] = token
                self._commit([])
        self._known = {key: known for key, known in self._known.items() if key[1] >= state.done_ms - HOUR_MS}
        self._seen = seen

    def _rebuilt(self) -> dict[str, str]:
        notes = self.pipeline.store.notes("rebuilt/")
        return {name.split("/")[1]: token.decode() for name, token in notes.items()}

    def _hour(self, hour: int, closed: int) -> None:
        for base in self._bases:
            area = None
            if base == "area_1m":
                area = self._open_areas(hour)
            keys = len(self.pipeline.keys.zones(base)[0])
            for block in range(-(-keys // BLOCK)):
                if self.stopping.is_set():
                    return
                self._page(base, hour, block, closed, min(keys - block * BLOCK, BLOCK), area)

    # -- one page --------------------------------------------------------------------------------------------------------

    def _page(
        self, base: str, hour: int, block: int, closed: int, keys: int, area: dict[int, np.ndarray] | None
    ) -> None:
        """Tells what of a page is new or different. `_known` has what was told, where it is remembered."""
        rows = self._rows(base, hour, block, keys, area)
        _hide(rows, hour, _STEPS_MS[base], closed)
        known = self._known.get((base, hour, block)) or self._remembered(f"{base}/{hour}/{block}", base, hour, rows)
        told_ms, before = known
        if len(before) < keys:
            before = np.concatenate([before, np.zeros((keys - len(before), *before.shape[1:]), np.int64)])
        changed: np.ndarray = np.logical_or.reduce(rows != before, axis=2)
        full = hour + HOUR_MS <= closed
        others = changed if told_ms >= hour + HOUR_MS else rows[:, :, 0] != 0
        of_hour: np.ndarray = np.logical_or.reduce(others, axis=1)
        messages: list[Outgoing] = []
        revision, writer = self._state.number + 1, self._writer(base, block)
        if base in self.settings.views and changed.any():
            messages += self._messages(base, writer, rows, changed, hour, _STEPS_MS[base], revision)
        if full and _HOURLY[base] in self.settings.views and of_hour.any():
            total = np.zeros((keys, 1, rows.shape[2]), np.int64)
            fold(rows, np.zeros((1, rows.shape[1]), np.int64), np.zeros(keys, np.int64), total)
            messages += self._messages(_HOURLY[base], writer, total, of_hour[:, None], hour, HOUR_MS, revision)
        if messages:
            self._state.pages[f"{base}/{hour}/{block}"] = (closed, _digest(rows))
            self._commit(messages)
        self._known[base, hour, block] = (closed, rows)

    def _remembered(self, name: str, base: str, hour: int, rows: np.ndarray) -> tuple[int, np.ndarray]:
        """What an earlier process told of a page, where that is what its rows are still; else nothing."""
        told = self._state.pages.get(name)
        if told is not None:
            before = rows.copy()
            _hide(before, hour, _STEPS_MS[base], told[0])
            if _digest(before) == told[1]:
                return told[0], before
        return 0, np.zeros_like(rows)

    def _rows(self, base: str, hour: int, block: int, keys: int, area: dict[int, np.ndarray] | None) -> np.ndarray:
        step, low = _STEPS_MS[base], block * BLOCK
        out = np.zeros((keys, HOUR_MS // step, _MEASURES[base]), np.int64)
        parts: list[tuple[int, np.ndarray]] = []
        if area is not None:
            parts += [(start, rows[low : low + keys]) for start, rows in area.items()]
        else:
            parts += [(w.start_ms, w.rows(low, low + keys)) for w in self._open(hour)]
        parts += self._stored(base, hour, block)  # above what was on its way there
        for start, rows in parts:
            at = (start - hour) // step
            out[: len(rows), at : at + rows.shape[1]] = rows[:keys]
        if base == "area_1m" and block == 0:
            out[0] = 0  # group 0 is nobody's
        return out

    def _open(self, hour: int) -> list[Any]:
        return [w for w in self.pipeline.engine.open_windows() if hour <= w.start_ms < hour + HOUR_MS]

    def _open_areas(self, hour: int) -> dict[int, np.ndarray]:
        p = self.pipeline
        return {w.start_ms: fold_up(w.minutes(p.keys.group_of()), p.keys.parents()) for w in self._open(hour)}

    def _stored(self, base: str, hour: int, block: int) -> list[tuple[int, np.ndarray]]:
        store = self.pipeline.store
        while True:
            starts = store.starts(base, block, hour, hour + HOUR_MS)
            chunks = [store.chunk(base, block, start) for start in starts]
            if None not in chunks:  # else windows have become an hour meanwhile
                return [(chunk.start_ms, chunk.rows) for chunk in chunks if chunk is not None]

    # -- messages --------------------------------------------------------------------------------------------------------

    def _writer(self, base: str, block: int) -> Writer:
        version, made = self._writers.get((base, block), (-1, None))
        if made is None or version != self.pipeline.registry.version:
            version = self.pipeline.registry.version
            made = writer_of(self.pipeline, base, block)
            self._writers[base, block] = (version, made)
        return made

    def _messages(
        self, view: str, writer: Writer, rows: np.ndarray, chosen: np.ndarray, hour: int, step_ms: int, revision: int
    ) -> Iterator[Outgoing]:
        topic = f"{self.settings.topic_prefix}.{view}"
        for step in np.flatnonzero(chosen.any(axis=0)).tolist():
            start, own = hour + step * step_ms, np.flatnonzero(chosen[:, step])
            self._told += len(own)
            if self.settings.format == "arrow":
                yield Outgoing(
                    topic, b"%s/%d" % (iso(start).encode(), writer.block),
                    _stream(writer.columns(own, rows[own, step], start, step_ms, revision)), SPREAD,
                )  # fmt: skip
            else:
                for key, value in writer.objects(view, own, rows[own, step], start, step_ms, revision):
                    yield Outgoing(topic, key, value, SPREAD)

    def _commit(self, messages: list[Outgoing]) -> None:
        """The messages and what they make of the state, both or neither. Raises KafkaDown; `run` then reads the state anew."""
        state = self._state
        state.number += 1
        oldest = (state.done_ms or 0) - _KEPT_HOURS * HOUR_MS
        state.pages = {name: page for name, page in state.pages.items() if int(name.split("/")[1]) >= oldest}
        packed = parts_of(self._states.name, state.number, 0, state.pack())
        places = self._transactions.commit([*messages, *packed])
        self._states.note(Numbered(state.number, places[len(messages)], 0, b""))
        if state.number % _TRIM_EVERY == 0:
            self._states.forget(state.number)
            self._trimming.below(self._states, state.number)


def _hide(rows: np.ndarray, hour: int, step_ms: int, closed: int) -> None:
    """Steps that are not closed are as if they were not there."""
    rows[:, max(0, (closed - hour) // step_ms) :] = 0


def _digest(rows: np.ndarray) -> str:
    """Of the rows there are: keys without any at the end do not count, so a new channel changes nothing."""
    there = np.flatnonzero(rows[:, :, 0].any(axis=1))
    return xxhash.xxh3_128_hexdigest(rows[: there[-1] + 1].tobytes() if len(there) else b"")


def _stream(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()
