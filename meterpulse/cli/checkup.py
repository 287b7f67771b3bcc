"""What `meterpulse doctor` examines: the machine, then the data. Nothing is changed by it."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from meterpulse.client import find_server
from meterpulse.config import Broker, Config

if TYPE_CHECKING:
    from meterpulse.lake import LakeFile

GIB = 1 << 30
SLOW_SYNC_MS = 20.0


@dataclass(frozen=True)
class Finding:
    """`verdict` is fine, note (worth knowing), wrong (something will not work) or damaged (data)."""

    verdict: str
    what: str
    detail: str


def examine(config: Config) -> list[Finding]:
    """Every check in turn; a check that fails itself is a finding too."""
    findings: list[Finding] = []
    checks: list[Callable[[Config], Iterator[Finding]]] = [
        _python,
        _zones,
        _disk,
        _limits,
        _server,
        _brokers,
        _kafka,
        _data,
    ]
    for check in checks:
        try:
            findings.extend(check(config))
        except Exception as error:
            findings.append(Finding("wrong", check.__name__.strip("_"), f"{type(error).__name__}: {error}"))
    return findings


def _python(_: Config) -> Iterator[Finding]:
    yield Finding("fine", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    if sys.maxsize < 2**32:
        yield Finding("wrong", "python", "a 32-bit Python cannot map the log; install a 64-bit one")
    libraries = ("deltalake", "duckdb", "lmdb", "numba", "numpy", "pyarrow")
    yield Finding("fine", "libraries", ", ".join(f"{name} {metadata.version(name)}" for name in libraries))


def _zones(_: Config) -> Iterator[Finding]:
    from meterpulse.model.window import zone

    try:
        zone("America/New_York")
        yield Finding("fine", "time zones", "found")
    except ValueError:
        yield Finding("wrong", "time zones", "no zone data; run: pip install tzdata")


def _disk(config: Config) -> Iterator[Finding]:
    place = _existing(config.data)
    free = shutil.disk_usage(place).free
    verdict = "wrong" if free < GIB // 4 else "note" if free < 5 * GIB else "fine"
    yield Finding(verdict, "disk", f"{free / GIB:.1f} GiB free at {place}")
    try:
        median = _sync_ms(place)
    except OSError as error:
        yield Finding("wrong", "disk", f"cannot write to {place}: {error.strerror}; choose another with --data")
        return
    slow = median > SLOW_SYNC_MS
    hint = "; acknowledgements wait for it, a local SSD answers in under 1 ms" if slow else ""
    yield Finding("note" if slow else "fine", "sync", f"{median:.2f} ms for 4 KiB{hint}")


def _sync_ms(place: Path) -> float:
    """The median of seven synced writes of 4 KiB, in ms."""
    times = []
    with tempfile.TemporaryFile(dir=place) as file:
        for _ in range(7):
            began = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    return sorted(times)[3]


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _limits(_: Config) -> Iterator[Finding]:
    files, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = files < 1024
    yield Finding(
        "note" if few else "fine", "open files", f"up to {files}" + ("; raise it: ulimit -n 4096" if few else "")
    )
    free = psutil.virtual_memory().available
    few = free < GIB // 2
    hint = "; the demo city wants 0.5 GiB" if few else ""
    yield Finding("note" if few else "fine", "memory", f"{free / GIB:.1f} GiB free, {os.cpu_count()} cores{hint}")


def _server(config: Config) -> Iterator[Finding]:
    client = find_server(config.data)
    if client is None:
        yield Finding("fine", "server", f"none has {config.data} open")
        return
    with client:
        status = client.get_json("/v1/status")
    yield Finding("fine", "server", f"{client.url}, {status['accepted']} readings accepted")
    for alarm in status.get("alarms", []):
        yield Finding("note", "alarm", alarm)
    for kind in ("source", "output"):
        for one in status.get(f"{kind}s", []):
            verdict = "fine" if one["state"] == "running" else "wrong"
            error = f"; last error: {one['last_error']} ({one['last_error_at']})" if one.get("last_error") else ""
            yield Finding(verdict, kind, f"{one['name']} is {one['state']}{error}")
            for part in one.get("parts", []):
                seconds = "" if part["lag_seconds"] is None else f", {part['lag_seconds']:.1f} s"
                lost = f"; {part['lost']} were deleted before they were read" if part["lost"] else ""
                verdict = "wrong" if part["lost"] else "note" if part["lag"] else "fine"
                yield Finding(verdict, kind, f"{part['name']}: {part['lag']} messages{seconds} behind{lost}")


def _brokers(config: Config) -> Iterator[Finding]:
    """Whether the MQTT brokers take us, where no server is there to tell. Under a name of its own, so nobody is thrown out."""
    sections: dict[str, Broker] = {"source": config.ingest.mqtt, "output": config.outputs.home_assistant}
    if find_server(config.data) is not None or not any(section.is_on for section in sections.values()):
        return
    from meterpulse.plugins import PluginError, implementation

    for what, section in sections.items():
        if not section.is_on:
            continue
        try:
            implementation("outputs", "home_assistant")  # says what to install
            from meterpulse.mqtt import Address, Link

            account: Any = section.model_copy(update={"client_id": f"{section.client_id}-doctor", "session_seconds": 0})
            Link(Address.of(section.url or ""), account, timeout_seconds=5).close()
            yield Finding("fine", what, f"the broker at {section.url} takes us")
        except (OSError, PluginError) as error:
            yield Finding("wrong", what, str(error))


def _kafka(config: Config) -> Iterator[Finding]:
    """Whether Kafka's brokers answer, where no server is there to tell."""
    log = config.log.kafka if config.log.engine == "kafka" else None
    sections = {"log": log, "source": config.ingest.kafka, "output": config.outputs.kafka}
    used = {what: section for what, section in sections.items() if section is not None and section.is_on}
    if find_server(config.data) is not None or not used:
        return
    from meterpulse.plugins import PluginError, implementation

    for what, section in used.items():
        try:
            implementation("log", "kafka")  # says what to install
            from meterpulse.kafka import Connection

            brokers = Connection.of(section).brokers()
            yield Finding("fine", what, f"Kafka at {section.servers} answers, {brokers} brokers")
        except (OSError, ValueError, PluginError) as error:
            yield Finding("wrong", what, str(error))


