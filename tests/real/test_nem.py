"""The market operator's own scenario files: every value as a plain reading of the file has it."""

from __future__ import annotations

import csv
import io
import os
import zipfile
from collections import Counter
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest

from meterpulse.ingest import files
from meterpulse.model.quality import text_of

BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data"
REAL = Path(os.environ.get("METERPULSE_PUBLIC_DATA", BESIDE)) / "nem12_nem13"
NEM = timezone(timedelta(hours=10))
THOUSANDTHS = {"KWH": 10**6, "WH": 10**3, "KVARH": 10**6, "VARH": 10**3, "MWH": 10**9}
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the scenario files are not beside the checkout")


def instant(text: str) -> int:
    return int(datetime.strptime(text.ljust(14, "0"), "%Y%m%d%H%M%S").replace(tzinfo=NEM).timestamp() * 1000)


def plainly(text: str) -> Counter[tuple[object, ...]]:
    """(id, start ms, quantity, quality) of every value of a well-formed file, in plain Python."""
    found: Counter[tuple[object, ...]] = Counter()
    day: list[tuple[str, int, int]] = []
    head: list[str] = []
    for row in csv.reader(io.StringIO(text)):
        row = [cell.strip() for cell in row]
        if not row or not row[0]:
            continue
        if row[0] == "200":
            head = row
        elif row[0] == "300":
            minutes = int(head[8])
            count = 1440 // minutes
            if len(row) < count + 3:
                continue
            scale, quality = THOUSANDTHS[head[7].upper()], row[2 + count]
            day = [
                (f"{head[1]}:{head[4]}", instant(row[1]) + i * minutes * 60_000, int(Decimal(row[2 + i]) * scale))
                for i in range(count)
            ]
            code = f":{int(row[3 + count])}" if row[3 + count : 4 + count] not in ([], [""]) else ""
            if quality != "V":
                found.update((*value, quality + code) for value in day if quality[0] != "N")
        elif row[0] == "400":
            code = f":{int(row[4])}" if row[4:5] not in ([], [""]) else ""
            found.update((*day[i], row[3] + code) for i in range(int(row[1]) - 1, int(row[2])) if row[3][0] != "N")
        elif row[0] == "250":
            for at in (8, 13):
                quantity = int(Decimal(row[at]) * THOUSANDTHS[row[19].upper()])
                code = f":{int(row[at + 3])}" if row[at + 3] else ""
                found[f"{row[1]}:{row[4]}", instant(row[at + 1]), quantity, row[at + 2] + code] += 1
    return found


def texts() -> list[tuple[str, str]]:
    out = []
    for path in sorted(REAL.rglob("*")):
        if "invalid" in path.parts or not path.is_file():
            continue
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                out += [(name, archive.read(name).decode("latin-1")) for name in archive.namelist()]
        else:
            out.append((path.name, path.read_text("latin-1")))
    return out


def test_every_value_of_every_scenario_is_there_with_its_quality_and_reason(tmp_path: Path) -> None:
    values = 0
    for name, text in texts():
        if "C123" in name or "Scenario10#ETSAMDP" in name:  # no unit; a day that is broken over lines
            continue
        path = tmp_path / "file"
        path.write_text(text, "latin-1")
        got: Counter[tuple[object, ...]] = Counter()
        for batch in files.read(path):
            table = batch.table
            starts = [int(start.timestamp() * 1000) for start in table["start"].to_pylist()]
            qualities = [text_of(quality) for quality in table["quality"].to_pylist()]
            got.update(zip(table["channel"].to_pylist(), starts, table["quantity"].to_pylist(), qualities, strict=True))
            assert {row.reason for row in batch.rejected} <= {"missing"}, name
        assert got == plainly(text), name
        values += got.total()
    assert values > 25_000
