"""Memory of the demo city: all its processes together, in its first minutes and settled.

python bench/memory.py                    five minutes with the history of a day
python bench/memory.py --small            a small city, half a minute

What counts is PSS: private pages, and each shared page once, divided by those who share it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import psutil
from _common import Server, report

MUST, AIM = 600, 300
SAMPLE_SECONDS = 0.25


def processes(server: Server) -> dict[str, int]:
    """PSS in bytes by process: the server and what it started."""
    found: dict[str, int] = {}
    parent = psutil.Process(server.process.pid)
    for process in [parent, *parent.children(recursive=True)]:
        try:
            name = (
                "server"
                if process.pid == parent.pid
                else "lake"
                if "lakeworker" in " ".join(process.cmdline())
                else "other"
            )
            found[name] = found.get(name, 0) + process.memory_full_info().pss
        except psutil.Error:
            continue
    return found


def run(minutes: float, households: int) -> dict[str, Any]:
    """A new demo city from its first second on."""
    server = Server(arguments=("--households", str(households)))
    samples: list[tuple[float, dict[str, int]]] = []
    try:
        began = time.perf_counter()
        server.start()
        while time.perf_counter() - began < minutes * 60:
            samples.append((time.perf_counter() - began, processes(server)))
            time.sleep(SAMPLE_SECONDS)
        server.settle()
        calm = []
        for _ in range(20):
            calm.append(processes(server))
            time.sleep(0.5)
        status = server.status()
    finally:
        server.stop()
    total = [sum(s.values()) for _, s in samples]
    peak = max(range(len(total)), key=total.__getitem__)
    return {
        "minutes": minutes, "households": households, "channels": status["channels"], "readings": status["accepted"],
        "peak_bytes": total[peak], "peak_after_seconds": samples[peak][0], "peak_by_process": samples[peak][1],
        "median_bytes": statistics.median(total), "settled_bytes": statistics.median(sum(s.values()) for s in calm),
        "settled_by_process": calm[-1], "alarms": status["alarms"],
        "every_10_s": [[round(at), *s.values()] for at, s in samples[:: int(10 / SAMPLE_SECONDS)]],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--households", type=int, default=10_000)
    parser.add_argument("--small", action="store_true", help="500 households, half a minute")
    parser.add_argument("--save", action="store_true", help="write bench/results")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.minutes, arguments.households = min(arguments.minutes, 0.5), min(arguments.households, 500)
    r = run(arguments.minutes, arguments.households)

    def parts(sizes: dict[str, int]) -> str:
        return ", ".join(f"{name} {size / 1e6:.0f}" for name, size in sizes.items())

    rows = [
        ("households, channels", f"{r['households']:,}, {r['channels']:,}", ""),
        ("readings taken", f"{r['readings']:,}", ""),
        ("settled, all processes (PSS)", f"{r['settled_bytes'] / 1e6:.0f} MB", f"must {MUST} MB, aim {AIM} MB"),
        ("  by process", parts(r["settled_by_process"]), ""),
        (
            f"peak of the first {r['minutes']:g} minutes",
            f"{r['peak_bytes'] / 1e6:.0f} MB",
            f"must {MUST} MB, aim {AIM} MB",
        ),
        ("  by process", parts(r["peak_by_process"]), f"after {r['peak_after_seconds']:.0f} s"),
        ("median of the first minutes", f"{r['median_bytes'] / 1e6:.0f} MB", ""),
        ("alarms", f"{len(r['alarms'])}", "must 0"),
    ]
    report("memory", rows, r, arguments.save)
    if r["alarms"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
