"""Dialects: payloads as devices send them, and the readings that they are."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterpulse.config import load
from meterpulse.ingest import Decoded, decode
from meterpulse.ingest.contract import RowError
from meterpulse.ingest.dialects import Arrival, DialectError, built_in, dialect
from meterpulse.ingest.message import Message, decode_messages
from meterpulse.model.channel import Channel
from meterpulse.registry import Registry

NOON = int(datetime(2026, 3, 7, 12, 0, 42, tzinfo=UTC).timestamp() * 1000)
DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "mqtt.md"

TASMOTA = (
    b'{"Time":"2026-03-07T12:59:26","ENERGY":{"TotalStartTime":"2021-03-13T09:20:26","Total":7970.903,"Yesterday":3.198,'
    b'"Today":6.024,"Period":63,"Power":860,"Current":4.000},"IP":"192.168.0.20","MAC":"50:02:91:00:00:00"}'
)
STATUS_8 = (
    b'{"StatusSNS":{"Time":"2026-03-07T12:59:26","ENERGY":{"Total":49.766,"Yesterday":0.608,"Today":0.011,"Power": 1,'
    b'"ApparentPower": 20,"ReactivePower": 20,"Factor":0.06,"Voltage":230,"Current":0.085}}}'
)
THREE_PHASES = b'{"Time":"2026-03-07T12:59:26","ENERGY":{"Total":[1.5,2.25,0.0],"Power":[10,-20,0]}}'
SWITCH = (
    b'{"id":0,"source":"WS_in","output":true,"apower":8.9,"voltage":237.5,"current":0.055,"aenergy":{"total":6.532,'
    b'"by_minute":[45.199,47.141,88.397],"minute_ts":1626935779},"temperature":{"tC":23.6,"tF":74.5}}'
)
NOTIFY = (
    b'{"src":"shellypro4pm-f008d1d8b8b8","dst":"shellypro4pm-f008d1d8b8b8/events","method":"NotifyStatus","params":'
    b'{"ts":1772884800.04,"switch:2":{"id":2,"aenergy":{"total":1234.567,"by_minute":[0.0],"minute_ts":1772884799}}}}'
)
EMDATA = b'{"id":0,"a_total_act_energy":1.0,"a_total_act_ret_energy":0.0,"total_act":11747.52,"total_act_ret":3.5}'
EVENT = (
    b'{"event_type":"state_changed","event_data":{"entity_id":"sensor.meter_energy","new_state":{"entity_id":'
    b'"sensor.meter_energy","state":"1234.5","attributes":{"state_class":"total_increasing","unit_of_measurement":"kWh",'
    b'"device_class":"energy"},"last_updated":"2026-03-07T12:59:26.123456+01:00"}}}'
)
PLUG = (
    b'{"energy":12.34,"power":-5.5,"voltage":231,"linkquality":120,"last_seen":"2026-03-07T11:59:26.000Z","state":"ON"}'
)
TELEGRAM = (
    b"/KFM5KAIFA-METER\r\n\r\n1-3:0.2.8(42)\r\n0-0:1.0.0(260307125926W)\r\n0-0:96.1.1(4B3832)\r\n"
    b"1-0:1.8.1(000010.181*kWh)\r\n1-0:2.7.0(00.250*kW)\r\n0-1:24.1.0(003)\r\n0-1:96.1.0(473030)\r\n"
    b"0-1:24.2.1(260307120000W)(00981.443*m3)\r\n!"
)
SML = (Path(__file__).parents[1] / "conformance/samples/sml/logged.txt").read_bytes().split(b"\n")[0].split()[1]
TOLD_AT, NOW_MINUTE = "2026-03-07T11:59:26", "2026-03-07T12:00:00"


def signed(telegram: bytes) -> bytes:
    from meterpulse.ingest.checksum import crc16_arc

    return telegram + f"{crc16_arc(telegram):04X}\r\n".encode()


CASES = [
    ("tasmota", "tele/compteur/SENSOR", TASMOTA, [("compteur:energy", TOLD_AT, 7_970_903_000), ("compteur:power", TOLD_AT, 860_000)]),
    ("tasmota", "compteur/tele/SENSOR", TASMOTA, [("compteur:energy", TOLD_AT, 7_970_903_000), ("compteur:power", TOLD_AT, 860_000)]),
    ("tasmota", "stat/plug/STATUS8", STATUS_8, [("plug:energy", TOLD_AT, 49_766_000), ("plug:power", TOLD_AT, 1_000)]),
    ("tasmota", "tele/m/SENSOR", THREE_PHASES, [
        ("m:energy:1", TOLD_AT, 1_500_000), ("m:energy:2", TOLD_AT, 2_250_000), ("m:energy:3", TOLD_AT, 0),
        ("m:power:1", TOLD_AT, 10_000), ("m:power:2", TOLD_AT, -20_000), ("m:power:3", TOLD_AT, 0)]),
    ("shelly", "shellies/shellyem3-A4/emeter/0/total", b"1184633.1", [("shellyem3-A4:energy:0", NOW_MINUTE, 1_184_633_100)]),
    ("shelly", "shellies/shellyem3-A4/emeter/0/power", b"-197.77", [("shellyem3-A4:power:0", NOW_MINUTE, -197_770)]),
    ("shelly", "shellies/shellyplug-s/relay/0/energy", b"90", [("shellyplug-s:energy:0", NOW_MINUTE, 1_500)]),
    ("shelly", "kitchen/status/switch:0", SWITCH, [
        ("kitchen:energy:0", NOW_MINUTE, 6_532), ("kitchen:power:0", NOW_MINUTE, 8_900), ("kitchen:voltage:0", NOW_MINUTE, 237_500)]),
    ("shelly", "shellypro4pm-f0/events/rpc", NOTIFY, [("shellypro4pm-f0:energy:2", "2026-03-07T12:00:00.040", 1_234_567)]),
    ("shelly", "em/status/emdata:0", EMDATA, [("em:energy:0", NOW_MINUTE, 11_747_520), ("em:export:0", NOW_MINUTE, 3_500)]),
    ("esphome", "garage/sensor/total_energy/state", b"12.345", [("garage:total_energy", NOW_MINUTE, 12_345_000)]),
    ("esphome", "garage/sensor/power_l1/state", b"-3.5", [("garage:power_l1", NOW_MINUTE, -3_500)]),
    ("esphome", "garage/sensor/water_meter/state", b"3", [("garage:water_meter", NOW_MINUTE, 3_000)]),
    ("esphome", "garage/sensor/total_energy/state", b"nan", []),
    ("esphome", "garage/sensor/wifi_signal/state", b"-67", []),
    ("home_assistant", "homeassistant/events", EVENT, [("sensor.meter_energy", "2026-03-07T11:59:26.123", 1_234_500_000)]),
    ("statestream", "homeassistant/sensor/grid_energy/state", b"1234.5", [("grid_energy", NOW_MINUTE, 1_234_500_000)]),
    ("statestream", "homeassistant/sensor/grid_energy/state", b"unavailable", []),
    ("zigbee2mqtt", "zigbee2mqtt/fridge", PLUG, [
        ("fridge:energy", TOLD_AT, 12_340_000), ("fridge:power", TOLD_AT, -5_500), ("fridge:voltage", TOLD_AT, 231_000)]),
    ("p1", "dsmr/raw", signed(TELEGRAM), [
        ("K82:1-0:1.8.1", TOLD_AT, 10_181_000), ("K82:1-0:2.7.0", TOLD_AT, 250_000),
        ("G00:0-1:24.2.1", "2026-03-07T11:00:00", 981_443_000)]),
    ("sml", "sml/raw", SML, [("06454D4801027156CD45:1-0:1.8.0", "2026-03-07T12:00:42", 5_000)]),
    ("sml", "sml/cellar/telegram", bytes.fromhex(SML.decode()) * 2, [
        ("06454D4801027156CD45:1-0:1.8.0", "2026-03-07T12:00:42", 5_000)] * 2),
]  # fmt: skip


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path / "registry") as registry:
        yield registry


def taken(registry: Registry, *messages: Message, zone: str = "Europe/Paris", register: bool = True) -> Decoded:
    return decode_messages(messages, lambda: registry.table, NOON, zone, registry.register if register else None)


def rows(registry: Registry, decoded: Decoded) -> list[tuple[str, str, int]]:
    """(id, start, quantity) of every reading."""
    found = decoded.readings
    ids = registry.table.ids(found.channel).to_pylist()
    starts = [
        datetime.fromtimestamp(ms / 1000, UTC)
        .replace(tzinfo=None)
        .isoformat(timespec="milliseconds")
        .removesuffix(".000")
        for ms in found.full("start").tolist()
    ]
    return list(zip(ids, starts, found.full("quantity").tolist(), strict=True))


@pytest.mark.parametrize(
    ("name", "topic", "payload", "expected"), CASES, ids=[f"{c[0]}-{c[1]}-{i}" for i, c in enumerate(CASES)]
)
def test_what_a_device_says_is_what_is_stored(registry, name, topic, payload, expected):
    assert dialect(name).knows(topic)
    decoded = taken(registry, Message(topic, payload, dialect(name)))
    assert not decoded.rejected
    assert rows(registry, decoded) == expected


def test_every_dialect_that_comes_along_is_tried_above():
    assert {case[0] for case in CASES} == set(built_in())


def test_a_device_that_is_introduced_has_kind_unit_direction_and_zone(registry):
    taken(registry, Message("em/status/emdata:0", EMDATA, dialect("shelly")))
    channel = registry.channel("em:export:0")
    assert channel is not None
    assert [channel[k] for k in ("kind", "unit", "direction", "time_zone")] == [
        "register",
        "Wh",
        "received",
        "Europe/Paris",
    ]


def test_a_state_that_the_broker_kept_counts_only_with_its_own_time(registry):
    without = Message("garage/sensor/total_energy/state", b"12.345", dialect("esphome"), is_retained=True)
    with_time = Message("tele/compteur/SENSOR", TASMOTA, dialect("tasmota"), is_retained=True)
    telegram = Message("dsmr/raw", signed(TELEGRAM), dialect("p1"), is_retained=True)
    decoded = taken(registry, without, with_time, telegram)
    assert not decoded.rejected
    assert len(decoded.readings) == 2 + 3


def test_one_bad_value_costs_that_value_and_the_message_is_kept_with_its_topic(registry):
    bad = TASMOTA.replace(b"7970.903", b'"much"')
    decoded = taken(registry, Message("tele/compteur/SENSOR", bad, dialect("tasmota")))
    assert [row[0] for row in rows(registry, decoded)] == ["compteur:power"]
    [refused] = decoded.rejected
    assert (refused.reason, refused.original) == ("not_a_number", bad)
    assert "tele/compteur/SENSOR" in refused.media_type


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("tele/m/SENSOR", b"{", "bad_json"),
        ("tele/m/SENSOR", b"\xff", "bad_utf8"),
        ("tele/m/SENSOR", TASMOTA.replace(b"2026-03-07", b"1970-01-01"), "bad_time"),
        ("tele/m/SENSOR", TASMOTA.replace(b"2026-03-07", b"2026-13-07"), "bad_time"),
        ("dsmr/raw", signed(TELEGRAM).replace(b"10.181", b"10.182"), "bad_checksum"),
        ("dsmr/raw", TELEGRAM[:-1], "truncated"),
        ("garage/sensor/total_energy/state", b"12,5", "not_a_number"),
        ("sml/raw", SML[:-2], "truncated"),
        ("sml/raw", SML[:-4] + b"0000", "bad_checksum"),
        ("sml/raw", b"hello", "truncated"),
    ],
)
def test_what_cannot_be_read_is_refused_byte_for_byte(registry, topic, payload, reason):
    speaks = next(dialect(name) for name in ("tasmota", "p1", "sml", "esphome") if dialect(name).knows(topic))
    decoded = taken(registry, Message(topic, payload, speaks))
    assert [(row.reason, row.original) for row in decoded.rejected] == [(reason, payload)]
    assert len(decoded.readings) == 0


def test_a_message_of_an_unknown_channel_is_read_again_when_it_is_known(registry):
    decoded = taken(registry, Message("tele/m/SENSOR", TASMOTA, dialect("tasmota")), register=False)
    [refused] = decoded.rejected
    assert refused.reason == "unknown_channel"
    registry.register(
        [
            Channel("m:energy", "electricity", "kWh", kind="register"),
            Channel("m:power", "electricity", "W", kind="gauge"),
        ]
    )
    again = decode(refused.original, refused.media_type, registry.table, NOON)
    assert rows(registry, again) == [("m:energy", TOLD_AT, 7_970_903_000), ("m:power", TOLD_AT, 860_000)]


OWN = """
[[message]]
topic = ["{site}/{floor}/meter-{number}", "{site}/meter-{number}"]
time = "when.end"
words = { serial = "serial" }

