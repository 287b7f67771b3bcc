"""The London half-hours end to end: `ingest --register`, then every household's hours and days equal a plain reading of the files.

The real files lie beside the checkout (`../shared/data/lcl`); where they do not, files of the same layouts are made: padded values,
a `Null` at an off-grid instant, exact duplicates, values finer than a thousandth of a Wh.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import pytest

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "lcl"


def made_files(folder: Path) -> list[Path]:
    """Two households in the two layouts, a few days."""
    files = []
    for number, (header, stamp) in enumerate(
        [
            ("LCLid,tstp,energy(kWh/hh)", "%Y-%m-%d %H:%M:%S"),
            ("LCLid,DateTime,KWH/hh (per half hour) ", "%Y-%m-%d %H:%M:%S.0000000"),
        ]
    ):
        name, start = f"MAC00000{number + 2}", datetime(2013, 3, 30)
        lines = [header]
        for i in range(96):
            at = start + timedelta(minutes=30 * i)
            lines.append(f"{name},{at.strftime(stamp)}, {(i * 7919 % 2500) / 1000 + 0.0000005 * (i % 3):.7f} ")
            if i % 31 == 0:
                lines.append(lines[-1])
        lines.append(f"{name},2013-03-30 12:37:27.0000000,Null")
        file = folder / f"{name}.csv"
        file.write_text("\n".join(lines) + "\n")
        files.append(file)
    return files


def plainly(file: Path) -> dict[tuple[str, datetime], int]:
    """(household, instant) -> mWh: the first row of an instant stands, `Null` is no value. Shares no code with the product."""
    found: dict[tuple[str, datetime], int] = {}
    for line in file.read_text().splitlines()[1:]:
        cells = line.split(",")
        if cells[-1].strip() == "Null":
            continue
        at = datetime.strptime(cells[-2].split(".")[0], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        found.setdefault((cells[0], at), int((Decimal(cells[-1].strip()) * 10**6).to_integral_value(ROUND_HALF_EVEN)))
    return found


def command(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "meterpulse", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("layout", ["halfhourly_2013", "raw_MAC000002"])
def test_every_hour_and_day_of_every_household_is_the_sum_of_the_file(tmp_path: Path, layout: str) -> None:
    import meterpulse

    files = sorted((REAL / layout).glob("*.csv")) if REAL.is_dir() else made_files(tmp_path)
    data = tmp_path / "data"
    done = command("ingest", *files, "--register", "--data", data)
    assert done.returncode in (0, 4), done.stderr
    want: dict[tuple[str, datetime], int] = {}
    for file in files:
        want |= plainly(file)
    sums: dict[tuple[str, str, datetime], list[int]] = defaultdict(lambda: [0, 0])
    for (household, at), quantity in want.items():
        for grain, start in (("1h", at.replace(minute=0, second=0)), ("1d", at.replace(hour=0, minute=0, second=0))):
            sums[household, grain, start][0] += quantity
            sums[household, grain, start][1] += 1
    households = sorted({household for household, _ in want})
    got: dict[tuple[str, str, datetime], list[int]] = {}
    with meterpulse.open(data) as city:
        for household in households:
            for grain in ("1h", "1d"):
                table = city.usage(household, start="2011-01-01", end="2015-01-01", grain=grain)
                for row in table.to_pylist():
                    key = household, grain, row["start"].astimezone(UTC)
                    assert key not in got
                    got[key] = [int(row["quantity"] * 10**6), row["count"]]
    assert got == dict(sums)
    span = ["--start", "2013-03-30", "--end", "2013-04-02", "--grain", "1h"]
    told = json.loads(command("usage", households[0], "--data", data, "--json", *span).stdout, parse_float=Decimal)
    assert set(told) >= {"channel", "grain", "unit", "fresh_until", "rows"}
    expected = [
        v
        for (h, g, at), v in sorted(sums.items())
        if h == households[0]
        and g == "1h"
        and datetime(2013, 3, 30, tzinfo=UTC) <= at < datetime(2013, 4, 2, tzinfo=UTC)
    ]
    assert [[int(Decimal(str(r["quantity"])) * 10**6), r["count"]] for r in told["rows"]] == expected
