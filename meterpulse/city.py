"""A city as Python sees it: one object, whether a server has the data open or this process does."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from datetime import time as clock_time
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from meterpulse.backing import Backing, Opened, Served
from meterpulse.client import Client, find_server
from meterpulse.model.window import instant_ms

if TYPE_CHECKING:
    import pyarrow as pa

    from meterpulse.config import Config

Moment = str | date | datetime


class UsageError(ValueError):
    """A question that cannot be asked so; the message says how."""


class City:
    """Readings, usage and channels of one city. Made by `meterpulse.open`."""

    def __init__(self, backing: Backing, place: str):
        self.backing, self.place = backing, place

    @classmethod
    def at(cls, url: str) -> City:
        """The city of a running server."""
        return cls(Served(Client(url)), url)

    @classmethod
    def of(cls, config: Config) -> City:
        """The city in `config.data`: through its server if one runs, else opened in this process."""
        client = find_server(config.data)
        if client is not None:
            return cls(Served(client), client.url)
        return cls(Opened(config), str(config.data))

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
        values: str = "measured",
    ) -> pa.Table:
        """What a channel, or all channels of one utility in an area, used per window of `grain` (1m, 5m, 1h, 1d).

        Columns: start (timestamp in the meter's time zone), quantity, min, max, last (decimal, in the column `unit`),
        count, quality, source. A plain date is midnight where the meter is; a datetime needs a zone. `values`: measured, or effective (the
        record, with estimates and edits).
        """
        import pyarrow as pa

        which: dict[str, Any] = {"area": area, "utility": utility, "start": start, "end": end}
        body = self.usage_body("arrow", channel, **which, grain=grain, values=values)
        return pa.ipc.open_stream(body).read_all()

    def usage_body(
        self,
        form: str,
        channel: str | None = None,
        *,
        area: str | None = None,
        utility: str | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        grain: str = "1h",
        values: str = "measured",
    ) -> bytes:
        """The same answer as the body of /v1/usage in one of its forms: json, csv, arrow, parquet."""
        if (channel is None) == (area is None):
            raise UsageError("name a channel, or an area with a utility")
        query: dict[str, Any] = {"channel": channel, "area": area, "utility": utility, "grain": grain, "values": values}
        for name, moment in (("start", start), ("end", end)):
            query[name] = None if moment is None else self._instant(moment, channel, area)
        return self.backing.usage({name: value for name, value in query.items() if value is not None}, form)

    def intervals(
        self,
        channel: str,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        as_of: Moment | None = None,
        history: bool = False,
    ) -> pa.Table:
        """The record of a channel, interval by interval: start, seconds, measured and quantity (what stands; decimals in the column
        `unit`), quality, nem12, method (an estimator, "edit", or empty), known_at. `as_of`: what stood then; `history`: every
        version, with known_until, and author and reason of edits."""
        import pyarrow as pa

        body = self.intervals_body("arrow", channel, start=start, end=end, as_of=as_of, history=history)
        return pa.ipc.open_stream(body).read_all()

    def intervals_body(
        self,
        form: str,
        channel: str,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        as_of: Moment | None = None,
        history: bool = False,
    ) -> bytes:
        """The same answer as the body of /v1/intervals in one of its forms: json, csv, arrow, parquet."""
        query: dict[str, Any] = {"channel": channel} | ({"history": True} if history else {})
        for name, moment in (("start", start), ("end", end), ("as_of", as_of)):
            query[name] = None if moment is None else self._instant(moment, channel, None)
        return self.backing.intervals({name: value for name, value in query.items() if value is not None}, form)

    def exceptions(self, **which: Any) -> list[dict[str, Any]]:
        """The work list, every page of it: state (waiting, open, assigned, resolved), rule, utility, area, assignee, channel,
        start, end; sort by weight, age or newest."""
        found: list[dict[str, Any]] = []
        page: dict[str, Any] = {"next": None}
        while not found or page["next"] is not None:
            page = self.backing.desk("exceptions", {**which, "after": page["next"], "limit": 1000})
            found += page["exceptions"]
            if not page["exceptions"]:
                break
        return found

    def preview(self, action: str, **which: Any) -> dict[str, Any]:
        """What an action (set, interpolate, copy week, accept raw, accept estimate, leave) would change: on `exceptions`
        (numbers), on a `filter`, or on intervals of a `channel` from `start` to `end`, with `values` for set."""
        return self.backing.desk("preview", {"action": action, **which})

    def decide(self, action: str, *, author: str, reason: str, **which: Any) -> dict[str, Any]:
        """Does what `preview` tells and gives the number of the change; with its `fingerprint`, only if nothing has moved."""
        return self.backing.desk("decide", {"action": action, "author": author, "reason": reason, **which})

    def undo(self, change: int, *, author: str, reason: str) -> dict[str, Any]:
        """Takes a change back; its exceptions wait again."""
        return self.backing.desk("undo", {"change": change, "author": author, "reason": reason})

    def changes(self, **which: Any) -> list[dict[str, Any]]:
        """Who decided what, when and why, the newest first: of a `channel`, by an `author`; at most `limit`."""
        return self.backing.desk("changes", which)["changes"]

    def differences(self, **which: Any) -> pa.Table:
        """Where batch answers otherwise than speed did, by channel and cause, with exact decimals: of a `day` or from `start` to
        `end` (UTC days), of a utility, area, channel or cause."""
        import pyarrow as pa

        return pa.ipc.open_stream(self.backing.differences(which, "arrow")).read_all()

    def export(
        self,
        channels: Sequence[str] = (),
        *,
        format: str = "csv",
        grain: str = "readings",
        start: Moment | None = None,
        end: Moment | None = None,
        **which: str | None,
    ) -> Iterator[bytes]:
        """A file of readings, or of usage by `grain`, piece by piece: of channels (ids or patterns) or of an area, utility or
        usage_point. format is csv, parquet, arrow, green_button, nem12 or nem13. A plain date is midnight where the (first) channel
        or the area is."""
        query: dict[str, Any] = {"channel": list(channels) or None, "format": format, "grain": grain, **which}
        for name, moment in (("start", start), ("end", end)):
            query[name] = (
                None if moment is None else self._instant(moment, next(iter(channels), None), which.get("area"))
            )
        return self.backing.export({name: value for name, value in query.items() if value is not None})

    def settle(self, timeout_seconds: float = 120.0) -> bool:
        """Wait until every accepted reading is in every answer; False where that took longer."""
        return self.backing.settle(timeout_seconds)

    def status(self) -> dict[str, Any]:
        """Counters, watermark, lag and dirty days: the JSON of /v1/status."""
        return self.backing.status()

    def channels(self) -> pa.Table:
        """All channels with their dense index, in its order."""
        return self.backing.channels()

    def channel(self, id: str) -> dict[str, Any] | None:
        """One channel in its public shape, None where it does not exist."""
        return self.backing.channel(id)

    def time_zone(self, channel: str | None = None, area: str | None = None) -> str:
        """The time zone of a channel or an area; UTC where there is no such thing."""
        if channel is not None:
            found = self.channel(channel)
            return found["time_zone"] if found else "UTC"
        return (area and self.backing.area_zone(area)) or "UTC"

    def instant_ms(self, moment: Moment, channel: str | None = None, area: str | None = None) -> int:
        """Milliseconds since 1970 of a date (midnight where the channel or area is) or of a time with an offset."""
        try:
            return instant_ms(self._instant(moment, channel, area))
        except UsageError:
            raise
        except ValueError as error:
            raise UsageError(str(error)) from None

    def _instant(self, moment: Moment, channel: str | None, area: str | None) -> str:
        if isinstance(moment, str):
            if len(moment) != len("2026-03-08"):
                return moment
            try:
                moment = date.fromisoformat(moment)
            except ValueError as error:
                raise UsageError(f"{moment!r} is no date: {error}; write it like 2026-03-08") from None
        if not isinstance(moment, datetime):
            moment = datetime.combine(moment, clock_time(0), ZoneInfo(self.time_zone(channel, area)))
        if moment.tzinfo is None:
            raise UsageError(f"{moment} has no time zone; write datetime(..., tzinfo=ZoneInfo(...))")
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
