"""Green Button: every reading exactly, whatever the order of the feed; nothing hostile gets through."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterpulse.ingest import BodyError, files
from meterpulse.ingest.espi_zone import zone_of
from meterpulse.model.quality import Quality

POINT = """<entry><id>urn:uuid:1</id><link rel="self" href="/espi/RetailCustomer/{customer}/UsagePoint/{id}"/>
<link rel="related" href="/espi/RetailCustomer/{customer}/UsagePoint/{id}/MeterReading"/>
<link rel="related" href="/espi/LocalTimeParameters/01"/>
<content><UsagePoint xmlns="http://naesb.org/espi"><ServiceCategory><kind>{kind}</kind></ServiceCategory></UsagePoint></content>
</entry>"""
METER = """<entry><id>urn:uuid:2</id><link rel="self" href="/espi/RetailCustomer/{customer}/UsagePoint/{id}/MeterReading/9"/>
<link rel="related" href="/espi/ReadingType/{type}"/>
<content><MeterReading xmlns="http://naesb.org/espi"/></content></entry>"""
CLOCK = """<entry><id>urn:uuid:3</id><link rel="self" href="/espi/LocalTimeParameters/01"/><content>
<LocalTimeParameters xmlns="http://naesb.org/espi"><dstEndRule>B40E2000</dstEndRule><dstOffset>3600</dstOffset>
<dstStartRule>360E2000</dstStartRule><tzOffset>-18000</tzOffset></LocalTimeParameters></content></entry>"""
TYPE = """<entry><id>urn:uuid:4</id><link rel="self" href="/espi/ReadingType/{type}"/><content>
<ReadingType xmlns="http://naesb.org/espi"><accumulationBehaviour>{acc}</accumulationBehaviour><flowDirection>{flow}</flowDirection>
<intervalLength>3600</intervalLength><powerOfTenMultiplier>{power}</powerOfTenMultiplier><uom>{uom}</uom></ReadingType>
</content></entry>"""
BLOCK = """<entry><id>urn:uuid:5</id>
<link rel="up" href="/espi/RetailCustomer/{customer}/UsagePoint/{id}/MeterReading/9/IntervalBlock"/><content>
<IntervalBlock xmlns="http://naesb.org/espi"><interval><duration>7200</duration><start>1331442000</start></interval>
{readings}</IntervalBlock></content><updated>2012-10-24T00:00:00Z</updated></entry>"""
READING = """<IntervalReading><cost>974</cost>{quality}<timePeriod><duration>{seconds}</duration><start>{start}</start></timePeriod>
<value>{value}</value></IntervalReading>"""
ISSUED = int(datetime(2012, 10, 24, tzinfo=UTC).timestamp())
NOON = 1_331_442_000


def reading(start=NOON, value="1234", seconds=3600, quality=""):
    told = "".join(f"<ReadingQuality><quality>{q}</quality></ReadingQuality>" for q in quality.split())
    return READING.format(start=start, value=value, seconds=seconds, quality=told)


def feed(readings, *, kind="0", uom="72", power="0", acc="4", flow="1", customer="c1", id="01", type="07", order=None):
    names = {
        "customer": customer,
        "id": id,
        "kind": kind,
        "uom": uom,
        "power": power,
        "acc": acc,
        "flow": flow,
        "type": type,
    }
    parts = [POINT, METER, CLOCK, TYPE, BLOCK]
    text = "".join(parts[i].format(**names, readings="".join(readings)) for i in order or range(5))
    return f'<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom">{text}</feed>'


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes):
        path = tmp_path / "usage.xml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("kind", "uom", "power", "value", "unit", "quantity"),
    [
        ("0", "72", "0", "1234", "kWh", 1_234_000),
        ("0", "72", "3", "2", "kWh", 2_000_000),
        ("0", "72", "-3", "1234567", "kWh", 1_234_567),
        ("0", "72", "-4", "15", "kWh", 2),  # 1.5 mWh: to even
        ("0", "73", "0", "7", "kvarh", 7_000),
        ("1", "169", "-3", "37000", "therm", 1_084_104_111),
        ("1", "119", "0", "100", "ft3", 2_831_685),
        ("1", "42", "-3", "5", "m3", 5_000),
        ("2", "128", "3", "2", "gal", 7_570_824),
        ("2", "134", "0", "3", "L", 3_000),
        ("0", "31", "0", "3600", "kWh", 1_000),
    ],
)
def test_units_and_powers_of_ten_are_exact(rows_in, write, kind, uom, power, value, unit, quantity):
    batches, rows = rows_in(write(feed([reading(value=value)], kind=kind, uom=uom, power=power)), "green_button")
    assert rows == [("01:07", NOON * 1000, 3600, quantity, ISSUED, "valid")]
    (channel,) = batches[0].channels
    assert (channel.unit, channel.kind, channel.interval_seconds, channel.usage_point) == (unit, "interval", 3600, "01")
    assert (channel.utility, channel.time_zone) == (["electricity", "gas", "water"][int(kind)], "America/New_York")


@pytest.mark.parametrize("order", [(4, 3, 2, 1, 0), (0, 1, 4, 3, 2), (3, 4, 0, 1, 2)])
def test_links_hold_whatever_the_order_of_the_feed(rows_in, write, order):
    want = rows_in(write(feed([reading(quality="8")])), "green_button")
    got = rows_in(write(feed([reading(quality="8")], order=order)), "green_button")
    assert got[1] == want[1] and got[0][0].channels == want[0][0].channels


def test_every_quality_of_the_standard_is_kept_and_several_that_differ_are_mixed(rows_in, write):
    readings = [reading(NOON + i * 3600, quality=str(int(q))) for i, q in enumerate(Quality)]
    readings += [reading(NOON + 20 * 3600, quality="8 10"), reading(NOON + 21 * 3600, quality="9 9")]
    _, rows = rows_in(write(feed(readings)), "green_button")
    assert [row[5] for row in rows] == [q.word for q in Quality] + ["mixed", "linear"]


@pytest.mark.parametrize(
    ("acc", "uom", "flow", "kind", "direction"),
    [("1", "72", "1", "register", "delivered"), ("3", "72", "19", "register", "received"), ("4", "72", "19", "interval", "received"),
     ("12", "38", "1", "gauge", "delivered"), ("4", "29", "1", "gauge", "delivered"), ("9", "72", "0", "interval", "delivered")],
)  # fmt: skip
def test_accumulation_and_flow_say_what_a_channel_is(rows_in, write, acc, uom, flow, kind, direction):
    batches, _ = rows_in(write(feed([reading()], acc=acc, uom=uom, flow=flow)), "green_button")
    assert [(c.kind, c.direction) for c in batches[0].channels] == [(kind, direction)]


def test_usage_points_of_one_name_are_told_apart_by_their_customer(rows_in, write):
    one, two = (feed([reading(value=v)], customer=c) for c, v in (("c1", "1"), ("c2", "2")))
    _, rows = rows_in(write(one.replace("</feed>", "") + two.partition('Atom">')[2]), "green_button")
    assert [(row[0], row[3]) for row in rows] == [("c1/01:07", 1_000), ("c2/01:07", 2_000)]


def test_readings_without_a_time_follow_each_other_from_their_blocks_start(rows_in, write):
    bare = "<IntervalReading><value>{}</value></IntervalReading>"
    _, rows = rows_in(write(feed([bare.format(1), bare.format(2)])), "green_button")
    assert [(row[1], row[2], row[3]) for row in rows] == [
        (NOON * 1000, 3600, 1_000),
        ((NOON + 3600) * 1000, 3600, 2_000),
    ]


def test_bare_blocks_need_their_reading_type(rows_in, write):
    type_ = "<ReadingType><accumulationBehaviour>4</accumulationBehaviour><commodity>1</commodity><uom>72</uom></ReadingType>"
    block = f"<IntervalBlock>{reading()}</IntervalBlock>"
    point = '<UsagePoint id="x"/>'
    whole = f'<usage xmlns="http://naesb.org/espi">{point}{type_}{block}</usage>'
    _, rows = rows_in(write(whole), "green_button")
    assert [row[:4] for row in rows] == [("usage-point:reading-type", NOON * 1000, 3600, 1_234_000)]
    batches, rows = rows_in(write(whole.replace(type_, "")), "green_button")
    assert not rows and [r.reason for r in batches[0].rejected] == ["bad_unit"]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (reading(value="1x"), "not_a_number"), (reading(value=""), "missing"), (reading(seconds=0), "bad_seconds"),
        (reading(start="yesterday"), "bad_time"), (reading(start=99_999_999_999), "bad_time"), (reading(quality="6"), "bad_quality"),
        (reading(value="9" * 30), "overflow"), (reading().replace("<value>", "<value>1</value><value>"), "bad_csv"),
    ],
)  # fmt: skip
def test_a_wrong_reading_costs_itself_only(rows_in, write, wrong, reason):
    batches, rows = rows_in(write(feed([reading(), wrong, reading(NOON + 7200)])), "green_button")
    assert [row[1] for row in rows] == [NOON * 1000, (NOON + 7200) * 1000]
    assert [r.reason for r in batches[0].rejected] == [reason]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>', "entities"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd">', "entities"),
        ("<feed>" + "<a>" * 100, "nested"),
        ("<feed><a>" + "x" * 200_000 + "</a>", "characters"),
        ("<feed><!-- " + "x" * 9_000_000 + " -->", "without an element"),
        ("<feed><entry></feed>", "well-formed"),
        ("<feed></feed>", "holds no usage"),
    ],
)
def test_hostile_documents_are_refused_before_they_cost_anything(write, text, what):
    body = feed([reading()]).replace("<feed", "<feed", 1)
    hostile = text + body.partition("?>")[2] if text.startswith("<!DOCTYPE") else text
    with pytest.raises(BodyError, match=what):
        list(files.read(write(hostile), "green_button"))


def test_reading_goes_on_behind_any_batch(rows_in, write, monkeypatch):
    monkeypatch.setattr("meterpulse.ingest.green_button.BATCH_ROWS", 100)
    path = write(feed([reading(NOON + i * 3600, str(i)) for i in range(2_000)]))
    batches, rows = rows_in(path, "green_button")
    assert len(batches) > 2 and [row[3] for row in rows] == [i * 1_000 for i in range(2_000)]
    done = 0
    for batch in batches:
        done += batch.rows
        assert rows_in(path, "green_button", batch.position)[1] == rows[done:]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 4_000), st.binary(max_size=8), st.booleans())
def test_damage_ends_in_an_error_or_in_rows_and_reasons(write, at, damage, cut):
    body = feed([reading(NOON + i * 3600, str(i)) for i in range(5)]).encode()
    at %= len(body)
    path = write(body[:at] + damage + (b"" if cut else body[at + len(damage) :]))
    try:
        for batch in files.read(path, "green_button"):
            assert batch.rows == batch.table.num_rows
    except BodyError as error:
        assert error.status == 422


@pytest.mark.parametrize(
    ("offset", "summer", "begins", "ends", "zone"),
    [
        (-18_000, 3_600, "360E2000", "B40E2000", "America/New_York"),
        (-28_800, 3_600, "360E2000", "B40E2000", "America/Los_Angeles"),
        (-12_600, 3_600, "360E2000", "B40E2000", "America/St_Johns"),
        (3_600, 3_600, "3E0E2000", "AE0E3000", "Europe/Berlin"),
        (-25_200, 0, "", "", "America/Phoenix"),
        (18_000, 0, "", "", "Etc/GMT-5"),
        (0, 0, "", "", "UTC"),
        (1, 0, "zz", "", "UTC"),
    ],
)
def test_rules_of_the_clock_are_those_of_a_place(offset, summer, begins, ends, zone):
    assert zone_of(offset, summer, begins, ends) == zone
