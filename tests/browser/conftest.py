"""The real server, small, and Chromium with the network shut but for that server."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 120
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def _chromium() -> str | None:
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if _chromium() is not None or os.environ.get("CI") == "true":
        return
    skip = pytest.mark.skip(reason="needs Chromium: apt-get install chromium, or set CHROMIUM to its path")
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("browser"):
            item.add_marker(skip)


class Server:
    """`meterpulse up` in a process of its own."""

    def __init__(self, data: Path, *options: str) -> None:
        own = options or ("--households", "300")
        command = [sys.executable, "-m", "meterpulse", "up", "--data", str(data), "--port", "0", *own]
        self.day = 0
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.said: list[str] = []
        self._ready = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        if not self._ready.wait(START_SECONDS):
            self.stop()
            pytest.fail(f"meterpulse up gave no address in {START_SECONDS} s: {''.join(self.said)[-2000:]}")

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            found = re.search(r"http://\S+", line)
            if found:
                self.url = found.group().rstrip("/.")
                self._ready.set()

    def get(self, path: str) -> Any:
        """The JSON of an address of the API."""
        with urllib.request.urlopen(self.url + path, timeout=20) as answer:
            return json.load(answer)

    def post(self, path: str, body: object) -> Any:
        """Send JSON."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"content-type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def until(self, path: str, holds: Callable[[Any], bool], seconds: float = 90) -> Any:
        """The answer, once it is as wanted."""
        end = time.monotonic() + seconds
        while not holds(answer := self.get(path)):
            if time.monotonic() > end:
                pytest.fail(f"{path} did not get there in {seconds} s: {json.dumps(answer)[:1000]}")
            time.sleep(0.5)
        return answer

    def stop(self) -> None:
        """As Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A demo city of 300 households with its first whole minute and a part of its history."""
    running = Server(tmp_path_factory.mktemp("data"))
    try:
        running.until("/v1/load?utility=electricity", lambda load: len(load["areas"]) > 50, 150)
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")  # what Playwright leaves running would be in the way of others
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = _chromium()
    if path is None:
        pytest.fail("Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        # names do not resolve, so that nothing outside can be reached whatever a page asks for
        shut = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=path, args=QUIET + shut)
        yield browser
        browser.close()


class Watched:
    """Pages of one browser context; what they log and where they ask is kept and judged at the end."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.url = url
        self.context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        self.context.set_default_timeout(20_000)
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        self.expected: str | None = None  # what the browser itself logs in a test that provokes it
        self.context.on("request", self._asked)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(self.url):
            self.elsewhere.append(request.url)

    def open(self, path: str) -> Any:
        """A new page at the path."""
        page = self.context.new_page()
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(self.url + path)
        return page


@pytest.fixture
def browse(server: Server, chromium: Any) -> Iterator[Callable[..., Watched]]:
    """`browse(**context options)` gives Watched pages; at the end none may have logged an error or asked elsewhere."""
    made: list[Watched] = []

    def make(**options: Any) -> Watched:
        made.append(Watched(chromium, server.url, **options))
        return made[-1]

    yield make
    for watched in made:
        watched.context.close()
    errors = [
        e for watched in made for e in watched.errors if not (watched.expected and re.search(watched.expected, e))
    ]
    assert errors == []
    assert [address for watched in made for address in watched.elsewhere] == []


@pytest.fixture
def known() -> Callable[[Any, str], str]:
    """`known(page, selector)`: the text of an element once there is a number in it."""

    def text_of(page: Any, selector: str) -> str:
        page.wait_for_function("s => /\\d/.test(document.querySelector(s)?.textContent ?? '')", arg=selector)
        return page.text_content(selector)

    return text_of


class Wire:
    """A TCP relay in front of the server that can be cut and mended."""

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._sockets: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.port = 0
        self.mend()

    def mend(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
                self._sockets |= {near, far}
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._relay, args=(one, other), daemon=True).start()

    def _relay(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            self._sockets.discard(end)


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    relay = Wire(int(server.url.rpartition(":")[2]))
    yield relay
    relay.cut()
