"""What the pages load, read once into memory: the built files, their addresses, and their gzip form."""

from __future__ import annotations

import gzip
import hashlib
import json
import mimetypes
from dataclasses import dataclass
from pathlib import Path


class AssetError(RuntimeError):
    """The built files are not as `npm run build` leaves them; the message says what to do."""


@dataclass(frozen=True)
class Asset:
    """One file; `zipped` is None where gzip would not make it smaller."""

    body: bytes
    zipped: bytes | None
    media_type: str
    etag: str

    @classmethod
    def of(cls, name: str, body: bytes) -> Asset:
        """The asset with the media type of its name."""
        zipped = gzip.compress(body, 9, mtime=0)
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        if name.endswith(".js"):  # some systems' tables say text/plain, which a browser refuses for a module
            media_type = "text/javascript"
        etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        return cls(body, zipped if len(zipped) < len(body) else None, media_type, etag)


class Assets:
    """The files of `static/`; `manifest.json` there maps the name of a source to its hashed file."""

    def __init__(self, files: dict[str, Asset], addresses: dict[str, str]) -> None:
        self._files = files
        self._addresses = addresses

    @classmethod
    def read(cls, directory: Path) -> Assets:
        """All of them; raises AssetError where the manifest or a file of it is missing."""
        try:
            manifest: dict[str, str] = json.loads((directory / "manifest.json").read_text("utf-8"))
            files = {
                path.name: Asset.of(path.name, path.read_bytes()) for path in directory.iterdir() if path.is_file()
            }
        except (OSError, ValueError) as error:
            raise AssetError(
                f"the pages are not built ({error}); run npm ci and npm run build in meterpulse/web"
            ) from None
        missing = sorted(set(manifest.values()) - set(files))
        if missing:
            raise AssetError(f"static/{missing[0]} is missing; run npm ci and npm run build in meterpulse/web")
        return cls(files, {source: f"/static/{name}" for source, name in manifest.items()})

    def address(self, source: str) -> str:
        """Where the built form of a source file is served; raises KeyError for an unknown one."""
        return self._addresses[source]

    def get(self, name: str) -> Asset | None:
        """The file of that name, by its hashed name or, where it has a stable address, by its source's."""
        return self._files.get(name) or self._files.get(self._addresses.get(name, "").rpartition("/")[2])
