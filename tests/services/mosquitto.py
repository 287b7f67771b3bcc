"""Mosquitto, Debian's package: an MQTT broker with users, rights and a memory that survives its end."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.services.debian import install
from tests.services.process import Server, free_port

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def missing() -> str | None:
    """Why it cannot be started here."""
    tools = ("mosquitto", "mosquitto_passwd")
    absent = [tool for tool in tools if shutil.which(tool, path=_PATH) is None]
    return f"no {absent[0]} on the path" if absent else None


def fetch() -> None:
    """Installs it."""
    install("mosquitto")


class Mosquitto(Server):
    """`users` are name to password; without them anybody on this machine may connect. `rights` are lines of an ACL file."""

    def __init__(
        self,
        folder: Path,
        users: Mapping[str, str] | None = None,
        rights: Sequence[str] = (),
        options: Sequence[str] = ("max_inflight_messages 0", "max_queued_messages 0"),
    ):
        super().__init__(folder)
        self.port = free_port()
        self._users, self._rights, self._options = users or {}, rights, options

    @property
    def url(self) -> str:
        """As ingest.mqtt.url takes it."""
        return f"mqtt://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        lines = [
            f"listener {self.port} 127.0.0.1", f"user {getpass.getuser()}", "set_tcp_nodelay true",
            # Kept on disk a second after each change: what a kill may take is the last second, as with any broker.
            "persistence true", f"persistence_location {self.folder}/", "autosave_interval 1", "autosave_on_changes false",
            *self._options,
        ]  # fmt: skip
        if self._users:
            self._write_users()
            lines += ["allow_anonymous false", "password_file users"]
        else:
            lines += ["allow_anonymous true"]
        if self._rights:
            (self.folder / "rights").write_text("\n".join(self._rights) + "\n", encoding="utf-8")
            os.chmod(self.folder / "rights", 0o600)
            lines += ["acl_file rights"]
        (self.folder / "mosquitto.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [str(shutil.which("mosquitto", path=_PATH)), "-c", "mosquitto.conf"]

    def _write_users(self) -> None:
        file, tool = self.folder / "users", str(shutil.which("mosquitto_passwd", path=_PATH))
        file.unlink(missing_ok=True)
        for number, (name, password) in enumerate(self._users.items()):
            how = ["-b"] if number else ["-b", "-c"]
            subprocess.run([tool, *how, str(file), name, password], check=True, capture_output=True)
        os.chmod(file, 0o600)

    def is_ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 0.5).close()
        except OSError:
            return False
        return True
