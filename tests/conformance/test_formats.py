"""Every file format against the same facts; a new format needs a folder in `samples/` and is then tested here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from meterpulse.ingest import BodyError, FileBatch, decode, files
from meterpulse.model.channel import ChannelTable
from meterpulse.model.reading import COLUMNS
from meterpulse.registry import Registry
from tests.conformance.sampled import NOW_MS, SAMPLES, Sample, Taken, as_text, taken

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "ingest-files.md"
CUTS = 16
# Lines of text that a cut leaves as lines; and the samples whose last numbers have any number of decimals.
TABLES = {"ampds", "ausgrid", "canonical", "debs2014", "london", "mapping", "uci_household", "uci_ld2011", "utilityapi"}
ANY_DECIMALS = {"LD2011_2014.txt", "wells.csv", "readings.csv"}
ids = [f"{sample.format}/{sample.path.name}" for sample in SAMPLES]
every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=ids)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What each sample is, read once."""
    known: dict[Path, Taken] = {}
    with Registry.open(tmp_path_factory.mktemp("registry")) as registry:

        def of(sample: Sample) -> Taken:
            if sample.path not in known:
                known[sample.path] = taken(sample.reader.read(sample.path), registry)
            return known[sample.path]

        yield of


def test_every_format_has_a_sample():
    assert {*files.formats(), "mapping"} == {sample.format for sample in SAMPLES}


@every_sample
def test_a_sample_is_recognised_and_by_its_own_format_only(sample):
    if sample.format == "mapping":
        with pytest.raises(BodyError, match="--mapping"):
            files.detect(sample.path)
    else:
        assert files.detect(sample.path) == sample.format
        head = sample.path.read_bytes()[: files.HEAD_BYTES]
        assert [name for name in files.formats() if files.format_of(name).fits(head, sample.path)] == [sample.format]


@every_sample
def test_a_sample_gives_the_readings_that_stand_beside_it(sample, whole):
    assert as_text(whole(sample)) == sample.expected


@every_sample
def test_every_reading_has_a_channel_that_its_file_defines(sample, whole):
    found = whole(sample)
    defined = [channel.id for channel in found.channels]
    assert len(set(defined)) == len(defined) and {row[0] for row in found.rows} <= set(defined)
    assert "unknown_channel" not in found.refused


@every_sample
def test_reading_goes_on_behind_any_batch(sample, whole, monkeypatch):
    monkeypatch.setattr(files, "CHUNK_BYTES", 96)
    monkeypatch.setattr("meterpulse.ingest.gathered.BATCH_ROWS", 5, raising=False)
    table = whole(sample).registry.table
    batches = list(sample.reader.read(sample.path))
    positions = [batch.position for batch in batches]
    assert positions == sorted(set(positions))
    told = [_told(batch, table) for batch in batches]
    assert Counter(row[1:] for rows, _ in told for row in rows).total() == len(whole(sample).rows)
    for number, position in enumerate(positions):
        rest = [_told(batch, table) for batch in sample.reader.read(sample.path, after=position)]
        for part in (0, 1):  # readings, refused rows
            assert sum((one[part] for one in rest), []) == sum((one[part] for one in told[number + 1 :]), [])


@every_sample
def test_a_file_cut_anywhere_gives_no_number_that_is_not_in_the_whole(sample, whole, tmp_path):
    content, table = sample.path.read_bytes(), whole(sample).registry.table
    known = Counter(_readings(sample, sample.path, table)[0])
    path = tmp_path / sample.path.name  # some formats take the meter from the name
    step = max(1, len(content) // CUTS)
    for at in sorted({*range(0, len(content), step), *range(max(0, len(content) - CUTS // 2), len(content))}):
        cut = content[:at]
        path.write_bytes(cut)
        found, error = _readings(sample, path, table)
        wrong = Counter(found) - known
        if wrong and sample.format in TABLES and (cut.count(b"\n") < 6 or sample.path.name in ANY_DECIMALS):
            # The one thing that nobody can tell: whether the last number of a last line without an end is whole.
            path.write_bytes(cut[: cut.rfind(b"\n") + 1])
            wrong = Counter(_readings(sample, path, table)[0]) - known
        assert not wrong, (at, cut[-60:], wrong)
        assert error is None or error.detail


def _told(batch: FileBatch, table: ChannelTable) -> tuple[list[tuple[int, ...]], list[tuple[str, bytes]]]:
    decoded = decode(batch.body, batch.media_type, table, NOW_MS)
    columns = (decoded.readings.full(name).tolist() for name, _ in COLUMNS)
    refused = [(row.reason, row.original) for row in (*batch.rejected, *decoded.rejected)]
    return list(zip(*columns, strict=True)), refused


def _readings(sample: Sample, path: Path, table: ChannelTable) -> tuple[list[tuple[int, ...]], BodyError | None]:
    """What comes of a file before it ends, and the error that it ends with."""
    out: list[tuple[int, ...]] = []
    try:
        for batch in sample.reader.read(path):
            out += _told(batch, table)[0]
    except BodyError as error:
        return out, error
    return out, None


@every_sample
def test_a_page_tells_how_the_format_is_read(sample):
    text = HOW_TO.read_text(encoding="utf-8")
    assert text.count(f"`{sample.format}`") >= 2  # what it is; and its clock, stamps and markers
