"""What commands print: data to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

FAILURE, USAGE, UNREACHABLE, FINDINGS, INTERRUPTED = 1, 2, 3, 4, 130


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """An error for a person: what is wrong and what to do."""
    for line in text.splitlines():
        say(f"meterpulse: {line}")


def put_json(document: Any) -> None:
    """One JSON document as data."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=None if _compact() else 2, default=str) + "\n")


def put_csv(rows: Iterable[Sequence[Any]], header: Sequence[str]) -> None:
    """Rows as CSV with a header; None is an empty field."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)


def put_table(rows: Sequence[Sequence[Any]], header: Sequence[str], title: str | None = None) -> None:
    """Rows for a person: aligned columns under a header, numbers to the right. The title goes to stderr."""
    if title:
        say(title)
    cells = [[_text(value) for value in row] for row in rows]
    numeric = [bool(rows) and all(map(_is_number, column)) for column in zip(*cells, strict=True)] or [False] * len(
        header
    )
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    for line in (header, ["─" * width for width in widths], *cells):
        aligned = zip(line, widths, numeric, strict=True)
        print("  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in aligned).rstrip())


def put_facts(facts: Mapping[str, Any], title: str | None = None) -> None:
    """Names and values for a person; nested facts as `name.inner`."""
    if title:
        say(title)
    flat = list(_flat(facts))
    width = max((len(name) for name, _ in flat), default=0)
    for name, value in flat:
        print(f"{name:<{width}}  {_text(value)}")


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) and "name" in one for one in value):
            for one in value:
                yield from _flat({k: v for k, v in one.items() if k != "name"}, f"{prefix}{name}.{one['name']}.")
        else:
            yield f"{prefix}{name}", "none" if value is None else value


def _text(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split("\n"))


def _is_number(text: str) -> bool:
    return not text or text.replace(".", "", 1).removeprefix("-").isdecimal()


def _compact() -> bool:
    return not sys.stdout.isatty()


class Progress:
    """A bar on a terminal, silence elsewhere."""

    def __init__(self, bar: Any, task: Any):
        self._bar, self._task = bar, task

    def of(self, total: float) -> None:
        """How many units there are, once that is known."""
        if self._bar is not None:
            self._bar.update(self._task, total=total)

    def advance(self, by: float, text: str | None = None) -> None:
        """Move on by so many units; `text` replaces the description."""
        if self._bar is not None:
            self._bar.update(self._task, advance=by, **({"description": text} if text else {}))


@contextmanager
def progress(description: str, total: float | None, unit: str = "") -> Iterator[Progress]:
    """A progress bar on stderr when that is a terminal. `unit` "bytes" shows sizes and speed."""
    if not sys.stderr.isatty():
        yield Progress(None, None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Progress(bar, bar.add_task(description, total=total))
