"""/v1/export: what goes out is what stands, and comes back equal, quality for quality, from every format that holds it."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from decimal import Decimal
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meterpulse.config import load
from meterpulse.exports.nem13 import Nem13
from meterpulse.ingest import decode, files
from meterpulse.model.channel import Channel
from meterpulse.model.problem import Problem
from meterpulse.model.quality import text_of
from meterpulse.model.reading import Readings
from meterpulse.pipeline import Pipeline
from meterpulse.registry import Registry
from meterpulse.serving import exporting
from meterpulse.serving.exporting import Asked, export

ESPI = "{http://naesb.org/espi}"
NOW = int(datetime(2026, 6, 20, tzinfo=UTC).timestamp() * 1000)
AT = int(
    datetime(2026, 3, 31, 13, tzinfo=UTC).timestamp() * 1000
)  # over a UTC midnight, a month's end, and a day of NEM time
CHANNELS = [
    Channel(
        "4103035421:E1",
        "electricity",
        "kWh",
        usage_point="4103035421",
        interval_seconds=1800,
        time_zone="Australia/Brisbane",
    ),
    Channel(
        "4103035421:B1", "electricity", "kWh", usage_point="4103035421", direction="received", interval_seconds=300
    ),
    Channel("Q&A <1>", "electricity", "kvarh", usage_point="H/1", interval_seconds=900, time_zone="America/New_York"),
    Channel("G-1", "gas", "m3", usage_point="H/1", customer="C-7", interval_seconds=3600, time_zone="America/New_York"),
    Channel("W-1", "water", "gal", interval_seconds=3600, time_zone="Europe/Berlin"),
    Channel("R-1", "electricity", "kWh", kind="register", interval_seconds=86_400),
    Channel("V-1", "electricity", "V", kind="gauge", interval_seconds=10),
]
QUALITIES = ["raw", "raw", "raw", "validated", "edited", "A", "S14", "F14:53", "E52"]


def readings():
    random.seed(5)
    for channel in CHANNELS:
        for k in range(60 if channel.kind == "interval" else 9):
            at = AT + k * channel.interval_seconds * 1_000 + (137 if channel.kind == "gauge" else 0)
            quantity = 1_000_000_000 + k * 7_000_001 if channel.kind == "register" else random.randrange(9_999_999)
            if k % 11 == 5 and channel.kind == "interval":
                continue
            row = {
                "channel": channel.id,
                "start": stamp(at),
                "seconds": 1 if channel.kind != "interval" else channel.interval_seconds,
            }
            row |= {"quantity": str(Decimal(quantity) / 10**6), "quality": random.choice(QUALITIES)}
            yield row
            if k % 7 == 0:
                yield row | {"quantity": "1.5", "revision": 3}
                yield row | {"quantity": "9.5", "revision": 2}
                yield row | {"quantity": "2.5", "revision": 3}


def stamp(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.fixture(scope="module")
def p(tmp_path_factory):
    data = tmp_path_factory.mktemp("export") / "data"
    config = load({"data": str(data), "log": {"max_bytes": 1 << 28}, "stores": {"max_bytes": 1 << 28}})
    with Pipeline.open(config, clock=lambda: NOW) as p:
        p.registry.register(CHANNELS)
        decoded = p.take("\n".join(map(json.dumps, readings())).encode(), "application/x-ndjson")
        assert not decoded.rejected, decoded.rejected[:1]
        p.ingest(decoded, "http")
        p.lake.started.wait(60)
        yield p


@pytest.fixture(scope="module")
def standing(p):
    """By a plain loop: of each channel and start the highest revision, the first that came."""
    decoded = p.take("\n".join(map(json.dumps, readings())).encode(), "application/x-ndjson")
    return plainly(decoded.readings, p.registry)


def plainly(found, registry):
    ids = registry.channels()["id"].to_pylist()
    best = {}
    for c, s, n, q, r, v in zip(
        *(found.full(k).tolist() for k in ("channel", "start", "seconds", "quantity", "revision", "quality")),
        strict=True,
    ):
        known = best.get((ids[c], s))
        if known is None or r > known[2]:
            best[ids[c], s] = n, q, r, text_of(v)
    return best


def back(content: bytes, format: str, folder, name: str):
    """What `meterpulse ingest --register` takes of a file, and the channels that it makes."""
    path = folder / name
    path.write_bytes(content)
    assert files.detect(path) == format
    found, channels = {}, []
    with Registry.open(folder / f"registry-{name}") as registry:
        registry.register(CHANNELS if format == "canonical" else [])
        for batch in files.read(path):
            channels += batch.channels
            assert not batch.rejected, batch.rejected[:1]
            registry.register(batch.channels)
            decoded = decode(batch.body, batch.media_type, registry.table, NOW)
            assert not decoded.rejected, decoded.rejected[:1]
            found |= plainly(decoded.readings, registry)
    return found, channels


def whole(p, **asked) -> bytes:
    return b"".join(export(p, Asked(**asked)).pieces)


EVERY = [channel.id for channel in CHANNELS]


@pytest.mark.parametrize(
    ("form", "read_as"), [("csv", "canonical"), ("parquet", "canonical"), ("green_button", "green_button")]
)
def test_what_is_exported_comes_back_equal(p, standing, tmp_path, form, read_as, monkeypatch):
    monkeypatch.setattr(exporting, "_ROWS", 50)
    monkeypatch.setattr(exporting, "_TOGETHER", 3)
    found, _ = back(whole(p, channel=EVERY, format=form), read_as, tmp_path, f"out.{form}")
    assert found == standing


def test_an_arrow_stream_has_the_same_rows_as_parquet(p, tmp_path):
    table = pa.ipc.open_stream(whole(p, channel=EVERY, format="arrow")).read_all()
    (tmp_path / "out.parquet").write_bytes(whole(p, channel=EVERY, format="parquet"))
    assert table.equals(pq.read_table(tmp_path / "out.parquet"))


def test_green_button_keeps_what_a_channel_is(p, tmp_path):
    _, channels = back(whole(p, channel=EVERY, format="green_button"), "green_button", tmp_path, "out.xml")
    kept = ("id", "utility", "direction", "kind", "interval_seconds", "time_zone")
    assert sorted([getattr(c, k) for k in kept] for c in channels) == sorted(
        [getattr(c, k) for k in kept] for c in CHANNELS
    )


def test_green_button_is_read_by_others_without_our_extensions(p, standing, tmp_path):
    content = whole(p, channel=["4103035421:E1", "G-1"], format="green_button").replace(b">meterpulse<", b">another<")
    found, channels = back(content, "green_button", tmp_path, "other.xml")
    assert {channel.utility: channel.usage_point for channel in channels} == {"electricity": "4103035421", "gas": "H/1"}
    assert {channel.time_zone for channel in channels} == {"Australia/Brisbane", "America/New_York"}
    assert sorted(q for _, q, _, _ in found.values()) == sorted(
        row[1] for (id, _), row in standing.items() if id in ("4103035421:E1", "G-1")
    )


def test_green_button_has_espis_order_of_elements(p):
    """As the schema's sequences have them (espi.xsd): other readers are strict."""
    order = {
        "IntervalReading": ["extension", "ReadingQuality", "timePeriod", "value"],
        "IntervalBlock": ["interval", "IntervalReading"],
        "LocalTimeParameters": ["dstEndRule", "dstOffset", "dstStartRule", "tzOffset"],
        "ReadingType": [
            "extension", "accumulationBehaviour", "commodity", "defaultQuality", "flowDirection", "intervalLength", "kind",
            "powerOfTenMultiplier", "uom",
        ],
        "ReadingQuality": ["extension", "quality"],
    }  # fmt: skip
    feed = ElementTree.fromstring(whole(p, channel=EVERY, format="green_button"))
    for name, names in order.items():
        found = list(feed.iter(ESPI + name))
        assert found
        for element in found:
            places = [names.index(child.tag.removeprefix(ESPI)) for child in element]
            assert places == sorted(places)
    ids = [
        entry.findtext("{http://www.w3.org/2005/Atom}id") for entry in feed.iter("{http://www.w3.org/2005/Atom}entry")
    ]
    assert len(set(ids)) == len(ids)


