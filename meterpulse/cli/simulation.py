"""`meterpulse simulate`: a city of which every reading is a function of seed, channel and time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from meterpulse.cli.output import progress, say


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(simulate)


def simulate(
    to: Annotated[
        str, typer.Option(help="A server's URL, a file ending in .parquet, .ndjson or .csv, or - for NDJSON.")
    ],
    households: Annotated[int, typer.Option(min=1, help="Businesses come on top, as many as New York has.")] = 1_000,
    utilities: Annotated[str, typer.Option(help="Any of electricity,gas,water.")] = "electricity,gas,water",
    seed: Annotated[int, typer.Option(help="The same seed makes the same city.")] = 1,
    faults: Annotated[str, typer.Option(help='Such as "late=0.01,duplicate" or "all".')] = "none",
    truth: Annotated[Path | None, typer.Option(help="Write every fault to this file, as NDJSON.")] = None,
    start: Annotated[str | None, typer.Option(help="ISO 8601 with an offset (default: so that it ends now).")] = None,
    hours: Annotated[float | None, typer.Option(min=0.01, help="How long (default: 1; to a server: for ever).")] = None,
    every: Annotated[int, typer.Option(min=1, help="Seconds between two readings of a channel.")] = 5,
    speed: Annotated[
        float | None, typer.Option(help="Event seconds per second (default: 1 to a server, else: no wait).")
    ] = None,
) -> None:
    """Run a simulated city whose every reading is a function of seed, channel and time."""
    import time

    from meterpulse.model.window import instant_ms
    from meterpulse.simulator import City, simulate
    from meterpulse.simulator.deliver import target_of
    from meterpulse.simulator.faults import parse
    from meterpulse.simulator.pace import Pace

    now_ms = time.time_ns() // 1_000_000
    live = to.startswith(("http://", "https://")) and start is None
    try:
        town = City(households, seed=seed, utilities=tuple(word for word in utilities.split(",") if word))
        rates = parse(faults)
        begin = instant_ms(start) if start else now_ms if live else now_ms - round((hours or 1) * 3_600_000)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    begin -= begin % (every * 1000)
    end = begin + round(hours * 3_600_000) if hours else begin + 3_600_000 if not live else begin + 10**13
    wanted = speed or (1.0 if live else None)
    pace = Pace(lambda: time.monotonic_ns() // 1_000_000, time.sleep, begin, wanted) if wanted else None
    target = target_of(to)
    told = _Truth(truth)
    try:
        with progress("simulating", None if live and hours is None else (end - begin) / 1000, "s") as bar:
            done, at_ms = None, begin
            for done in simulate(town, begin, end, every, rates, target, told, pace):
                bar.advance((done.at_ms - at_ms) / 1000, f"{done.readings} readings")
                at_ms = done.at_ms
    finally:
        target.close()
        told.close()
    if done is not None:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(done.faults.items()))
        say(f"{done.readings} readings of {town.count} channels to {to}" + (f"; faults: {counts}" if counts else ""))
        beside = sorted(Path(to).parent.glob(f"{Path(to).stem}.channels.*")) if not live and to != "-" else []
        for channels in beside:
            say(f"bring them in with: meterpulse ingest {to} --channels {channels}")


class _Truth:
    """Takes the labels of faults; a file of NDJSON, or nothing."""

    def __init__(self, path: Path | None):
        self._file = None if path is None else path.open("wb")

    def __call__(self, rows: list[dict[str, Any]]) -> None:
        if self._file is not None:
            import orjson

            self._file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