[[message.reading]]
value = "used"
channel = "{site}/{serial}"
kind = "interval"
interval_seconds = 900
stamp = "end"
utility = "gas"
unit = "m3"
times = "0.1"
where = { "{site}" = "north*", quality = ["ok", "good"] }
"""


def own(tmp_path: Path, text: str) -> str:
    (tmp_path / "own.toml").write_text(text)
    return str(tmp_path / "own.toml")


def test_a_dialect_of_ones_own_says_ids_units_and_which_end_of_the_interval(registry, tmp_path):
    speaks = dialect(own(tmp_path, OWN))
    assert speaks.topics == ["+/+/+", "+/+"]
    good = b'{"serial": 77, "used": 12.5, "quality": "ok", "when": {"end": "2026-03-07T13:00:00+01:00"}}'
    messages = [Message(t, good, speaks) for t in ("north1/2/meter-3", "north1/meter-9", "south/meter-9")]
    decoded = taken(registry, *messages, Message("north1/meter-1", good.replace(b"ok", b"poor"), speaks))
    assert not decoded.rejected
    assert rows(registry, decoded) == [("north1/77", "2026-03-07T11:45:00", 1_250_000)] * 2
    assert decoded.readings.full("seconds").tolist() == [900, 900]


def test_a_telegrams_channels_are_named_by_a_template(registry, tmp_path):
    text = '[[message]]\ntopic = "home/{house}/p1"\nformat = "p1"\nchannel = "{house}/{stream}"\n'
    decoded = taken(registry, Message("home/7/p1", signed(TELEGRAM), dialect(own(tmp_path, text))))
    assert [row[0] for row in rows(registry, decoded)] == ["7/1-0:1.8.1", "7/1-0:2.7.0", "7/0-1:24.2.1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no [[message]]"),
        ("[[message]]\ntopic = 'a'\n", "has no [[message.reading]]"),
        ("[[message]]\ntopic = 'a/+'\n", "write it like"),
        ("[[message]]\ntopic = 'a'\nformat = 'xml'\n", "it takes json, text"),
        ("[[message]]\ntopic = 'a'\n[[message.reading]]\nchannel = 'c'\n", "unit"),
        (
            "[[message]]\ntopic = 'a'\n[[message.reading]]\nchannel = 'c'\nunit = 'kWh'\nfactor = 2\n",
            "'factor' is not known",
        ),
        (
            "[[message]]\ntopic = 'a'\n[[message.reading]]\nchannel = 'c'\nunit = 'kWh'\nstamp = 'middle'\n",
            "start or end",
        ),
        ("[[message]]\ntopic = 'a'\nformat = 'p1'\ntime = 't'\n", "tells its readings itself"),
        ("message = 3\n", "takes a table"),
        ("=", "cannot be read"),
    ],
)
def test_a_dialect_that_is_wrong_is_told_where_and_why(tmp_path, text, said):
    with pytest.raises(DialectError, match=re.escape(said)):
        dialect(own(tmp_path, text))


def test_a_telegram_without_its_own_time_counts_at_its_arrival_unless_it_was_kept(registry):
    old = b"/ISk5\\2ME382-1003\r\n\r\n0-0:96.1.1(4B38)\r\n1-0:1.8.1(00608.400*kWh)\r\n!\r\n"
    said = dialect("p1").told("dsmr/raw", old, Arrival(NOON, "UTC"))
    assert [told.record.start for told in said.told] == [NOON]
    assert dialect("p1").told("dsmr/raw", old, Arrival(NOON, "UTC", is_stale=True)).told == []
    assert dialect("sml").told("sml/raw", SML, Arrival(NOON, "UTC", is_stale=True)).told == []
    with pytest.raises(RowError):
        dialect("p1").told("dsmr/raw", b"hello", Arrival(NOON, "UTC"))


PIECES = st.sampled_from(
    [
        b"{",
        b"}",
        b"[",
        b'"',
        b"\\ud800",
        b"1e999",
        b"-0",
        b"null",
        b"\x00",
        b"\xff",
        b"!",
        b"\r\n/",
        b"[" * 99,
        b"9" * 120,
    ]
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    case=st.sampled_from(CASES), cut=st.integers(0, 300), piece=PIECES | st.binary(max_size=8), gap=st.integers(0, 40)
)
def test_no_message_stops_the_others_whatever_is_in_it(registry, case, cut, piece, gap):
    """A decoder that raises anything else would have the broker send the message again and again."""
    name, topic, payload, _ = case
    spoiled = payload[:cut] + piece + payload[cut + gap :]
    good = Message("shellies/em/emeter/0/total", b"5", dialect("shelly"))
    decoded = taken(registry, Message(topic, spoiled, dialect(name)), good, register=False)
    refused = [row for row in decoded.rejected if row.original == spoiled]
    assert len(decoded.rejected) == 1 + len(refused) and len(refused) <= 1  # the good one's channel is not known
    assert all(decode(row.original, row.media_type, registry.table, NOON).rejected for row in refused)


def test_the_samples_of_the_manual_work(tmp_path):
    blocks = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.S)]
    sections = [block for block in blocks if "message" not in block]
    dialects = re.findall(r"```toml\n(\s*(?:#[^\n]*\n)*\[\[message\]\].*?)```", DOCS.read_text(), re.S)
    assert len(sections) >= 2 and len(dialects) >= 2 and len(sections) + len(dialects) == len(blocks)
    for block in sections:
        assert load(block)
    for text in dialects:
        assert dialect(own(tmp_path, text)).topics
        dialect.cache_clear()
