"""The standard's own sample files and real exports: every reading as a plain reading of the XML has it."""

from __future__ import annotations

import os
from collections import Counter
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import pytest

from meterpulse.ingest import BodyError, files
from meterpulse.model.quality import code_of

BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data"
REAL = Path(os.environ.get("METERPULSE_PUBLIC_DATA", BESIDE)) / "greenbutton"
SCALES = {"72": 1000, "169": Fraction(105_480_400_000, 3_600), "128": Fraction("3785.411784")}
ESPI = "{http://naesb.org/espi}"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the sample files are not beside the checkout")


def plainly(path: Path) -> Counter[tuple[int, int, int, int]]:
    """(start, seconds, quantity, quality) of the readings with a duration, in plain Python: one unit a file."""
    tree = ElementTree.parse(path)
    (types,) = {
        (t.findtext(f"{ESPI}uom"), t.findtext(f"{ESPI}powerOfTenMultiplier")) for t in tree.iter(f"{ESPI}ReadingType")
    }
    found: Counter[tuple[int, int, int, int]] = Counter()
    for reading in tree.iter(f"{ESPI}IntervalReading"):
        start, seconds = (int(reading.findtext(f"{ESPI}timePeriod/{ESPI}{n}", "")) for n in ("start", "duration"))
        value = int(reading.findtext(f"{ESPI}value", "")) * SCALES[types[0]] * Fraction(10) ** int(types[1])
        quality = int(reading.findtext(f"{ESPI}ReadingQuality/{ESPI}quality", "0"))
        if seconds:
            found[start * 1000, seconds, round(value), quality] += 1
    return found


@pytest.mark.parametrize("path", sorted(REAL.rglob("*.xml")), ids=lambda path: path.name[:40])
def test_every_reading_of_the_file_is_there_exactly(path: Path) -> None:
    if "Subscription-Feed" in path.name:  # no readings in these: one has customers, one only says what there could be
        if path.name.startswith("Customer"):
            with pytest.raises(BodyError, match="holds no usage"):
                list(files.read(path))
        else:
            assert list(files.read(path)) == []
        return
    got: Counter[tuple[int, int, int, int]] = Counter()
    ids, refused = set(), 0
    assert files.detect(path) == "green_button"
    for batch in files.read(path):
        table = batch.table
        starts = [int(start.timestamp() * 1000) for start in table["start"].to_pylist()]
        columns = (table[name].to_pylist() for name in ("seconds", "quantity"))
        got.update(zip(starts, *columns, [int(code_of(q)) for q in table["quality"].to_pylist()], strict=True))
        ids |= set(table["channel"].to_pylist())
        refused += len(batch.rejected)
    assert got == plainly(path) and got
    tree = ElementTree.parse(path)
    assert len(ids) == sum(1 for _ in tree.iter(f"{ESPI}MeterReading"))
    assert refused == sum(1 for d in tree.iterfind(f".//{ESPI}timePeriod/{ESPI}duration") if d.text == "0")
