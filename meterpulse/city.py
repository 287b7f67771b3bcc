"""A city as Python sees it: one object, whether a server has the data open or this process does."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol
from zoneinfo import ZoneInfo

from meterpulse.client import Client, find_server

if TYPE_CHECKING:
    import pyarrow as pa

    from meterpulse.config import Config

Moment = str | date | datetime


class Backing(Protocol):
    """What a city needs of whoever holds the data; answers have the shapes of the HTTP API."""

    def usage(self, query: Mapping[str, Any]) -> bytes:
        """The JSON of /v1/usage."""

    def status(self) -> dict[str, Any]:
        """The JSON of /v1/status."""

    def channel(self, id: str) -> dict[str, Any] | None:
        """One channel, None where it does not exist."""

    def channels(self) -> pa.Table:
        """All channels in the order of their index."""

    def register(self, channels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Create or update channels."""

    def ingest(self, body: bytes, media_type: str, source: str) -> dict[str, Any]:
        """Take a body of readings; `source` names where they came from."""

    def rebuild(self, days: Sequence[str] | None, everything: bool) -> dict[str, Any]:
        """Rebuild days from the lake: these, the dirty ones (None), or every one."""

    def quarantine(self, after: int, limit: int) -> dict[str, Any]:
        """Refused rows with key > `after`."""

    def replay(self, keys: Sequence[int] | None) -> dict[str, Any]:
        """Send refused rows through ingest again: these, or all of them."""

    def compact(self) -> dict[str, Any]:
        """Merge the small files of days that have closed."""

    def close(self) -> None:
        """Let go."""


class City:
    """Readings, usage and channels of one city. Made by `meterpulse.open`."""

    def __init__(self, backing: Backing, place: str):
        self.backing, self.place = backing, place

    @classmethod
    def at(cls, url: str) -> City:
        """The city of a running server."""
        return cls(_Served(Client(url)), url)

    @classmethod
    def of(cls, config: Config) -> City:
        """The city in `config.data`: through its server if one runs, else opened in this process."""
        client = find_server(config.data)
        if client is not None:
            return cls(_Served(client), client.url)
        return cls(_Opened(config), str(config.data))

    def __enter__(self) -> City:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the server or the data."""
        self.backing.close()

    def usage(
        self,
        channel: str | None = None,
        *,
        area: str | None = None,
        utility: str | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        grain: str = "1h",
    ) -> pa.Table:
        """What a channel, or all channels of one utility in an area, used per window of `grain` (1m, 5m, 1h, 1d).

        Columns: start (timestamp in the channel's time zone), quantity, min, max (decimal, in the column `unit`),
        count, quality, source. A plain date is midnight where the meter is; a datetime needs a zone.
        """
        document = json.loads(
            self.usage_json(channel, area=area, utility=utility, start=start, end=end, grain=grain), parse_float=Decimal
        )
        return _table(document, self.time_zone(channel))

    def usage_json(
        self,
        channel: str | None = None,
        *,
        area: str | None = None,
        utility: str | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        grain: str = "1h",
    ) -> bytes:
        """The same answer as the JSON of /v1/usage."""
        if (channel is None) == (area is None):
            raise ValueError("name a channel, or an area with a utility")
        query = {"channel": channel, "area": area, "utility": utility, "grain": grain}
        for name, moment in (("start", start), ("end", end)):
            query[name] = None if moment is None else self._instant(moment, channel)
        return self.backing.usage({name: value for name, value in query.items() if value is not None})

    def status(self) -> dict[str, Any]:
        """Counters, watermark, lag and dirty days: the JSON of /v1/status."""
        return self.backing.status()

    def channels(self) -> pa.Table:
        """All channels with their dense index, in its order."""
        return self.backing.channels()

    def channel(self, id: str) -> dict[str, Any] | None:
        """One channel in its public shape, None where it does not exist."""
        return self.backing.channel(id)

    def time_zone(self, channel: str | None) -> str:
        """The time zone of a channel; UTC for areas and unknown channels."""
        found = self.channel(channel) if channel else None
        return found["time_zone"] if found else "UTC"

    def _instant(self, moment: Moment, channel: str | None) -> str:
        if isinstance(moment, str):
            try:
                moment = date.fromisoformat(moment)
            except ValueError:
                return moment
        if not isinstance(moment, datetime):
            moment = datetime.combine(moment, time(0), ZoneInfo(self.time_zone(channel)))
        if moment.tzinfo is None:
            raise ValueError(f"{moment} has no time zone; write datetime(..., tzinfo=ZoneInfo(...))")
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")

    def __repr__(self) -> str:
        return f"<meterpulse city at {self.place}>"

    def _repr_html_(self) -> str:
        """The status as a table, for notebooks."""
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
            for name, value in self.status().items()
        )
        return f"<table><caption>meterpulse city at {html.escape(self.place)}</caption>{rows}</table>"


class _Served:
    """A running server."""

    def __init__(self, client: Client):
        self._client = client

    def usage(self, query: Mapping[str, Any]) -> bytes:
        return self._client.get("/v1/usage", query)

    def status(self) -> dict[str, Any]:
        return self._client.get_json("/v1/status")

    def channel(self, id: str) -> dict[str, Any] | None:
        return self._client.channel(id)

    def channels(self) -> pa.Table:
        import pyarrow as pa

        return pa.ipc.open_stream(self._client.get("/v1/channels.arrow")).read_all()

    def register(self, channels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return self._client.post("/v1/channels", json.dumps(channels).encode())

    def ingest(self, body: bytes, media_type: str, source: str) -> dict[str, Any]:
        return self._client.post("/v1/readings", body, media_type, {"source": source})

    def rebuild(self, days: Sequence[str] | None, everything: bool) -> dict[str, Any]:
        return self._client.post("/v1/rebuild", json.dumps({"days": days, "all": everything}).encode())

    def quarantine(self, after: int, limit: int) -> dict[str, Any]:
        return self._client.get_json("/v1/quarantine", {"after": after, "limit": limit})

    def replay(self, keys: Sequence[int] | None) -> dict[str, Any]:
        return self._client.post("/v1/quarantine/replay", json.dumps({"keys": keys}).encode())

    def compact(self) -> dict[str, Any]:
        return self._client.post("/v1/compact", b"{}")

    def close(self) -> None:
        self._client.close()


def _table(document: Mapping[str, Any], zone: str) -> pa.Table:
    import pyarrow as pa

    rows = document["rows"]
    exact = {
        name: [None if row.get(name) is None else Decimal(str(row[name])) for row in rows]
        for name in ("quantity", "min", "max")
    }
    scale = max(
        (-number.as_tuple().exponent for column in exact.values() for number in column if number is not None), default=0
    )
    decimal = pa.decimal128(38, max(scale, 0))
    starts = [datetime.fromisoformat(row["start"]) for row in rows]
    return pa.table(
        {
            "start": pa.array(starts, pa.timestamp("ms", zone)),
            **{name: pa.array(column, decimal) for name, column in exact.items()},
            "unit": pa.array([document["unit"]] * len(rows), pa.string()),
            "count": pa.array([row.get("count") for row in rows], pa.int64()),
            "quality": pa.array([row.get("quality") for row in rows], pa.string()),
            "source": pa.array([row.get("source") for row in rows], pa.string()),
        }
    )
