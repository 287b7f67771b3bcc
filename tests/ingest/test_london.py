"""The London half hours: files made in their layouts, against an independent reading of the text in plain Python."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

import pytest

from meterpulse.ingest import BodyError, decode, files
from meterpulse.model.channel import Channel
from meterpulse.registry import Registry

CLEAN = "LCLid,tstp,energy(kWh/hh)"
RAW = "LCLid,DateTime,KWH/hh (per half hour)"
RAW_WITH_TARIFF = "LCLid,stdorToU,DateTime,KWH/hh (per half hour) ,Acorn,Acorn_grouped"


def write(path, header: str, seed: int, households: int = 3) -> None:
    """Two weeks over the change of clocks, with the quirks of the real files."""
    rng, lines = random.Random(seed), [header]
    for home in range(households):
        at = datetime(2013, 3, 25, 0, 30)
        while at < datetime(2013, 4, 8):
            value = rng.choice(
                [" 0 ", f" {rng.randrange(2000) / 1000} ", f" {1 + rng.randrange(10**7) / 10**7:.7f} ", "0.1"]
            )
            stamp = at.strftime("%Y-%m-%d %H:%M:%S") + ("" if header == CLEAN else ".0000000")
            rows = [(f"MAC{home + 2:06d}", stamp, value)]
            if header != CLEAN and rng.random() < 0.02:
                off = at + timedelta(seconds=rng.randrange(1, 1799))
                rows.append((rows[0][0], off.strftime("%Y-%m-%d %H:%M:%S.0000000"), rng.choice(["Null", " 0.25 "])))
            if rng.random() < 0.02:
                rows.append(rows[0])
            for id, stamp, value in rows:
                tariff = header == RAW_WITH_TARIFF
                lines.append(f'{id},Std,{stamp},{value},ACORN-A,"Affluent"' if tariff else f"{id},{stamp},{value}")
            at += timedelta(minutes=30)
    path.write_text("\n".join(lines) + "\n")


def plainly(path) -> tuple[dict, dict, int]:
    """Sums by (household, hour) and (household, day) in mWh, duplicates once, and how many rows have no value."""
    lines = path.read_text().split("\n")
    names = [n.strip() for n in lines[0].split(",")]
    where = [next(i for i, n in enumerate(names) if n in known) for known in (["LCLid"], ["tstp", "DateTime"])]
    value_at = next(i for i, n in enumerate(names) if n.lower().startswith(("energy", "kwh")))
    seen, nulls = {}, 0
    for line in lines[1:]:
        if not line:
            continue
        fields = line.split(",")
        if fields[value_at] == "Null":
            nulls += 1
            continue
        mwh = int((Decimal(fields[value_at].strip()) * 10**6).quantize(Decimal(1), ROUND_HALF_EVEN))
        seen.setdefault((fields[where[0]], fields[where[1]].strip()[:19]), mwh)
    hours, days = defaultdict(int), defaultdict(int)
    for (id, stamp), mwh in seen.items():
        hours[id, stamp[:13]] += mwh
        days[id, stamp[:10]] += mwh
    return hours, days, nulls


def through_the_decoder(path, directory) -> tuple[dict, dict, Counter]:
    """The same sums from the readings, with --register."""
    hours, days, reasons, seen = defaultdict(int), defaultdict(int), Counter(), {}
    with Registry.open(directory) as registry:
        for batch in files.read(path):
            registry.register(batch.channels)
            decoded = decode(batch.body, batch.media_type, registry.table, 1_772_841_600_000)
            assert not decoded.rejected and len(decoded.readings) == batch.rows == batch.table.num_rows
            reasons.update(r.reason for r in batch.rejected)
            readings, ids = decoded.readings, registry.table.ids(decoded.readings.channel).to_pylist()
            assert set(readings.full("seconds").tolist()) <= {1800} and set(readings.full("revision").tolist()) <= {0}
            for id, start, mwh in zip(ids, readings.full("start").tolist(), readings.quantity.tolist(), strict=True):
                seen.setdefault((id, start), mwh)
    for (id, start), mwh in seen.items():
        stamp = datetime.fromtimestamp(start / 1000, UTC).strftime("%Y-%m-%d %H")
        hours[id, stamp] += mwh
        days[id, stamp[:10]] += mwh
    return hours, days, reasons


@pytest.mark.parametrize("header", [CLEAN, RAW, RAW_WITH_TARIFF])
@pytest.mark.parametrize("seed", [1, 2])
def test_hours_and_days_are_those_of_a_plain_reading(tmp_path, monkeypatch, header, seed):
    monkeypatch.setattr(files, "CHUNK_BYTES", 30_000)
    write(tmp_path / "file.csv", header, seed)
    assert files.detect(tmp_path / "file.csv") == "london"
    hours, days, nulls = plainly(tmp_path / "file.csv")
    got_hours, got_days, reasons = through_the_decoder(tmp_path / "file.csv", tmp_path / "registry")
    assert got_hours == hours and got_days == days and len(days) == 3 * 14
    assert reasons == ({"missing": nulls} if nulls else {})


def batch_of(tmp_path, *lines: str, header: str = RAW):
    (tmp_path / "x.csv").write_text("\n".join([header, *lines]))
    (batch,) = files.read(tmp_path / "x.csv")
    return batch


def values(batch) -> list[tuple]:
    rows = batch.table.to_pylist()
    return [(r["channel"], r["start"].strftime("%Y-%m-%d %H:%M:%S"), r["quantity"]) for r in rows]


def test_a_stamp_is_the_start_of_its_half_hour_in_gmt(tmp_path):
    batch = batch_of(tmp_path, "MAC000002,2013-07-01 00:30:00.0000000, 0.219 ")
    assert values(batch) == [("MAC000002", "2013-07-01 00:30:00", 219_000)]
    assert batch.channels == [
        Channel("MAC000002", "electricity", "kWh", usage_point="MAC000002", interval_seconds=1800, time_zone="UTC")
    ]


def test_null_is_missing_and_never_zero(tmp_path):
    line = "MAC000002,2012-12-19 12:37:27.0000000,Null"
    batch = batch_of(
        tmp_path, line, "MAC000002,2012-12-19 13:00:00.0000000, 0 ", "MAC000002,2012-12-19 13:30:00.0000000,"
    )
    assert values(batch) == [("MAC000002", "2012-12-19 13:00:00", 0)]
    assert [(r.reason, r.original.decode()) for r in batch.rejected][0] == ("missing", line)
    assert [r.reason for r in batch.rejected] == ["missing", "missing"]


def test_an_off_grid_stamp_with_a_value_stays_where_it_is(tmp_path):
    batch = batch_of(tmp_path, "MAC000002,2012-12-19 12:37:27.0000000, 0.25 ")
    assert values(batch) == [("MAC000002", "2012-12-19 12:37:27", 250_000)]


def test_a_duplicate_is_passed_on(tmp_path):
    line = "MAC000002,2013-10-27 00:00:00.0000000, 0.25 "
    assert values(batch_of(tmp_path, line, line)) == [("MAC000002", "2013-10-27 00:00:00", 250_000)] * 2


@pytest.mark.parametrize(
    ("text", "mwh"),
    [
        ("1.0039999", 1_004_000),
        ("0.0000005", 0),
        ("0.0000015", 2),
        ("0.0000025", 2),
        ("1.14", 1_140_000),
        ("6.528e0", 6_528_000),
    ],
)
def test_what_is_finer_than_a_milliwatt_hour_rounds_half_to_even(tmp_path, text, mwh):
    assert values(batch_of(tmp_path, f"MAC000002,2013-10-27 00:00:00.0000000, {text} "))[0][2] == mwh


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("MAC000002,2013-10-27 00:00:00.0000000", "bad_csv"),
        ("MAC000002,27/10/2013 00:00, 0.1 ", "bad_time"),
        ("MAC000002,2013-10-27 00:00:00.0000001, 0.1 ", "bad_time"),
        ("MAC000002,2013-02-29 00:00:00.0000000, 0.1 ", "bad_time"),
        ("MAC000002,2013-10-27 00:00:00.0000000, 0,1 ", "bad_csv"),
        ("MAC000002,2013-10-27 00:00:00.0000000, x ", "not_a_number"),
        ("MAC000002,2013-10-27 00:00:00.0000000, NaN ", "not_a_number"),
        ("MAC000002,2013-10-27 00:00:00.0000000, 1e30 ", "overflow"),
        (",2013-10-27 00:00:00.0000000, 1 ", "missing_field"),
    ],
)
def test_a_bad_line_is_refused_with_its_reason(tmp_path, line, reason):
    batch = batch_of(tmp_path, line, "MAC000002,2013-10-27 00:30:00.0000000, 0.1 ")
    assert [(r.reason, r.original.decode()) for r in batch.rejected] == [(reason, line)]
    assert batch.rows == 1


def test_reading_goes_on_behind_any_batch_and_crlf_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CHUNK_BYTES", 5_000)
    write(tmp_path / "x.csv", CLEAN, 3)
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "x.csv").read_bytes().replace(b"\n", b"\r\n"))
    batches = list(files.read(tmp_path / "x.csv"))
    every = [row for batch in batches for row in values(batch)]
    assert len(batches) > 3 and len(every) > 2_000
    for number in (0, 1, len(batches) - 1):
        rest = files.read(tmp_path / "x.csv", after=batches[number].position)
        assert [row for batch in [*batches[: number + 1], *rest] for row in values(batch)] == every


def test_another_file_is_not_taken_for_it(tmp_path):
    (tmp_path / "x.csv").write_text("LCLid,tstp\nMAC000002,2013-10-27 00:00:00\n")
    with pytest.raises(BodyError):
        files.detect(tmp_path / "x.csv")
    with pytest.raises(BodyError):
        list(files.read(tmp_path / "x.csv", "london"))
