"""What LMDB files need beside LMDB: to be told from files that were cut short.

A transaction may use pages at the end and give them back before it commits; then they are counted and not written, and a good
file is shorter than its page count. So the end is filled up after each commit, and a file that is short when it is opened is
read as a whole: if all that is referred to is there, nothing is missing.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import lmdb


def is_short(env: lmdb.Environment, file: Path) -> bool:
    """Has the file fewer bytes than the pages that were counted?"""
    return file.stat().st_size < _wanted(env)


def fill_up(env: lmdb.Environment, file: Path) -> None:
    """Makes the file as long as its pages; what is added is a hole."""
    wanted = _wanted(env)
    if file.stat().st_size < wanted:
        os.truncate(file, wanted)


def check_short(env: lmdb.Environment, file: Path) -> None:
    """Fills the file up and follows every page from the roots, the free ones too; raises lmdb.Error where one is missing.

    In a process of its own: a page of zeros can send LMDB to addresses that are in no file, which the system answers by killing.
    """
    have = file.stat().st_size
    fill_up(env, file)
    command = [sys.executable, "-I", "-c", _FOLLOW, str(file.parent), str(env.info()["map_size"])]
    if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        raise lmdb.CorruptedError(f"the file has {have} bytes of {_wanted(env)}")


_FOLLOW = """
import lmdb, os, sys
env = lmdb.open(sys.argv[1], map_size=int(sys.argv[2]), max_dbs=8, readonly=True, lock=False)
env.copyfd(os.open(os.devnull, os.O_WRONLY), compact=True)
"""


def for_want_of_room(error: Exception, directory: Path) -> bool:
    """Did a write fail because the disk is full? LMDB calls half a write an input/output error."""
    if "No space" in str(error) or getattr(error, "errno", None) == errno.ENOSPC:
        return True
    return "Input/output error" in str(error) and shutil.disk_usage(directory).free < 1 << 20


def _wanted(env: lmdb.Environment) -> int:
    return int((env.info()["last_pgno"] + 1) * env.stat()["psize"])