def _data(config: Config) -> Iterator[Finding]:
    if not (config.data / "log").is_dir():
        yield Finding("fine", "data", f"none in {config.data} yet")
        return
    yield from _log(config)
    yield from _store(config)
    yield from _lake(config)


def _log(config: Config) -> Iterator[Finding]:
    from meterpulse import plugins
    from meterpulse.log import CorruptEntry, Log

    log: Log = plugins.implementation("log", config.log.engine).follow(config.data / "log", config.log)
    try:
        bad = 0
        for offset in range(log.first, log.end):
            try:
                log.read(offset)
            except CorruptEntry as error:
                bad += 1
                yield Finding("damaged", "log", str(error))
            except KeyError:
                continue  # trimmed meanwhile
        if not bad:
            yield Finding("fine", "log", f"entries {log.first} to {log.end}, {log.rows} readings so far")
    finally:
        log.close()


def _store(config: Config) -> Iterator[Finding]:
    from meterpulse import plugins

    if not (config.data / "store").is_dir():
        return
    store = plugins.implementation("stores", config.stores.engine)(
        config.data / "store", config.stores.max_bytes, readonly=True
    )
    try:
        bad = store.verify()
        unexplained = sum(json.loads(told).get("unexplained", 0) for told in store.notes("differing/").values())
    finally:
        store.close()
    if unexplained:
        what = (
            "windows differ between speed and batch without a known cause: `meterpulse differences --cause unexplained`"
        )
        yield Finding("damaged", "differences", f"{unexplained} {what}")
    yield from (Finding("damaged", "store", str(error)) for error in bad)
    if not bad:
        yield Finding("fine", "store", "every window matches its checksum")


def _lake(config: Config) -> Iterator[Finding]:
    from meterpulse.lake import history
    from meterpulse.lake.published import published

    readings, versions = published(config.data / "lake"), history.files_of(config.data / "lake")
    yield from _files(readings, "readings", "`meterpulse up` sets it aside and names its rows")
    if versions:
        yield from _files(versions, "versions of intervals", "what its day was before can only come from a backup")


def _files(files: list[LakeFile], rows_are: str, then: str) -> Iterator[Finding]:
    from meterpulse.lake import CorruptFile
    from meterpulse.lake.reader import check

    bad = 0
    for file in files:
        try:
            check(file)
        except CorruptFile as error:
            bad += 1
            yield Finding("damaged", "lake", f"{file.path}: {error.why}; {then}")
    if not bad:
        rows = sum(file.rows for file in files)
        yield Finding("fine", "lake", f"{rows} {rows_are} in {len(files)} files, every byte checked")
