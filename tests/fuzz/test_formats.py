"""Changed anywhere in any way, a file gives readings, refused rows or a clear error; and a bad line costs one line."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterpulse.ingest import decode
from meterpulse.model.channel import ChannelTable
from meterpulse.registry import Registry
from tests.conformance.sampled import NOW_MS, SAMPLES, Sample, taken
from tests.fuzz.hostile import LINES, check, mutated

RELAXED = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
TABLES = {"ampds", "ausgrid", "debs2014", "london", "mapping", "uci_household", "uci_ld2011", "utilityapi"}
OF_TEXT = [s for s in SAMPLES if s.format in TABLES and s.path.suffix != ".json" or s.path.suffix == ".ndjson"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """All channels of all samples."""
    with Registry.open(tmp_path_factory.mktemp("registry")) as registry:
        for sample in SAMPLES:
            taken(sample.reader.read(sample.path), registry)
        yield registry.table


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: f"{s.format}/{s.path.name}")
@RELAXED
@given(choices=st.binary(min_size=4, max_size=48))
def test_a_changed_file_gives_readings_or_a_clear_error(sample, table, tmp_path_factory, choices):
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    check(sample, mutated(sample.path.read_bytes(), choices), folder / sample.path.name, table)


@pytest.mark.parametrize("sample", OF_TEXT, ids=lambda s: f"{s.format}/{s.path.name}")
@RELAXED
@given(strewn=st.lists(st.tuples(st.integers(0, 99), st.sampled_from(LINES)), min_size=1, max_size=6))
def test_bad_lines_cost_themselves_and_no_other(sample, table, tmp_path_factory, strewn):
    header = 2 if sample.format == "ausgrid" else 1
    lines = sample.path.read_bytes().split(b"\n")
    for place, line in strewn:
        lines.insert(header + place % (len(lines) - header), line)
    path = tmp_path_factory.getbasetemp() / sample.path.name
    path.write_bytes(b"\n".join(lines))
    assert _readings(sample, path, table) == _readings(sample, sample.path, table)


def _readings(sample: Sample, path, table: ChannelTable) -> Counter:
    out: Counter = Counter()
    for batch in sample.reader.read(path):
        readings = decode(batch.body, batch.media_type, table, NOW_MS).readings
        names = ("channel", "start", "seconds", "quantity", "quality")
        out.update(zip(*(readings.full(name).tolist() for name in names), strict=True))
    return out
