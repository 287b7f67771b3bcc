"""One database for both: what a person decides about an exception and the edit that follows are one transaction."""

from __future__ import annotations

import threading
from pathlib import Path

from meterpulse.database import connect, migrate
from meterpulse.worklist.edits import Edits
from meterpulse.worklist.exceptions import Worklist
from meterpulse.worklist.schema import MIGRATIONS, SchemaVersion


class Desk:
    """The ledger of edits (`edits`) and the queue (`exceptions`) of one data folder. Any thread may call."""

    def __init__(self, directory: Path, url: str | None = None):
        directory.mkdir(parents=True, exist_ok=True)
        self._engine = connect(url, directory / "worklist.sqlite")
        with self._engine.begin() as connection:
            migrate(connection, SchemaVersion.__table__, MIGRATIONS, "worklist")  # type: ignore[arg-type]
        turn = threading.Lock()
        self.edits = Edits(self._engine, turn)
        self.exceptions = Worklist(self._engine, turn)

    @classmethod
    def open(cls, directory: Path | str, url: str | None = None) -> Desk:
        """The desk in `directory`, made if there is none. `url` is SQLAlchemy's (SQLite in the directory when None)."""
        return cls(Path(directory), url)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
