"""Who waits for whom: a page and an acknowledgement go before what can be made later.

On a machine of two cores the loops over millions of readings keep both busy. What somebody waits for has the plain
priority; applying the log steps back behind it, and carrying windows to the store and rebuilding days behind that.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

DECODING, APPLYING, CARRYING = 2, 5, 10  # nice values
_SWITCH_SECONDS = 0.0005


def step_back(nice: int) -> None:
    """Lowers the priority of the thread that calls this, where the system has priorities of threads (Linux)."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


def switch_often() -> None:
    """Lets a thread that waits for the interpreter have it after half a millisecond, not after five: the event loop asks
    for it again after every call to the system, and paid that each time somebody else was computing."""
    sys.setswitchinterval(_SWITCH_SECONDS)
