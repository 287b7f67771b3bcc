"""Registering: what is created, updated, refused, kept as history."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meterpulse.model.channel import NO_AREA, NOT_FOUND, Channel
from meterpulse.model.problem import Problem
from meterpulse.registry import Registry

NEW_YORK = "America/New_York"


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path / "registry") as registry:
        yield registry


def home(number: int, **other) -> Channel:
    fields = {"usage_point": f"UP-{number}", "meter": f"M-{number}", "customer": f"H-{number}", "area": "10003"}
    return Channel(f"E-{number:04}", "electricity", "kWh", time_zone=NEW_YORK, **(fields | other))


def test_indices_follow_the_order_of_registration(registry):
    assert registry.register([home(3), home(1)]).indices.tolist() == [0, 1]
    assert registry.register([home(2), home(3)]).indices.tolist() == [2, 0]
    assert registry.table.ids(np.array([2, 0, 1], np.uint32)).to_pylist() == ["E-0002", "E-0003", "E-0001"]


def test_a_channel_comes_back_as_it_was_given(registry):
    given = {
        "id": "W-é-1",
        "usage_point": "UP-9",
        "meter": "M-9",
        "customer": "B-9",
        "utility": "water",
        "direction": "delivered",
        "kind": "register",
        "unit": "gal",
        "interval_seconds": 3600,
        "multiplier": 10,
        "digits": 6,
        "class": "business",
        "area": "10001",
        "time_zone": NEW_YORK,
    }
    registry.register([given])
    assert registry.channel("W-é-1") == given | {"index": 0}
    assert registry.channels().to_pylist() == [given | {"index": 0}]
    assert registry.channel("W-é-2") is None


def test_the_table_has_what_the_hot_path_needs(registry):
    registry.register([home(1), Channel("W", "water", "gal"), home(2)])
    table = registry.table
    profiles = table.profiles
    assert table.count == 3
    assert table.profile.dtype == np.uint16 and table.profile.tolist() == [0, 1, 0]
    assert table.area.dtype == np.uint32 and table.area.tolist() == [0, NO_AREA, 0]
    assert profiles.zones == [NEW_YORK, "UTC"]
    assert (profiles.utility.tolist(), profiles.zone.tolist()) == ([0, 2], [0, 1])
    assert profiles.scale_num[0] == 10**6 and profiles.scale_den[0] == 1
    assert profiles.scale_num[1] / profiles.scale_den[1] == 3785.411784


def test_one_wrong_row_costs_one_row(registry):
    out = registry.register(
        [
            home(1),
            {"id": "x"},
            {"id": "x", "utility": "water", "unit": "kWh"},
            {"id": "", "utility": "water", "unit": "L"},
            {"id": "a\nb", "utility": "water", "unit": "L"},
            {"id": "y", "utility": "water", "unit": "L", "multiplier": "much"},
            7,
            home(2),
        ]
    )
    assert (out.created, out.updated, out.refused) == (2, 0, 6)
    assert [position for position, _ in out.errors] == [1, 2, 3, 4, 5, 6]
    assert out.indices.tolist() == [0, *[NOT_FOUND] * 6, 1]
    assert dict(out.errors)[2] == "unit 'kWh' does not measure water"


def test_a_wrong_row_of_a_table_costs_one_row(registry):
    ids = pa.array([b"ok", b"", b"x" * 201, b"a\x07", b"\xff\xfe", None, b"zone", b"unit", b"area", b"last"])
    table = pa.table(
        {
            "id": pa.Array.from_buffers(pa.string(), 10, ids.buffers()),
            "utility": ["gas"] * 10,
            "unit": ["m3"] * 7 + ["furlong"] + ["m3"] * 2,
            "time_zone": [None] * 6 + ["Mars/Olympus"] + [None] * 3,
            "area": ["10003"] * 8 + ["", None],
        }
    )
    out = registry.register(table)
    assert [position for position, _ in out.errors] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (out.created, registry.table.ids(np.arange(2)).to_pylist()) == (2, ["ok", "last"])


@pytest.mark.parametrize(
    "change",
    [
        {"utility": "gas", "unit": "m3"},
        {"unit": "V", "kind": "interval"},
        {"kind": "register"},
        {"direction": "received"},
        {"time_zone": "UTC"},
    ],
)
def test_what_stored_readings_depend_on_cannot_change(registry, change):
    before = {"id": "E", "utility": "electricity", "unit": "kWh", "time_zone": NEW_YORK}
    registry.register([before])
    shape = registry.channel("E")
    out = registry.register([before | change, {"id": "F", "utility": "gas", "unit": "m3"}])
    assert (out.created, out.updated, len(out.errors)) == (1, 0, 1)
    assert "give the new stream a new id" in out.errors[0][1]
    assert registry.channel("E") == shape


def test_other_changes_are_kept_as_history_with_their_date(registry):
    registry.register([home(1)])
    registry.register([home(1, area="10001", customer="H-7", class_="business", interval_seconds=900)], at_ms=1000)
    registry.register([home(1, area="10001", customer="H-7", class_="business", interval_seconds=900)], at_ms=2000)
    registry.register([{"id": "E-0001", "utility": "electricity", "unit": "Wh"}], at_ms=3000)
    assert registry.history("E-0001") == [
        {"at_ms": 1000, "field": "interval_seconds", "old": "300", "new": "900"},
        {"at_ms": 1000, "field": "class", "old": "household", "new": "business"},
        {"at_ms": 1000, "field": "area", "old": "10003", "new": "10001"},
        {"at_ms": 1000, "field": "customer", "old": "H-1", "new": "H-7"},
        {"at_ms": 3000, "field": "unit", "old": "kWh", "new": "Wh"},
    ]
    now = registry.channel("E-0001")
    assert (now["area"], now["customer"], now["meter"], now["interval_seconds"]) == ("10001", "H-7", "M-1", 900)


def test_what_is_not_told_stays(registry):
    registry.register([home(1, interval_seconds=900)])
    shape = registry.channel("E-0001")
    registry.register(pa.table({"id": ["E-0001"], "utility": ["electricity"], "unit": ["kWh"]}))
    registry.register([{"id": "E-0001", "utility": "electricity", "unit": "kWh"}])
    assert registry.channel("E-0001") == shape


def test_an_id_twice_in_one_call_is_created_and_then_updated(registry):
    out = registry.register([home(1), home(2), home(1, class_="business"), home(1, area="1"), home(2)], at_ms=5)
    assert (out.created, out.updated, out.indices.tolist()) == (2, 3, [0, 1, 0, 0, 1])
    assert (registry.channel("E-0001")["class"], registry.channel("E-0001")["area"]) == ("household", "1")
    assert [entry["field"] for entry in registry.history("E-0001")] == ["class", "class", "area"]


def test_registering_again_changes_nothing(registry):
    channels = [home(number) for number in range(50)]
    registry.register(channels)
    version = registry.version
    out = registry.register(registry.channels())
    assert (out.created, out.updated, out.refused, registry.version) == (0, 50, 0, version)
    assert registry.register(channels).indices.tolist() == list(range(50))


def test_the_version_grows_with_each_registration(registry):
    versions = [registry.version]
    for channel in (home(1), home(2), home(2, class_="business")):
        registry.register([channel])
        versions.append(registry.version)
    assert sorted(set(versions)) == versions


def test_unknown_columns_and_columns_of_another_type_are_named(registry):
    with pytest.raises(Problem, match="'zone' is not known; known are id, "):
        registry.register(pa.table({"id": ["E"], "utility": ["gas"], "unit": ["m3"], "zone": ["UTC"]}))
    with pytest.raises(Problem, match="'id' is int64; it takes text"):
        registry.register(pa.table({"id": [1], "utility": ["gas"], "unit": ["m3"]}))
    assert registry.register([home(1)]).indices.tolist() == [0]


def test_everything_is_there_after_opening_again(tmp_path):
    with Registry.open(tmp_path) as registry:
        registry.add_area("city", "city", time_zone=NEW_YORK, title="The city")
        registry.register([home(number) for number in range(9)] + [Channel("x" * 23, "water", "L")])
        registry.register([home(4, area="10009", meter="M-99")], at_ms=77)
        shapes, table, version = registry.channels(), registry.table, registry.version
    assert table.lookup_one("E-0004") == 4  # what was handed out stays readable
    with Registry.open(tmp_path) as registry:
        assert registry.channels() == shapes
        assert registry.version == version
        assert registry.table.profiles.zones == table.profiles.zones
        assert registry.areas.title[0] == "The city"
        assert registry.meters("UP-4") == [
            {"meter": "M-4", "from_ms": None, "until_ms": 77},
            {"meter": "M-99", "from_ms": 77, "until_ms": None},
        ]
        assert registry.register([Channel("new", "gas", "m3")]).indices.tolist() == [10]


def test_filters_select_and_pages_follow_each_other(registry):
    registry.add_area("city", "city")
    registry.add_area("10003", parent="city")
    gas = [
        Channel(f"G-{number}", "gas", "m3", customer=f"H-{number}", usage_point=f"GP-{number}") for number in range(20)
    ]
    registry.register([home(number) for number in range(20)] + gas)
    ids = lambda **filters: registry.channels(**filters)["id"].to_pylist()  # noqa: E731
    assert ids(customer="H-7") == ["E-0007", "G-7"]
    assert ids(usage_point="UP-7") == ["E-0007"]
    assert ids(customer="H-7", utility="gas") == ["G-7"]
    assert ids(area="city") == ids(area="10003") == ids(utility="electricity") == [f"E-{n:04}" for n in range(20)]
    assert ids(customer="nobody") == ids(area="nowhere") == []
    assert ids(after=0, limit=15) + ids(after=15, limit=15) + ids(after=30) == ids()
    assert registry.channels(after=39)["index"].to_pylist() == [39]
    assert registry.channels(limit=0).num_rows == 0
    with pytest.raises(Problem, match="electricity, gas, water"):
        registry.channels(utility="steam")


def test_a_meter_exchange_is_kept_with_its_date(registry):
    registry.register(
        [home(1), home(2), Channel("V-1", "electricity", "V", kind="gauge", usage_point="UP-1", meter="M-1")]
    )
    assert registry.exchange_meter("UP-1", "M-1", "M-8", 1000) == 2
    assert registry.exchange_meter("UP-1", "M-8", "M-9", 2000) == 2
    assert registry.meters("UP-1") == [
        {"meter": "M-1", "from_ms": None, "until_ms": 1000},
        {"meter": "M-8", "from_ms": 1000, "until_ms": 2000},
        {"meter": "M-9", "from_ms": 2000, "until_ms": None},
    ]
    assert registry.meters("UP-2") == [{"meter": "M-2", "from_ms": None, "until_ms": None}]
    assert registry.channel("V-1")["meter"] == "M-9"
    assert [entry["at_ms"] for entry in registry.history("V-1")] == [1000, 2000]
    with pytest.raises(Problem, match="'UP-1' has M-9, not 'M-1'"):
        registry.exchange_meter("UP-1", "M-1", "M-2", 3000)
    with pytest.raises(Problem, match="later exchange"):
        registry.exchange_meter("UP-1", "M-9", "M-10", 1999)
    with pytest.raises(Problem, match="'UP-77' has no channels"):
        registry.exchange_meter("UP-77", "M-9", "M-10", 3000)


def test_another_meter_in_a_registration_is_an_exchange(registry):
    volts = {"id": "V", "utility": "electricity", "unit": "V", "kind": "gauge", "usage_point": "UP-1"}
    registry.register([home(1), volts | {"meter": "M-1"}])
    registry.register([home(1, meter="M-5"), volts | {"meter": "M-5"}], at_ms=9)
    assert registry.meters("UP-1") == [
        {"meter": "M-1", "from_ms": None, "until_ms": 9},
        {"meter": "M-5", "from_ms": 9, "until_ms": None},
    ]


def test_areas_nest(registry):
    registry.add_area("city", "city", time_zone=NEW_YORK)
    registry.add_area("Queens", "borough", parent="city", title="Queens")
    registry.register([home(1, area="11101"), home(2, area="10003"), Channel("U", "gas", "m3", area="11101")])
    registry.add_area("11101", parent="Queens")
    areas = registry.areas
    assert areas.names == ["city", "Queens", "11101", "10003"]
    assert areas.kind == ["city", "borough", "postcode", "postcode"]
    assert areas.parent.tolist() == [NO_AREA, 0, 1, NO_AREA]
    assert areas.time_zone == [NEW_YORK] * 4
    assert areas.ancestors_or_self(areas.index("11101")) == [2, 1, 0]
    assert areas.leaves_under(0).tolist() == [2] and areas.leaves_under(3).tolist() == [3]
    assert registry.channels(area="city")["id"].to_pylist() == ["E-0001", "U"]
    assert areas.index("nowhere") is None


def test_areas_refuse_circles_unknown_parents_and_bad_zones(registry):
    registry.add_area("a")
    registry.add_area("b", parent="a")
    with pytest.raises(Problem, match="circle"):
        registry.add_area("a", parent="b")
    with pytest.raises(Problem, match="circle"):
        registry.add_area("a", parent="a")
    with pytest.raises(Problem, match="add it first"):
        registry.add_area("c", parent="x")
    with pytest.raises(Problem):
        registry.add_area("c", time_zone="Mars/Olympus")
    assert registry.areas.names == ["a", "b"]


def test_a_registration_of_200_000_rows_maps_every_id_back(tmp_path):
    rows = 200_000
    ids = pa.array([f"E-{i:07}" for i in range(rows)])
    table = pa.table(
        {
            "id": ids,
            "utility": pa.array(["electricity"] * rows).dictionary_encode(),
            "unit": ["kWh"] * rows,
            "customer": [f"H-{i // 3:06}" for i in range(rows)],
            "area": [f"1{i % 177:04}" for i in range(rows)],
            "interval_seconds": pa.array([300, 900] * (rows // 2), pa.int32()),
        }
    )
    pq.write_table(table, tmp_path / "channels.parquet", row_group_size=50_000)
    with Registry.open(tmp_path / "registry") as registry:
        out = registry.register(tmp_path / "channels.parquet")
        assert (out.created, out.refused, registry.table.count) == (rows, 0, rows)
        offsets, data = (
            np.frombuffer(buffer, kind) for buffer, kind in zip(ids.buffers()[1:], (np.int32, np.uint8), strict=True)
        )
        assert (registry.table.lookup(offsets[: rows + 1], data) == np.arange(rows)).all()
        assert registry.channels()["area"].to_pylist() == table["area"].to_pylist()
        assert registry.register(table).updated == rows
        assert registry.channels(customer="H-050000")["id"].to_pylist() == ["E-0150000", "E-0150001", "E-0150002"]


def test_a_table_never_changes(registry):
    registry.register([home(1), home(2)])
    before, areas = registry.table, registry.areas
    registry.register([home(1, area="10009", class_="business"), home(3, area="10010")])
    assert (before.count, before.profile.tolist(), before.area.tolist()) == (2, [0, 0], [0, 0])
    assert (len(before.profiles.utility), areas.names) == (1, ["10003"])
    assert before.lookup_one("E-0003") == NOT_FOUND
    now = registry.table
    assert (now.profile.tolist(), [registry.areas.names[area] for area in now.area]) == (
        [1, 0, 0],
        ["10009", "10003", "10010"],
    )
    with pytest.raises(ValueError):
        now.area[0] = 7


def test_a_customer_is_found_wherever_their_channels_lie(registry):
    rows = 10_000
    names = [f"H-{i * 7919 % 3000}" for i in range(rows)]
    words = {"utility": ["gas"] * rows, "unit": ["m3"] * rows}
    registry.register(pa.table({"id": [f"G-{i}" for i in range(rows)], "customer": names} | words))
    for customer in ("H-0", "H-1234", "H-2999"):
        expected = [i for i in range(rows) if names[i] == customer]
        assert registry.channels(customer=customer)["index"].to_pylist() == expected
    registry.register([{"id": "G-17", "utility": "gas", "unit": "m3", "customer": "new"}])
    registry.register([{"id": "G-9999", "utility": "gas", "unit": "m3", "customer": "new"}])
    registry.register([Channel("G-10000", "gas", "m3", customer="new"), Channel("none", "gas", "m3")])
    assert registry.channels(customer="new")["index"].to_pylist() == [17, 9999, 10000]
    assert registry.channels(customer="new", after=18)["index"].to_pylist() == [9999, 10000]
    assert registry.channels(customer=names[17])["index"].to_pylist() == [
        i for i in range(rows) if names[i] == names[17] and i not in (17, 9999)
    ]


@pytest.mark.parametrize("shape", ["E-{:06}", "a-channel-with-a-long-id-{:06}"])
def test_threads_read_while_one_registers(registry, shape):
    ids = [shape.format(number) for number in range(8000)]
    asked = pa.array(ids)
    offsets, data = np.frombuffer(asked.buffers()[1], np.int32)[:8001], np.frombuffer(asked.buffers()[2], np.uint8)
    done, wrong = threading.Event(), []

    def read():
        while not done.is_set():
            table = registry.table
            expected = np.where(np.arange(8000) < table.count, np.arange(8000), NOT_FOUND)
            for _ in range(3):  # the writer is ahead of this table by then
                if (table.lookup(offsets, data) != expected).any():
                    wrong.append(table.count)
            if table.ids(np.arange(table.count, dtype=np.uint32)).to_pylist() != ids[: table.count]:
                wrong.append(table.count)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    words = {"utility": ["gas"] * 160, "unit": ["m3"] * 160}
    for at in range(0, 8000, 160):
        registry.register(pa.table({"id": ids[at : at + 160], "customer": ids[at : at + 160]} | words))
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == [] and registry.table.count == 8000


def test_a_second_writer_is_told_so_and_a_reader_is_not_disturbed(tmp_path):
    with Registry.open(tmp_path) as one, Registry.open(tmp_path) as two:
        one.register([home(1)])
        with pytest.raises(Problem, match="Another process writes") as caught:
            two.register([home(2)])
        assert caught.value.status == 409
    with Registry.open(tmp_path) as registry:
        assert registry.channels()["id"].to_pylist() == ["E-0001"]


def test_a_writer_takes_over_what_another_one_wrote(tmp_path):
    with Registry.open(tmp_path) as late:
        with Registry.open(tmp_path) as early:
            early.register([home(1), home(2)])
        assert late.register([home(3), home(2)]).indices.tolist() == [2, 1]
