"""`meterpulse replay`: files become a stream again, at the pace of their own time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meterpulse.cli.options import Data, Json, Url, city
from meterpulse.cli.output import INTERRUPTED, progress, put_facts, put_json, say

if TYPE_CHECKING:
    from meterpulse.city import City
    from meterpulse.cli.gathering import Gathered
    from meterpulse.ingest.copies import Copies

SOURCE = "replay"
_SPEED = re.compile(r"(\d+(?:\.\d+)?)x?")
_DAY_MS, _WEEK_MS = 86_400_000, 7 * 86_400_000
_COARSE_MS, _FINE_MS = 3_600_000, 1_000  # event time in one body, at most; and where it has come up to the clock
_CHANNELS_A_CALL = 1 << 16


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(replay)


def replay(
    files: Annotated[list[str], typer.Argument(help="Files, folders, patterns, archives, as `ingest` takes them.")],
    speed: Annotated[str, typer.Option(metavar="60x|max", help="Event seconds per second.")] = "1x",
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="First start; a date is 00:00 UTC.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Where to end; not included.")] = None,
    at: Annotated[
        str | None, typer.Option(metavar="now|DATE", help="Move the data there by whole weeks (default: not at all).")
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at the end; time goes on.")] = False,
    scale: Annotated[int, typer.Option(min=1, max=100_000, help="So many homes out of each, none a copy.")] = 1,
    every: Annotated[
        int, typer.Option(min=0, help="Divide intervals into ones of so many seconds with the same sum (0: not).")
    ] = 0,
    areas: Annotated[
        str, typer.Option("--areas", metavar="A,B,...", help="Spread homes that have no area over these.")
    ] = "",
    register: Annotated[bool, typer.Option("--register", help="Create the channels that the files imply.")] = False,
    format: Annotated[str | None, typer.Option("--format", help="The files' layout (default: recognised).")] = None,
    mapping: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A TOML file that says what the columns are.")
    ] = None,
    id_template: Annotated[
        str | None, typer.Option("--id-template", metavar="TEXT", help="Other ids, of {id}, {meter}, {stream}, {file}.")
    ] = None,
    as_json: Json = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Send files as a stream: a reading goes out when its time comes, faster or slower than it once did. Ctrl-C ends it."""
    import time

    from meterpulse.cli.gathering import Gathering
    from meterpulse.ingest.copies import copies_of
    from meterpulse.ingest.files import format_of
    from meterpulse.ingest.naming import TemplateError, check
    from meterpulse.ingest.unpack import expand

    def now_ms() -> int:
        return time.time_ns() // 1_000_000

    pace = _speed(speed)
    first, last = _time(begin, "--from", -(2**62)), _time(end, "--to", 2**62)
    target = None if at in (None, "now") else _time(at, "--at", 0)
    if (scale > 1 or every) and not register:
        raise typer.BadParameter("--scale and --every make channels of their own: add --register")
    if format is not None:
        format_of(format)
    try:
        found = expand(files)
        if id_template is not None:
            check(id_template)
    except (FileNotFoundError, TemplateError) as error:
        raise typer.BadParameter(str(error)) from None
    with city(data, url) as place, TemporaryDirectory(prefix="meterpulse-replay-") as scratch:
        sizes = sum(Path(name).stat().st_size for name, _ in found if name != "-")
        with progress("reading", sizes or None, "bytes") as bar:
            gathering = Gathering(place, Path(scratch), bar, now_ms, format, mapping, id_template, first, last)
            gathered = gathering.gathered(found)
        if not gathered.spool.rows:
            raise typer.BadParameter(_why_nothing(gathered.refused))
        days = gathered.spool.last - gathered.spool.first + 1
        copies = copies_of(gathered.channels, scale, days)
        if register:
            _register(place, copies, every, [area for area in areas.split(",") if area])
        shift_ms = _shift(gathered.spool.first * _DAY_MS, days, now_ms() if at == "now" else target)
        told, stopped = _play(place, gathered, copies, shift_ms, pace, every, count() if loop else range(days), now_ms)
    if as_json:
        put_json(told)
    else:
        put_facts(told)
    if told["reasons"].get("unknown_channel") or told["left_out"].get("unknown_channel"):
        say("--register creates the channels that the files imply")
    if stopped:
        raise typer.Exit(INTERRUPTED)


