"""Many inside at a time, or one alone: files are closed and opened anew only while nobody reads them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager


class Gate:
    """Whoever is `inside` may go inside again; whoever is inside must not ask to be `alone`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: dict[int, int] = {}
        self._shut = False

    def inside(self) -> AbstractContextManager[None]:
        """Waits while somebody is alone."""
        return _Inside(self)

    def _enter(self) -> None:
        me = threading.get_ident()
        with self._changed:
            while self._shut and me not in self._inside:
                self._changed.wait()
            self._inside[me] = self._inside.get(me, 0) + 1

    def _leave(self) -> None:
        me = threading.get_ident()
        with self._changed:
            self._inside[me] -= 1
            if not self._inside[me]:
                del self._inside[me]
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Waits until nobody is inside, and keeps everybody out."""
        with self._changed:
            while self._shut:
                self._changed.wait()
            self._shut = True
            while self._inside:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._shut = False
                self._changed.notify_all()


class _Inside(AbstractContextManager[None]):
    """A class and not a generator: entered some thousand times a second."""

    __slots__ = ("_gate",)

    def __init__(self, gate: Gate):
        self._gate = gate

    def __enter__(self) -> None:
        self._gate._enter()

    def __exit__(self, *_: object) -> None:
        self._gate._leave()
