"""Media types and their parameters. A refused row keeps in its media type what it takes to read it again by itself.

>>> split('text/csv; header=absent; columns="channel,start,,quantity"')
('text/csv', {'header': 'absent', 'columns': 'channel,start,,quantity'})
"""

from __future__ import annotations

from functools import lru_cache

from meterpulse.ingest.contract import BodyError

ARROW, NDJSON, JSON, CSV = "application/vnd.apache.arrow.stream", "application/x-ndjson", "application/json", "text/csv"
MEDIA_TYPES = (ARROW, NDJSON, JSON, CSV)
_SAME = {
    "application/ndjson": NDJSON,
    "application/jsonl": NDJSON,
    "application/x-jsonlines": NDJSON,
    "application/csv": CSV,
}


@lru_cache(maxsize=1024)
def split(media_type: str) -> tuple[str, dict[str, str]]:
    """(one of MEDIA_TYPES, its parameters); raises BodyError 415 for another type."""
    kind, *parts = media_type.split(";")
    kind = kind.strip().lower()
    kind = _SAME.get(kind, kind)
    if kind not in MEDIA_TYPES:
        raise BodyError(415, f"{media_type[:60]!r} is not taken; send one of {', '.join(MEDIA_TYPES)}")
    parameters = {}
    for part in parts:
        name, _, value = part.partition("=")
        parameters[name.strip().lower()] = value.strip().strip('"')
    return kind, parameters


def with_parameters(kind: str, **parameters: str) -> str:
    """The media type with those parameters that are not empty."""
    return "; ".join([kind, *(f'{name}="{value}"' for name, value in parameters.items() if value)])
