"""Places where tests kill this process, to see that nothing acknowledged is lost there. Without the variable it does nothing.

METERPULSE_CRASH_AT=<point> or <point>:<n> kills the process with SIGKILL when it comes by the n-th time. The points:

    log.appended          a group of readings is on disk and not acknowledged yet
    store.windows         retired windows are in the store, and nothing says so yet
    store.retired         the retirement is noted, and its hours are not made yet
    store.hour            some of an hour's blocks are composed
    checkpoint.written    the files of a checkpoint are there, not synced and not in place
    checkpoint.settled    it is in place, and the older ones are gone
    batch.block           a rebuild has replaced some blocks of its day
    batch.day             it has replaced all, and the day still counts as dirty
    lake.published        data files are under their names, and no commit names them (in the lake's process)
    record.kept           what a record said before is in the lake, and the record still says it
    record.block          some of a day's blocks are recorded
    record.day            all are, and nobody has heard of it
    lake.committed        they are committed, and the server has not heard of it (in the lake's process)
"""

from __future__ import annotations

import os
import signal

VARIABLE = "METERPULSE_CRASH_AT"
POINTS = (
    "log.appended", "store.windows", "store.retired", "store.hour", "checkpoint.written", "checkpoint.settled",
    "batch.block", "batch.day", "lake.published", "lake.committed", "record.kept", "record.block", "record.day",
)  # fmt: skip
_armed: list[int | str] | None = None


def arm(where: str) -> None:
    """`<point>` or `<point>:<n>`; empty: nothing. Raises ValueError."""
    global _armed
    point, _, count = where.partition(":")
    if where and point not in POINTS:
        raise ValueError(f"{VARIABLE}={where!r}: no such point; there are {', '.join(POINTS)}")
    _armed = [point, int(count or 1)] if where else None


def crash_point(name: str) -> None:
    """The process ends here if it was armed for this point."""
    if _armed is not None and _armed[0] == name:
        _armed[1] -= 1  # type: ignore[operator]
        if _armed[1] == 0:
            os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get(VARIABLE, ""))