def test_channels_are_chosen_by_pattern_utility_usage_point_and_customer(p):
    assert {c.id for c in exporting.chosen(p, Asked(customer="C-7")).values()} == {"G-1"}
    assert {c.id for c in exporting.chosen(p, Asked(channel=["4103*"])).values()} == {"4103035421:E1", "4103035421:B1"}
    assert {c.id for c in exporting.chosen(p, Asked(utility="gas")).values()} == {"G-1"}
    assert {c.id for c in exporting.chosen(p, Asked(usage_point="H/1")).values()} == {"Q&A <1>", "G-1"}


def test_a_span_holds_the_readings_that_start_in_it(p, standing):
    low, high = AT + 3_600_000, AT + 7_200_000
    lines = whole(p, channel=["4103035421:B1"], start=stamp(low), end=stamp(high)).decode().splitlines()[1:]
    assert len(lines) == sum(1 for id, at in standing if id == "4103035421:B1" and low <= at < high) > 5


@pytest.mark.parametrize(
    "asked",
    [
        {"channel": ["nobody"]}, {}, {"channel": EVERY, "format": "xls"}, {"channel": EVERY, "grain": "1y"},
        {"channel": EVERY, "format": "green_button", "grain": "1h"}, {"channel": EVERY, "start": "yesterday"},
    ],
)  # fmt: skip
def test_a_wrong_question_is_told_before_the_file_begins(p, asked):
    with pytest.raises(Problem):
        export(p, Asked(**asked))


