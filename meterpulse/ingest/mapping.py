"""Any table of text, as a small TOML file says: which column is what, in which unit, on whose clock.

    stamp = "datetime"                           # or two columns: ["Date", "Time"]
    pattern = "%d/%m/%Y %H:%M:%S"                # or two
    zone = "Europe/Madrid"                       # the clock of the stamps
    id = "{user key}"                            # columns in braces; {column} and {file} too
    value = "meter reading"
    utility = "water"
    unit = "L"
    kind = "register"
    seconds = 3600

docs/how-to/ingest-files.md has every key with its default. A mapping is not detected: `--mapping FILE` names it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from meterpulse.ingest import FileBatch, Format
from meterpulse.ingest.contract import BodyError, RowError
from meterpulse.ingest.files import HEAD_BYTES
from meterpulse.ingest.mapping_rules import Rules, Values, rules_of
from meterpulse.ingest.streams import Stream
from meterpulse.ingest.tabular import Table, read

_BRACES = re.compile(r"\{([^{}]+)\}")
_TIME = re.compile(r"(\d{1,2}):(\d\d)(?::00)?")
_BOM = b"\xef\xbb\xbf"
_OWN = ("column", "file")  # in braces, besides the columns' names


class Mapping(Format):
    """Files as a mapping file describes them."""

    def __init__(self, rules: Rules | None = None):
        self._rules = rules

    @classmethod
    def of(cls, file: Path) -> Mapping:
        """By a mapping file; raises MappingError, OSError."""
        return cls(rules_of(file))

    def fits(self, head: bytes, path: Path) -> bool:
        """Never: only a person knows that a mapping is meant for a file."""
        return False

    def read(self, path: Path, after: int = 0) -> Iterator[FileBatch]:
        """Positions are bytes."""
        if self._rules is None:
            raise BodyError(422, f"{path.name}: the format mapping needs a mapping file; say --mapping FILE")
        names, separator, begin = _header(path, self._rules)
        yield from read(path, after, begin, _table(self._rules, names, separator, path))


def _header(path: Path, rules: Rules) -> tuple[list[str], str, int]:
    """(the columns' names, what separates them, where the rows begin)."""
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    lines = head.split(b"\n")
    if len(lines) < rules.header:
        raise BodyError(422, f"{path.name} has no line {rules.header} for a header within its first {HEAD_BYTES} bytes")
    try:
        line = lines[max(rules.header, 1) - 1].removeprefix(_BOM).rstrip(b"\r").decode()
    except UnicodeDecodeError as error:
        raise BodyError(422, f"{path.name}: byte {error.start} of its header is not valid UTF-8") from None
    separator = rules.separator or max(";,\t|", key=line.count)
    names = line.split() if separator == " " else next(csv.reader([line], delimiter=separator), [""])
    if not rules.header:
        return [str(number + 1) for number in range(len(names))], separator, 0
    return [name.strip() for name in names], separator, sum(len(line) + 1 for line in lines[: rules.header])


def _table(rules: Rules, names: list[str], separator: str, path: Path) -> Table:
    """The table of a file with these columns; raises BodyError where one lacks."""

    def at(name: str) -> int:
        if names.count(name) != 1:
            have = "twice" if name in names else "not"
            raise BodyError(422, f"{path.name} has {have} the column {name!r}; it has {', '.join(names)[:300]}")
        return names.index(name)

    columns = rules.columns
    braces = {name for values in columns for name in _BRACES.findall(values.id + rules.area)} - {*_OWN}
    stamp, keys = tuple(map(at, rules.stamp)), sorted(map(at, braces))
    quality = at(rules.quality) if rules.quality else None
    chosen: dict[int, Values] = {}
    for values in columns:
        matching = [c for c, name in enumerate(names) if _is(values.column, name, rules)]
        if not matching:
            raise BodyError(422, f"{path.name} has no column {values.column!r}; it has {', '.join(names)[:300]}")
        chosen = {c: values for c in matching if c not in (*stamp, *keys, quality)} | chosen
    taken = sorted(chosen)
    file = path.name.partition(".")[0]

    def define(key: tuple[str, ...], k: int) -> Stream:
        known = {names[c]: text.strip() for c, text in zip(keys, key, strict=True)}
        empty = next((name for name, text in known.items() if not text), None)
        if empty is not None:
            raise RowError("missing_field", f"the row has nothing in {empty}")
        known |= {"file": file, "column": names[taken[k]]}
        id, area = (_BRACES.sub(lambda m: known[m[1]], text) for text in (chosen[taken[k]].id, rules.area))
        return Stream(*rules.channel(chosen[taken[k]], id, area))

    times = rules.layout == "times"
    return Table(
        "mapping",
        columns=len(names),
        delimiter=separator,
        point=rules.decimal,
        stamp=stamp,
        pattern=rules.pattern,
        values=tuple(taken),
        keys=tuple(keys),
        offsets_ms=tuple(_begin_ms(names[c], chosen[c], rules) for c in taken) if times else (),
        titles=tuple(names[c] for c in taken),
        missing=rules.missing,
        clock=rules.zone or "UTC",
        stamps="start" if times else rules.interval,
        repeated=rules.repeated,
        skipped=rules.skipped,
        interval_seconds=min(values.seconds for values in chosen.values()),
        quality=quality,
        define=define,
    )


def _is(wanted: str, name: str, rules: Rules) -> bool:
    if rules.layout == "times" and not _TIME.fullmatch(name):
        return False
    return name == wanted or fnmatchcase(name, wanted)


def _begin_ms(name: str, values: Values, rules: Rules) -> int:
    """From midnight to the beginning of the interval of a column such as 0:30."""
    match = _TIME.fullmatch(name)
    assert match is not None
    ms = (int(match[1]) * 60 + int(match[2])) * 60_000
    return ms if rules.interval == "start" else (ms or 86_400_000) - values.seconds * 1_000
