"""P1: the customer port of a meter, read as it talks: by TCP from a gateway, or from a serial cable.

A telegram comes every 1 to 10 seconds, and nothing is acknowledged: what the meter says while nobody listens is gone, and the
registers of the next telegram tell the sum. Refused telegrams are kept as those that come by MQTT are.
"""

from __future__ import annotations

import os
import select
import socket
import termios
import threading
import tty
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from meterpulse.ingest import Decoded, Delivery, House, Source
from meterpulse.ingest.dialects import dialect
from meterpulse.ingest.message import Message, decode_messages

_SILENCE_SECONDS = 60.0  # a meter that says nothing for so long has lost us
_BYTES_MAX = 64 * 1024
_SPEEDS = {9_600: termios.B9600, 115_200: termios.B115200}


class P1Source(Source):
    """See Source; settings in config.P1. Its watermark is kept under `p1:<address>`."""

    def __init__(self, settings: Any, house: House):
        super().__init__(settings, house)
        parts = urlsplit(settings.url)
        self._address = (parts.netloc or parts.path)[:150]
        self._ended = threading.Event()
        self._dialect = dialect("p1")

    def deliveries(self) -> Iterator[Delivery | None]:
        with _opened(self.settings) as line:
            heard, silent = bytearray(), 0.0
            while not self._ended.is_set():
                if not select.select([line.fileno()], [], [], 0.5)[0]:
                    silent += 0.5
                    if silent > _SILENCE_SECONDS:
                        raise OSError(f"{self.settings.url} is silent")
                    yield None
                    continue
                data = os.read(line.fileno(), 65_536)
                if not data:
                    raise OSError(f"{self.settings.url} closed the connection")
                silent = 0.0
                heard += data
                telegrams = list(cut(heard))
                yield self._delivery(telegrams) if telegrams else None

    def stop(self) -> None:
        self._ended.set()

    def _delivery(self, telegrams: list[bytes]) -> Delivery:
        topic = f"p1/{self._address.replace('/', '_')}/telegram"
        messages = [Message(topic, telegram, self._dialect) for telegram in telegrams]
        house, register = self.house, self.settings.unknown_channels == "register"
        decoded: Decoded = decode_messages(
            messages, house.table, house.now_ms(), "UTC", house.register if register else None
        )
        return Delivery(f"p1:{self._address}", decoded, len(messages), lambda: None)


def cut(heard: bytearray) -> Iterator[bytes]:
    """Whole telegrams, from / to the end of the line of !; what is behind the last stays. One that is cut by the next, or
    grows beyond all measure, comes as it is, so that it is refused and seen; what stands before the first is no telegram.

    >>> heard = bytearray(b"half!AB\\r\\n/X\\r\\n1\\r\\n!1234\\r\\n/Y")
    >>> list(cut(heard)), heard
    ([b'/X\\r\\n1\\r\\n!1234\\r\\n'], bytearray(b'/Y'))
    """
    while True:
        start = heard.find(b"/")
        if start < 0:
            heard.clear()
            return
        del heard[:start]
        end, again = heard.find(b"\n!"), heard.find(b"\n/", 1)
        line = heard.find(b"\n", end + 1) if end >= 0 else -1
        if 0 <= again and (end < 0 or again < end):
            stop = again + 1
        elif line >= 0:
            stop = line + 1
        elif len(heard) > _BYTES_MAX:
            stop = len(heard)
        else:
            return
        yield bytes(heard[:stop])
        del heard[:stop]


def _opened(settings: Any) -> Any:
    """A socket or a file; raises OSError."""
    parts = urlsplit(settings.url)
    if parts.scheme == "tcp":
        try:
            return socket.create_connection((parts.hostname, parts.port), 10)
        except OSError as error:
            raise OSError(f"{settings.url} is out of reach: {error}") from error
    try:
        line = open(os.open(parts.path, os.O_RDONLY | os.O_NOCTTY), "rb", buffering=0)
    except OSError as error:
        raise OSError(f"{parts.path} cannot be read: {error.strerror}; is the cable in, and may we?") from error
    try:
        _tune(line.fileno(), settings.baud)
    except (OSError, termios.error) as error:
        line.close()
        raise OSError(f"{parts.path} is no serial line: {error}") from error
    return line


def _tune(line: int, baud: int) -> None:
    """Bytes as they come: 8N1 at 115,200 (DSMR 4 and later), 7E1 at 9,600 (before)."""
    tty.setraw(line)
    settings = termios.tcgetattr(line)
    settings[4] = settings[5] = _SPEEDS[baud]
    if baud == 9_600:
        settings[0] |= termios.ISTRIP  # the eighth bit is parity
        settings[2] = (settings[2] & ~termios.CSIZE) | termios.CS7 | termios.PARENB
    termios.tcsetattr(line, termios.TCSANOW, settings)
