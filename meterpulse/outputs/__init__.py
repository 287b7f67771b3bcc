"""What the city tells others while it is served: one file per output, named as its section `outputs.<name>`."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from meterpulse import plugins
from meterpulse.model.window import iso

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

_log = logging.getLogger("meterpulse.outputs")
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 30.0


class Output(ABC):
    """Runs in a thread of its own. `settings` is its section; it is on when the section's `is_on` is true."""

    def __init__(self, settings: Any, pipeline: Pipeline):
        self.settings, self.pipeline = settings, pipeline
        self.stopping = threading.Event()

    @abstractmethod
    def run(self) -> None:
        """Connects and tells until `stopping` is set. Raises OSError where the other side is out of reach: it is called
        again after a while, and goes on where it was."""

    def facts(self) -> dict[str, Any]:
        """Counters for the status."""
        return {}


class Outputs:
    """Those whose section of the configuration is on."""

    def __init__(self, pipeline: Pipeline):
        settings = pipeline.config.outputs
        names = [name for name in plugins.available("outputs") if getattr(settings, name).is_on]
        self._running = [
            _Running(name, plugins.implementation("outputs", name)(getattr(settings, name), pipeline), pipeline)
            for name in names
        ]

    def start(self) -> None:
        """Each in a thread of its own."""
        for running in self._running:
            running.thread.start()

    def stop(self) -> None:
        """Lets them say goodbye."""
        for running in self._running:
            running.output.stopping.set()
        for running in self._running:
            if running.thread.is_alive():
                running.thread.join(10)

    def status(self) -> list[dict[str, Any]]:
        """The element `outputs` of /v1/status."""
        return [running.status() for running in self._running]


class _Running:
    def __init__(self, name: str, output: Output, pipeline: Pipeline):
        self.name, self.output, self._p = name, output, pipeline
        self._state = "stopped"
        self._error: str | None = None
        self._error_ms = 0
        self.thread = threading.Thread(target=self._run, name=f"output-{name}", daemon=True)

    def status(self) -> dict[str, Any]:
        told = {"last_error": self._error, "last_error_at": iso(self._error_ms) if self._error else None}
        return {"name": self.name, "state": self._state, **self.output.facts(), **told}

    def _run(self) -> None:
        wait = _FIRST_WAIT_SECONDS
        while not self.output.stopping.is_set():
            self._state, began_ms = "running", self._p.clock()
            try:
                self.output.run()
            except OSError as error:
                self._note(error)
            except Exception as error:  # ours to mend, and no reason to be silent for good
                _log.exception("the output %s failed", self.name)
                self._note(error)
            if not self.output.stopping.is_set():
                self._state = "waiting"
                wait = _FIRST_WAIT_SECONDS if self._p.clock() - began_ms > 60_000 else wait
                self.output.stopping.wait(wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
        self._state = "stopped"

    def _note(self, error: BaseException) -> None:
        text = str(error) or type(error).__name__
        if text != self._error:
            _log.warning("output %s: %s", self.name, text)
        self._error, self._error_ms = text, self._p.clock()