NEM = ["4103035421:E1", "4103035421:B1"]


def test_nem12_comes_back_with_its_values_days_and_qualities(p, standing, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_ROWS", 20)  # parts end within days of NEM time unless they are cut there
    content = whole(p, channel=NEM, format="nem12")
    path = tmp_path / "out.csv"
    path.write_bytes(content)
    assert files.detect(path) == "nem12"
    found, missing = {}, 0
    with Registry.open(tmp_path / "registry") as registry:
        for batch in files.read(path):
            missing += sum(row.reason == "missing" for row in batch.rejected)
            assert {row.reason for row in batch.rejected} <= {"missing"}
            registry.register(batch.channels)
            found |= plainly(decode(batch.body, batch.media_type, registry.table, NOW).readings, registry)
    wanted = {key: row for key, row in standing.items() if key[0] in NEM}
    assert {key: row[:2] for key, row in found.items()} == {key: row[:2] for key, row in wanted.items()}
    assert {key: row[3] for key, row in found.items()} == {
        key: {"raw": "A", "validated": "A", "edited": "F16"}.get(row[3], row[3]) for key, row in wanted.items()
    }
    assert missing > 0
    days = [line.split(b",")[1] for line in content.splitlines() if line.startswith(b"300")]
    assert len(days) == 3 + 2  # from 23:00 on, 30 hours of half hours and 5 hours of five minutes: no day stands twice


def test_nem13_comes_back_with_its_reads(p, standing, tmp_path):
    found, channels = back(whole(p, channel=["R-1"], format="nem13"), "nem13", tmp_path, "out.csv")
    wanted = {("R-1:E1", at): row[1] for (id, at), row in standing.items() if id == "R-1"}
    assert {key: row[1] for key, row in found.items()} == wanted
    assert [(c.id, c.kind, c.digits) for c in channels] == [("R-1:E1", "register", None)]


def test_a_dial_of_known_digits_is_written_with_all_of_them():
    channel = Channel("M:41", "electricity", "kWh", kind="register", digits=5)
    reads = Readings.of(channel=[0, 0], start=[0, 86_400_000], seconds=1, quantity=[99_998_000_000, 3_500_000])
    lines = b"".join(Nem13({0: channel}, 0).write([reads])).decode().splitlines()
    fields = lines[1].split(",")
    assert (fields[8], fields[13], fields[18], fields[19]) == ("99998.0000", "00003.5000", "5.5000", "kWh")


@pytest.mark.parametrize("id", ["G-1", "V-1", "R-1", "Q&A <1>"])
def test_nem12_refuses_what_it_cannot_hold(p, id):
    with pytest.raises(Problem, match="another format"):
        export(p, Asked(channel=[id], format="nem12"))
