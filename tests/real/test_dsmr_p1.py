"""Telegrams of real meters: every value as a plain reading of its lines has it."""

from __future__ import annotations

import os
import re
from decimal import Decimal
from pathlib import Path

import pytest

from meterpulse.ingest import files

BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data"
REAL = Path(os.environ.get("METERPULSE_PUBLIC_DATA", BESIDE)) / "dsmr_p1" / "dsmr_parser"
THOUSANDTHS = {"kWh": 10**6, "kW": 10**6, "V": 10**3, "A": 10**3, "m3": 10**6}
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the telegrams are not beside the checkout")


@pytest.mark.parametrize("path", sorted(REAL.glob("*.txt")), ids=lambda path: path.stem)
def test_every_value_of_the_telegram_is_there(path: Path) -> None:
    (batch,) = files.read(path)
    if "ESY5" in path.name:  # says no time, so nothing can be stored
        assert batch.rows == 0 and [row.reason for row in batch.rejected] == ["bad_time"]
        return
    assert not batch.rejected
    want = []
    for line in path.read_text("latin-1").splitlines():
        match = re.fullmatch(r"([\d:.-]+)(?:\(\d{12}[SW]\))?\(([\d.]+)\*(kWh|kW|V|A|m3)\)", line.strip())
        if match and match[1] not in ("0-0:17.0.0", "1-0:31.4.0"):
            want.append((match[1], int(Decimal(match[2]) * THOUSANDTHS[match[3]])))
    ids = [id.partition(":")[2] for id in batch.table["channel"].to_pylist()]
    assert list(zip(ids, batch.table["quantity"].to_pylist(), strict=True)) == want and len(want) >= 16
