"""Who holds a city's data: a running server, or this process. Both answer alike, in the shapes of the HTTP API."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from meterpulse.client import ARROW, Client

if TYPE_CHECKING:
    import pyarrow as pa

    from meterpulse.config import Config
    from meterpulse.ingest import Rejected
    from meterpulse.ingest.journal import Progress

_REFUSED_A_CALL = 1_000
_DESK = {
    "exceptions": ("GET", "/v1/exceptions"),
    "exception": ("GET", "/v1/exceptions/{number}"),
    "assign": ("POST", "/v1/exceptions/assign"),
    "preview": ("POST", "/v1/edits/preview"),
    "decide": ("POST", "/v1/edits"),
    "undo": ("POST", "/v1/edits/{change}/undo"),
    "changes": ("GET", "/v1/edits"),
    "change": ("GET", "/v1/edits/{change}"),
    "fingerprints": ("GET", "/v1/fingerprints"),
}


class Backing(Protocol):
    """What a city needs of whoever holds the data; answers have the shapes of the HTTP API."""

    def usage(self, query: Mapping[str, Any], form: str) -> bytes:
        """The body of /v1/usage as json, csv, arrow or parquet."""

    def intervals(self, query: Mapping[str, Any], form: str) -> bytes:
        """The body of /v1/intervals as json, csv, arrow or parquet."""

    def area_zone(self, area: str) -> str | None:
        """The time zone of an area, None where it does not exist."""

    def status(self) -> dict[str, Any]:
        """The JSON of /v1/status."""

    def channel(self, id: str) -> dict[str, Any] | None:
        """One channel, None where it does not exist."""

    def channels(self) -> pa.Table:
        """All channels in the order of their index."""

    def register(self, channels: pa.Table) -> dict[str, Any]:
        """Create or update channels, given as columns of the public shape; {"created", "updated", "errors"}."""

    def ingest(self, body: bytes, media_type: str, source: str) -> dict[str, Any]:
        """Take a body of readings; `source` names where they came from."""

    def refuse(self, rows: Sequence[Rejected], source: str) -> None:
        """Put rows that a file's format refused into quarantine."""

    def imported(self, key: str) -> Progress | None:
        """How far the file of that content has come, None where it is new."""

    def note_import(self, key: str, progress: Progress | None) -> None:
        """Note how far it has come; None forgets it."""

    def settle(self, timeout_seconds: float) -> bool:
        """Wait until every accepted reading is in the answers; whether that came about in time."""

    def rebuild(self, wanted: Mapping[str, Any], told: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Rebuild days from the lake: `days`, from `start` to `end`, `all`, else the dirty ones. `told` hears of the progress."""

    def quarantine(self, after: int, limit: int) -> dict[str, Any]:
        """Refused rows with key > `after`."""

    def replay(self, keys: Sequence[int] | None) -> dict[str, Any]:
        """Send refused rows through ingest again: these, or all of them."""

    def compact(self) -> dict[str, Any]:
        """Merge the small files of days that have closed."""

    def desk(self, question: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The work list and the ledger of edits: exceptions, exception, assign, preview, decide, undo, changes, change; and
        fingerprints."""

    def differences(self, query: Mapping[str, Any], form: str) -> bytes:
        """The body of /v1/differences as json, csv, arrow or parquet."""

    def export(self, query: Mapping[str, Any]) -> Iterator[bytes]:
        """The body of /v1/export, piece by piece."""

    def close(self) -> None:
        """Let go."""


class Served:
    """A running server, over HTTP."""

    def __init__(self, client: Client):
        self._client = client

    def usage(self, query: Mapping[str, Any], form: str) -> bytes:
        return self._client.get("/v1/usage" if form == "json" else f"/v1/usage.{form}", query)

    def intervals(self, query: Mapping[str, Any], form: str) -> bytes:
        return self._client.get("/v1/intervals" if form == "json" else f"/v1/intervals.{form}", query)

    def area_zone(self, area: str) -> str | None:
        areas = self._client.get_json("/v1/areas")["areas"]
        return next((found["time_zone"] for found in areas if found["area"] == area), None)

    def status(self) -> dict[str, Any]:
        return self._client.get_json("/v1/status")

    def channel(self, id: str) -> dict[str, Any] | None:
        return self._client.channel(id)

    def channels(self) -> pa.Table:
        import pyarrow as pa

        return pa.ipc.open_stream(self._client.get("/v1/channels.arrow")).read_all()

    def register(self, channels: pa.Table) -> dict[str, Any]:
        import pyarrow as pa

        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, channels.schema) as stream:
            stream.write_table(channels)
        return self._client.post("/v1/channels", sink.getvalue().to_pybytes(), ARROW)

    def ingest(self, body: bytes, media_type: str, source: str) -> dict[str, Any]:
        return self._client.post("/v1/readings", body, media_type, {"source": source})

    def refuse(self, rows: Sequence[Rejected], source: str) -> None:
        for at in range(0, len(rows), _REFUSED_A_CALL):
            document = [
                {
                    "reason": row.reason,
                    "detail": row.detail,
                    "media_type": row.media_type,
                    "original_base64": base64.b64encode(row.original).decode(),
                }
                for row in rows[at : at + _REFUSED_A_CALL]
            ]
            self._client.post("/v1/quarantine", json.dumps(document).encode(), query={"source": source})

    def imported(self, key: str) -> Progress | None:
        from meterpulse.ingest.journal import Progress

        found = self._client.get_json(f"/v1/imports/{key}")["progress"]
        return None if found is None else Progress.from_dict(found)

    def note_import(self, key: str, progress: Progress | None) -> None:
        if progress is None:
            self._client.delete(f"/v1/imports/{key}")
        else:
            self._client.post(f"/v1/imports/{key}", json.dumps(progress.to_dict()).encode())

    def settle(self, timeout_seconds: float) -> bool:
        give_up = time.monotonic() + timeout_seconds
        while time.monotonic() < give_up:
            status = self.status()
            if status["dirty_days"] == 0 and status["lag"]["readings"] == 0:
                return True
            time.sleep(0.25)
        return False

    def rebuild(self, wanted: Mapping[str, Any], told: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        began = time.monotonic()
        plan = self._client.post("/v1/rebuild", json.dumps({**wanted, "wait_seconds": 0}).encode())
        while plan["left"]:
            told(plan)
            plan = self._client.get_json(f"/v1/rebuild/{plan['number']}", {"wait_seconds": 1})
        return plan | {"seconds": round(time.monotonic() - began, 3)}

    def quarantine(self, after: int, limit: int) -> dict[str, Any]:
        return self._client.get_json("/v1/quarantine", {"after": max(after, 0), "limit": limit})

    def replay(self, keys: Sequence[int] | None) -> dict[str, Any]:
        return self._client.post("/v1/quarantine/replay", json.dumps({"keys": keys}).encode())

    def compact(self) -> dict[str, Any]:
        return self._client.post("/v1/compact", b"{}")

    def desk(self, question: str, given: Mapping[str, Any]) -> dict[str, Any]:
        method, path = _DESK[question]
        rest = {name: value for name, value in given.items() if f"{{{name}}}" not in path}
        if method == "GET":
            return self._client.get_json(path.format(**given), rest)
        return self._client.post(path.format(**given), json.dumps(rest).encode())

    def differences(self, query: Mapping[str, Any], form: str) -> bytes:
        return self._client.get("/v1/differences" if form == "json" else f"/v1/differences.{form}", query)

    def export(self, query: Mapping[str, Any]) -> Iterator[bytes]:
        return self._client.stream("/v1/export", query)

    def close(self) -> None:
        self._client.close()


class Opened:
    """The data itself, opened by this process; nobody else can write meanwhile."""

    def __init__(self, config: Config):
        from meterpulse.pipeline import Pipeline

        self._pipeline = Pipeline.open(config)

    def usage(self, query: Mapping[str, Any], form: str) -> bytes:
        from meterpulse.serving.answers import as_bytes
        from meterpulse.serving.queries import UsageQuery, usage

        return as_bytes(usage(self._pipeline, UsageQuery(**query)), form)

    def intervals(self, query: Mapping[str, Any], form: str) -> bytes:
        from meterpulse.serving.intervals import IntervalQuery, as_bytes, intervals

        return as_bytes(intervals(self._pipeline, IntervalQuery(**query)), form)

    def area_zone(self, area: str) -> str | None:
        areas = self._pipeline.registry.areas
        found = areas.index(area)
        return None if found is None else areas.time_zone[found]

    def status(self) -> dict[str, Any]:
        return self._pipeline.status()

    def channel(self, id: str) -> dict[str, Any] | None:
        return self._pipeline.registry.channel(id)

    def channels(self) -> pa.Table:
        return self._pipeline.registry.channels()

    def register(self, channels: pa.Table) -> dict[str, Any]:
        done = self._pipeline.registry.register(channels, at_ms=self._pipeline.clock())
        errors = [{"position": position, "detail": detail} for position, detail in done.errors]
        return {"created": done.created, "updated": done.updated, "errors": errors}

    def ingest(self, body: bytes, media_type: str, source: str) -> dict[str, Any]:
        return self._pipeline.ingest(self._pipeline.take(body, media_type), source)

    def refuse(self, rows: Sequence[Rejected], source: str) -> None:
        from meterpulse.ingest import Decoded
        from meterpulse.model.reading import Readings

        self._pipeline.ingest(Decoded(Readings.empty(), list(rows)), source)

    def imported(self, key: str) -> Progress | None:
        return self._pipeline.imports.get(key)

    def note_import(self, key: str, progress: Progress | None) -> None:
        if progress is None:
            self._pipeline.imports.forget(key)
        else:
            self._pipeline.imports.put(key, progress)

    def settle(self, timeout_seconds: float) -> bool:
        return self._pipeline.settle(timeout_seconds)

    def rebuild(self, wanted: Mapping[str, Any], told: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        from meterpulse.serving.rebuilds import Wanted, plan_of, rebuild_days

        began = time.monotonic()
        plan = rebuild_days(self._pipeline, Wanted(**wanted, wait_seconds=0))
        while plan["left"]:
            told(plan)
            plan = plan_of(self._pipeline, plan["number"], 1)
        return plan | {"seconds": round(time.monotonic() - began, 3)}

    def quarantine(self, after: int, limit: int) -> dict[str, Any]:
        from meterpulse.serving.http import quarantine_page

        return quarantine_page(self._pipeline, after, limit)

    def replay(self, keys: Sequence[int] | None) -> dict[str, Any]:
        from meterpulse.pipeline import replay_quarantine

        return replay_quarantine(self._pipeline, keys)

    def compact(self) -> dict[str, Any]:
        return self._pipeline.retention.compact()

    def desk(self, question: str, given: Mapping[str, Any]) -> dict[str, Any]:
        import orjson

        from meterpulse.serving.deskapi import answer

        return orjson.loads(orjson.dumps(answer(self._pipeline, question, dict(given))))

    def differences(self, query: Mapping[str, Any], form: str) -> bytes:
        from meterpulse.serving.differences import Asked, body

        return body(self._pipeline, Asked(**query), form)

    def export(self, query: Mapping[str, Any]) -> Iterator[bytes]:
        from meterpulse.serving.exporting import Asked, export

        return export(self._pipeline, Asked(**query)).pieces

    def close(self) -> None:
        self._pipeline.close()
