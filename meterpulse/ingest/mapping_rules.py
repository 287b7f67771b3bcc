"""What a mapping file may say, checked before any file is read."""

from __future__ import annotations

import tomllib
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from meterpulse.ingest.clocks import Clock
from meterpulse.ingest.stamps import pattern_of
from meterpulse.model.channel import Channel
from meterpulse.model.quantity import UNITS, unit_of

# A power over an interval is an energy: kW over 15 minutes is a quarter of a kWh.
_ENERGY_OF = {"power": "kWh", "reactive power": "kvarh", "apparent power": "kVAh"}
_DELIMITERS = {"tab": "\t", "space": " "}


class MappingError(ValueError):
    """The mapping file cannot be used; the message says which key and what it takes."""


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_list), Field(min_length=1)]


class Values(BaseModel):
    """What the numbers of a column are; `column` may be a pattern such as MT_*. Empty texts take the file's own word."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str
    id: str = ""
    utility: Literal["", "electricity", "gas", "water"] = ""
    unit: str = ""
    kind: Literal["", "interval", "register", "gauge"] = ""
    direction: Literal["", "delivered", "received"] = ""
    seconds: int = Field(0, ge=0)
    multiplier: str | int = ""


class Rules(BaseModel):
    """A mapping file. Keys and defaults are in docs/how-to/ingest-files.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stamp: Texts
    pattern: Texts
    zone: str = ""
    interval: Literal["start", "end"] = "start"
    repeated: Literal["order", "first", "second", "merged"] = "order"
    skipped: Literal["refuse", "zeros"] = "refuse"
    delimiter: Literal["", ",", ";", "tab", "\t", "|", "space", " "] = ""
    decimal: Literal[".", ","] = "."
    header: int = Field(1, ge=0, le=20)
    missing: tuple[str, ...] = ("null", "na", "n/a", "nan", "?", "-")
    value: str = ""
    values: tuple[Values, ...] = ()
    layout: Literal["columns", "times"] = "columns"
    id: str = ""
    utility: Literal["electricity", "gas", "water"] = "electricity"
    unit: str = "kWh"
    kind: Literal["interval", "register", "gauge"] = "interval"
    direction: Literal["delivered", "received"] = "delivered"
    seconds: int = Field(300, ge=1)
    multiplier: str | int = "1"
    quality: str = ""
    time_zone: str = ""
    area: str = ""
    class_: Literal["household", "business"] = Field("household", alias="class")

    @model_validator(mode="after")
    def _fits_together(self) -> Rules:
        if len(self.stamp) != len(self.pattern):
            raise ValueError(f"stamp names {len(self.stamp)} columns and pattern has {len(self.pattern)}")
        pattern_of(*self.pattern)
        if not self.zone and not self.absolute:
            raise ValueError("zone lacks: the clock of the stamps, such as Europe/Madrid, UTC or UTC+01:00")
        _ = self.channel_zone
        if not self.columns:
            raise ValueError("value lacks: the column of the numbers, or a [[values]] for each of several")
        for values in self.columns:
            self.channel(values, values.id, "")
        return self

    @property
    def absolute(self) -> bool:
        """Whether the stamps are instants by themselves."""
        return any(token in text for text in self.pattern for token in ("%z", "%s", "%Q"))

    @property
    def channel_zone(self) -> str:
        """Where the channels' days are."""
        return self.time_zone or Clock(self.zone or "UTC").zone_name

    @property
    def separator(self) -> str:
        """Between fields; empty where the header is to tell."""
        return _DELIMITERS.get(self.delimiter, self.delimiter)

    @property
    def columns(self) -> list[Values]:
        """The columns of numbers, with what the top of the file says for all of them filled in."""
        alone = self.value or ("*:*" if self.layout == "times" else "")
        given = self.values or ((Values(column=alone),) if alone else ())
        wide = self.layout == "columns" and (len(given) > 1 or any("*" in values.column for values in given))
        return [self._filled(values, "{column}" if wide else "{file}") for values in given]

    def _filled(self, values: Values, id: str) -> Values:
        names = ("utility", "unit", "kind", "direction", "seconds", "multiplier")
        told = {name: getattr(values, name) or getattr(self, name) for name in names}
        return Values(column=values.column, id=values.id or self.id or id, **told)

    def channel(self, values: Values, id: str, area: str) -> tuple[Channel, Fraction]:
        """The channel of a column, and how many thousandths of its base unit one is; raises ValueError."""
        unit = unit_of(values.unit)
        factor = unit.scale * Fraction(values.multiplier)
        if factor <= 0:
            raise ValueError(f"multiplier is {values.multiplier}; it takes a number above 0, such as 0.001")
        if values.kind == "interval" and unit.dimension in _ENERGY_OF:
            factor, unit = factor * values.seconds / 3_600, UNITS[_ENERGY_OF[unit.dimension]]
        channel = Channel(
            id,
            values.utility,
            unit.name,
            usage_point=id,
            direction=values.direction,
            kind=values.kind,
            interval_seconds=values.seconds,
            area=area or None,
            class_=self.class_,
            time_zone=self.channel_zone,
        )
        return channel, factor


def rules_of(file: Path) -> Rules:
    """The rules of a mapping file; raises MappingError, OSError."""
    try:
        return Rules.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MappingError(f"{file.name} is no TOML: {error}") from None
    except ValidationError as error:
        told = "\n".join(_told(one) for one in error.errors()[:5])
        raise MappingError(f"{file.name} is no mapping\n{told}") from None


def _told(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "it"
    if error["type"] == "extra_forbidden":
        known = (
            Values.model_fields
            if error["loc"][0] == "values"
            else [f.alias or n for n, f in Rules.model_fields.items()]
        )
        return f"{where} is not known; known are {', '.join(known)}"
    if error["type"] == "missing":
        return f"{where} lacks; a mapping needs at least stamp, pattern and zone"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"
