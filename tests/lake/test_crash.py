"""kill -9 at any moment: every acknowledged range is there, every range at most once, without a hand."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from meterpulse.lake.delta import DeltaLake

CHILD = Path(__file__).with_name("crash_child.py")
KILLS = int(os.environ.get("METERPULSE_LAKE_KILLS", "12"))


def _check(directory: Path, acknowledged: int) -> None:
    lake = DeltaLake.open(directory)
    assert lake.position >= acknowledged and lake.recovered == [] and lake.verify() == []
    got = [b.quantity for d in lake.days() for b in lake.read(lake.files(d))]
    expected = np.arange(lake.position * 16)
    assert np.array_equal(np.sort(np.concatenate([np.array([], np.int64), *got])), expected)
    lake.close()


@pytest.mark.crash
def test_killed_at_random_moments_every_committed_range_is_there_once(tmp_path):
    dice = random.Random(9)
    for _ in range(KILLS):
        command = [sys.executable, str(CHILD), str(tmp_path), "100000"]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        time.sleep(dice.random() * 0.3)
        child.kill()
        told = child.stdout.read().split()
        child.wait()
        _check(tmp_path, int(told[-1]) if told and told[-1].isdigit() else 0)


STEPS = ["open", "write", "fsync", "rename", "link", "unlink", "mkdir"]


@pytest.mark.crash
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_every_system_call_every_committed_range_is_there_once(tmp_path, step):
    """The n-th call of `step` kills the process, for each n of one round of writing, compacting and a checkpoint."""
    calls = 1
    while calls < 2_000:
        directory = tmp_path / str(calls)
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read_end)
            os.dup2(write_end, 1)
            _die_at(step, calls)
            import importlib.util

            spec = importlib.util.spec_from_file_location("crash_child", CHILD)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            sys.stdout = os.fdopen(1, "w")
            try:
                module.main(directory, 12)
            finally:
                os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end) as told:
            acknowledged = told.read().split()
        _, status = os.waitpid(child, 0)
        _check(directory, int(acknowledged[-1]) if acknowledged else 0)
        if os.WIFEXITED(status):
            return
        calls += 1 if calls < 30 else 7 if calls < 200 else 41
    raise AssertionError("it never came to an end")


def _die_at(step: str, calls: int) -> None:
    """From now on the `calls`-th os.<step> is the process's last deed: half the time before it, half the time after."""
    original, left = getattr(os, step), [calls]

    def counted(*args, **options):
        left[0] -= 1
        if left[0] == 0 and calls % 2:
            os.kill(os.getpid(), 9)
        result = original(*args, **options)
        if left[0] == 0:
            os.kill(os.getpid(), 9)
        return result

    setattr(os, step, counted)