def _play(
    place: City,
    gathered: Gathered,
    copies: Copies,
    shift_ms: int,
    speed: float,
    every: int,
    days: Iterable[int],
    now_ms: Any,
) -> tuple[dict[str, Any], bool]:
    """Sends everything; the summary, and whether Ctrl-C ended it before its end."""
    import time

    from meterpulse.cli.playing import Play, Tempo, bodies
    from meterpulse.ingest import ARROW
    from meterpulse.model.window import iso

    coarse = min(_COARSE_MS, max(_FINE_MS, round(speed * 250) // 1_000 * 1_000)) if speed else _COARSE_MS

    def step_ms(at_ms: int) -> int:
        return coarse if at_ms + 2 * coarse < now_ms() else min(coarse, _FINE_MS)

    play = Play(gathered, copies, shift_ms, step_ms, every)
    ids = [channel.id for channel in copies.channels]
    begin_ms = gathered.spool.first * _DAY_MS + shift_ms
    tempo, sent, stopped, reasons = None, 0, False, Counter[str]()
    at_ms, first_ms, last_ms = begin_ms, None, None
    total = None if not isinstance(days, range) else len(days) * _DAY_MS / 1_000
    say(f"{len(ids)} channels from {iso(begin_ms)} on; Ctrl-C ends it")
    try:
        with progress("replaying", total, "s") as bar:
            for moment in play.moments(days):
                if tempo is None:  # time before the first reading is not waited for
                    tempo = Tempo(now_ms, time.sleep, moment.at_ms, speed)
                tempo.wait_until(moment.at_ms)
                for body in bodies(moment.rows, ids):
                    answer = place.backing.ingest(body, ARROW, SOURCE)
                    sent += answer["accepted"]
                    reasons.update(answer["reasons"])
                starts = moment.rows["start"]
                first_ms = int(starts[0]) if first_ms is None else first_ms
                last_ms = int(starts[-1])
                bar.advance((moment.at_ms - at_ms) / 1_000, f"{iso(moment.at_ms)} {sent} readings")
                at_ms = moment.at_ms
    except KeyboardInterrupt:
        stopped = True
    told = {
        "accepted": sent,
        "quarantined": reasons.total(),
        "reasons": dict(sorted(reasons.items())),
        "left_out": dict(sorted(gathered.refused.items())),
        "channels": len(ids),
        "first_start": None if first_ms is None else iso(first_ms),
        "last_start": None if last_ms is None else iso(last_ms),
    }
    return told, stopped


def _why_nothing(refused: Counter[str]) -> str:
    if not refused:
        return "nothing to replay: no reading starts between --from and --to"
    rows = ", ".join(f"{count} {reason}" for reason, count in refused.most_common(3))
    return f"nothing to replay: the files' rows were refused ({rows}); register their channels first, or mend the files"


def _register(place: City, copies: Copies, every: int, areas: list[str]) -> None:
    """Creates the channels; raises Problem where one cannot be."""
    from dataclasses import replace

    import pyarrow as pa
    import xxhash

    from meterpulse.registry.listing import SCHEMA

    schema = pa.schema([field for field in SCHEMA if field.name != "index"])
    for at in range(0, len(copies.channels), _CHANNELS_A_CALL):
        rows = []
        for channel in copies.channels[at : at + _CHANNELS_A_CALL]:
            if every and channel.kind == "interval" and channel.interval_seconds % every == 0:
                channel = replace(channel, interval_seconds=min(channel.interval_seconds, every))
            if areas and channel.area is None:
                point = channel.usage_point or channel.id
                channel = replace(channel, area=areas[xxhash.xxh3_64_intdigest(point.encode()) % len(areas)])
            rows.append(channel.to_dict())
        for error in place.backing.register(pa.Table.from_pylist(rows, schema))["errors"][:10]:
            say(f"channel {rows[error['position']]['id']}: {error['detail']}")


def _shift(begin_ms: int, days: int, target_ms: int | None) -> int:
    """By how much event time is moved: whole weeks (days where the data has less than one), so that it begins before the
    target, and a day before at the least."""
    if target_ms is None:
        return 0
    unit = _WEEK_MS if days >= 7 else _DAY_MS
    return (target_ms - _DAY_MS - begin_ms) // unit * unit


def _speed(text: str) -> float:
    if text == "max":
        return 0.0
    match = _SPEED.fullmatch(text)
    if match is None or not float(match[1]):
        raise typer.BadParameter(f"--speed is {text[:20]!r}; it takes a number above 0 such as 60x, or max")
    return float(match[1])


def _time(text: str | None, option: str, default: int) -> int:
    from meterpulse.model.window import instant_ms

    if text is None:
        return default
    try:
        return instant_ms(text if "T" in text else f"{text}T00:00:00Z")
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}") from None
