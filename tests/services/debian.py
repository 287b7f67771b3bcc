"""Debian's packages, where we may install them."""

from __future__ import annotations

import os
import shutil
import subprocess

_QUIET = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # runlevel 1: the package's own service is not started


def install(*packages: str) -> None:
    """Raises OSError where this machine has no apt-get or we are not root, CalledProcessError where it fails."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise OSError(f"install {' '.join(packages)} with your package manager")
    environment = os.environ | _QUIET
    subprocess.run(["apt-get", "update", "-qq"], env=environment, check=True)
    command = ["apt-get", "install", "-yqq", "--no-install-recommends", *packages]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
