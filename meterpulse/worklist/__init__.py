"""What people decide about values: the work list of exceptions, and the ledger of edits.

A validation rule that fails makes an exception; a person looks at it and decides. What they decide is an edit: values with
an author, a reason and a time, for intervals of a channel. Nothing is ever deleted: an undo is an event of its own, so that
`as_of` can say what was in force at any time. The batch layer asks what is in force when it builds a day:

    with Desk.open(directory) as desk:
        desk.edits.commit([Edit(channel=7, start_ms=..., step_ms=900_000, quantity=..., quality=...)],
                          action="set", author="ana", reason="meter shorted", at_ms=now)
        desk.edits.edits_for((0, 4096), day_start_ms, day_end_ms)     # InForce: columns by (channel, start)
        desk.exceptions.offer(day, found, at_ms=now)                  # what fails now; the same again changes nothing

Everything is in SQL (SQLite in the data folder, or a URL) and on disk when a call returns. Times are given, never read.
"""

from __future__ import annotations

from meterpulse.worklist.desk import Desk
from meterpulse.worklist.edits import ACTIONS, Edit, EditError, Edits, InForce, Mode
from meterpulse.worklist.exceptions import Filter, Found, Item, Offered, Worklist

__all__ = [
    "ACTIONS",
    "Desk",
    "Edit",
    "EditError",
    "Edits",
    "Filter",
    "Found",
    "InForce",
    "Item",
    "Mode",
    "Offered",
    "Worklist",
]
