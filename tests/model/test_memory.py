"""What was read of a mapped file is not memory of this process any more, and can be read again."""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path

from meterpulse.model.memory import let_go


def resident_bytes(file: Path) -> int:
    maps = Path("/proc/self/smaps").read_text()
    found = re.search(rf" {re.escape(str(file))}\n(?:.+\n)*?Rss: +(\d+) kB", maps)
    return int(found[1]) * 1024 if found else 0


def test_what_is_let_go_is_with_the_system_and_reads_the_same(tmp_path: Path) -> None:
    file, data = tmp_path / "log", os.urandom(8 << 20)
    file.write_bytes(data)
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        with memoryview(mapped) as whole:
            assert bytes(whole) == data
            assert resident_bytes(file) >= 8 << 20
            with whole[100 : (4 << 20) + 100] as part:
                let_go(part)
            assert resident_bytes(file) <= (4 << 20) + 2 * mmap.PAGESIZE
            assert bytes(whole) == data


def test_small_parts_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"1" * (1 << 20))
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        with memoryview(mapped) as whole:
            before = bytes(whole) and resident_bytes(file)
            with whole[: 4 * mmap.PAGESIZE] as part:
                let_go(part)
            assert resident_bytes(file) == before
