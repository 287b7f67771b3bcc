"""A disk that fills up, really: a small tmpfs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from meterpulse.lake import LakeFull
from meterpulse.lake.delta import DeltaLake
from meterpulse.model.reading import Readings
from meterpulse.model.window import DAY_MS

DAY = 20_520
SIZE = 8 << 20


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def _noise(seed: int, n: int = 20_000) -> Readings:
    return Readings.of(np.arange(n), DAY * DAY_MS, 5, np.random.default_rng(seed).integers(0, 1 << 62, n))


def _quantities(lake: DeltaLake) -> np.ndarray:
    return np.concatenate([b.quantity for b in lake.read(lake.files(DAY))])


def _fill(disk: Path, leave: int) -> Path:
    """Occupy the disk but for `leave` bytes."""
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leave))
    return ballast


def test_a_full_disk_takes_nothing_and_goes_on_when_space_returns(small_disk):
    lake, n = DeltaLake.open(small_disk), 0
    with pytest.raises(LakeFull, match="free disk space"):
        while True:
            lake.write([_noise(n)], n, n + 1)
            n += 1
    expected = np.concatenate([_noise(i).quantity for i in range(n)])
    assert lake.position == n > 10 and np.array_equal(_quantities(lake), expected)
    assert not list(lake._root.glob("**/.new*")) and lake.verify() == []
    lake.close()
    lake = DeltaLake.open(small_disk)
    assert lake.position == n
    with pytest.raises(LakeFull):
        lake.write([_noise(n, 200_000)], n, n + 1)
    assert lake.drop(DAY) == n * 20_000  # retention works on the full disk
    lake.write([_noise(n)], n, n + 1)
    assert lake.position == n + 1 and np.array_equal(_quantities(lake), _noise(n).quantity) and lake.verify() == []
    lake.close()


@pytest.mark.parametrize("pages_left", range(0, 62, 2))
def test_wherever_the_space_ends_a_write_is_whole_or_not_there(small_disk, pages_left):
    lake = DeltaLake.open(small_disk)
    lake.write([_noise(0)], 0, 1)
    ballast = _fill(small_disk, leave=pages_left * 4096)
    two_days = Readings.of(np.arange(9000), np.repeat([DAY, DAY + 1], 4500) * DAY_MS, 5, _noise(1).quantity[:9000])
    try:
        lake.write([two_days], 1, 2)
    except LakeFull:
        assert lake.position == 1 and lake.days() == [DAY] and len(_quantities(lake)) == 20_000
        assert not list(lake._root.glob("**/.new*"))
    ballast.unlink()
    if lake.position == 1:
        lake.write([two_days], 1, 2)
    lake.close()
    lake = DeltaLake.open(small_disk)
    assert lake.position == 2 and lake.recovered == [] and lake.verify() == []
    assert [sum(f.rows for f in lake.files(d)) for d in lake.days()] == [24_500, 4500]
    lake.close()


def test_compacting_on_a_full_disk_changes_nothing(small_disk):
    lake = DeltaLake.open(small_disk, rows_in_memory=10_000)
    for i in range(8):
        lake.write([_noise(i)], i, i + 1)
    files, ballast = lake.files(DAY), _fill(small_disk, leave=1 << 20)
    with pytest.raises(LakeFull):
        lake.compact(DAY)
    assert lake.files(DAY) == files and not list(lake._root.glob("**/.new*"))
    ballast.unlink()
    assert lake.compact(DAY) and lake.verify() == []
    lake.close()
