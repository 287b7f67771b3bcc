"""XML of a stranger, element by element in bounded memory: no DTD, no entities, no endless texts, no endless nesting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from xml.sax import SAXException
from xml.sax.handler import ContentHandler

from defusedxml.common import DefusedXmlException
from defusedxml.expatreader import create_parser

from meterpulse.ingest.contract import BodyError

_CHUNK_BYTES = 64 * 1024
_PIECE_BYTES_MAX = 4 * 2**20  # between two elements: of a comment, an attribute, a text
_TEXT_MAX = 64 * 1024
_DEPTH_MAX = 64


class Listener(Protocol):
    """What is told of the document. Names are local: prefixes are left out."""

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        """An element opens."""

    def end(self, name: str, text: str) -> None:
        """An element closes; `text` is its own, without blanks around it."""


def parse(path: Path, listener: Listener) -> Iterator[None]:
    """Tells the document, a piece for each `next`; raises BodyError 422 where it is not well formed, or does what no such
    file does."""
    handler = _Handler(listener)
    parser = create_parser(forbid_dtd=True)
    parser.setContentHandler(handler)
    silent, heard = 0, 0
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                parser.feed(chunk)
                silent = silent + len(chunk) if handler.heard == heard else 0
                heard = handler.heard
                if silent > _PIECE_BYTES_MAX:
                    raise BodyError(422, f"{path.name} has more than {_PIECE_BYTES_MAX} bytes without an element")
                yield
            parser.close()
    except DefusedXmlException:
        raise BodyError(422, f"{path.name} declares a document type or entities; such files are not taken") from None
    except SAXException as error:
        raise BodyError(422, f"{path.name} is not well-formed XML: {str(error)[-160:]}; is it whole?") from None
    except (LookupError, UnicodeError) as error:
        raise BodyError(422, f"{path.name} is in an encoding that cannot be read: {str(error)[:80]}") from None


class _Handler(ContentHandler):
    def __init__(self, listener: Listener):
        super().__init__()
        self._listener = listener
        self._texts: list[list[str]] = []
        self._room: list[int] = []
        self.heard = 0

    def startElement(self, name: str, attrs: object) -> None:  # noqa: N802
        if len(self._texts) >= _DEPTH_MAX:
            raise SAXException(f"elements are nested more than {_DEPTH_MAX} deep")
        self.heard += 1
        self._texts.append([])
        self._room.append(_TEXT_MAX)
        self._listener.begin(name.rpartition(":")[2], dict(attrs.items()))  # type: ignore[attr-defined]

    def characters(self, content: str) -> None:
        if self._texts:
            self._room[-1] -= len(content)
            if self._room[-1] < 0:
                raise SAXException(f"a text has more than {_TEXT_MAX} characters")
            self._texts[-1].append(content)

    def endElement(self, name: str) -> None:  # noqa: N802
        self.heard += 1
        self._room.pop()
        self._listener.end(name.rpartition(":")[2], "".join(self._texts.pop()).strip())
