"""Refused Arrow rows as JSON records, so that people can read them and they can be replayed.

A dense index stands in `index` in place of `channel`. An integer quantity is written in the channel's unit where a
decimal says it exactly, else, and where the channel is unknown, in `thousandths` of the base unit.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from meterpulse.ingest.arrow_columns import PER_SECOND
from meterpulse.ingest.checks import Limits
from meterpulse.ingest.scalars import MS_MAX
from meterpulse.model.quality import is_packed, text_of
from meterpulse.model.quantity import BY_CODE, decimal_text
from meterpulse.model.window import iso


def rendered(row: dict[str, pa.Scalar], channel: int, limits: Limits) -> bytes:
    """The JSON record of one row; `channel` is its dense index or NOT_FOUND."""
    out: dict[str, Any] = {}
    for name, scalar in row.items():
        if name == "start":
            out[name] = _time_text(scalar)
        elif name == "channel" and not isinstance(scalar.as_py(), str | None):
            out["index"] = scalar.as_py()
        elif name == "quantity" and pa.types.is_integer(scalar.type) and scalar.is_valid:
            out |= _quantity(scalar.as_py(), channel, limits)
        elif name == "quantity":
            value = scalar.cast(pa.string()).as_py() if pa.types.is_floating(scalar.type) else scalar.as_py()
            out[name] = None if value is None else str(value)
        elif name == "quality" and isinstance(value := scalar.as_py(), int):
            out[name] = text_of(value) if is_packed(value) else value
        else:
            out[name] = scalar.as_py()
    return json.dumps({k: v for k, v in out.items() if v is not None}, ensure_ascii=False).encode()


def _quantity(value: int, channel: int, limits: Limits) -> dict[str, Any]:
    if channel >= limits.count:
        return {"thousandths": value}
    unit = BY_CODE[int(limits.unit[limits.profile[channel]])]
    if unit.scale.denominator > 1:  # gal, ft3: no decimal says it exactly
        return {"thousandths": value}
    return {"quantity": decimal_text(value, unit), "unit": unit.name}


def _time_text(scalar: pa.Scalar) -> str | None:
    """RFC 3339, or the bare count where no calendar holds it."""
    value, unit = scalar.value, PER_SECOND[scalar.type.unit]
    if value is None:
        return None
    seconds, fraction = divmod(value, unit)
    if not 0 <= seconds < MS_MAX // 1_000:
        return f"{value} {scalar.type.unit} since 1970"
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0") if fraction else ""
    return iso(seconds * 1_000)[:-1] + (f".{digits}" if digits else "") + "Z"
