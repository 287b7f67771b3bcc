"""Law 5: one bad row in a million costs one row, byte for byte in the quarantine; when its cause is mended it counts too."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from city import City, channels, config_for

from meterpulse.model.channel import Channel
from meterpulse.pipeline import answer, replay_quarantine

START = datetime(2026, 3, 7, 6, tzinfo=UTC)
CHANNELS, STEPS = 100, 10_000
BODY_BYTES_MAX = 64 << 20
UNKNOWN = "E-9999"


def lines(kind: str, bad_at: int):
    """A million rows, channel by channel at each instant; the bad one names a channel that is not there yet."""
    stamps = [(START + timedelta(seconds=5 * k)).strftime("%Y-%m-%dT%H:%M:%SZ") for k in range(STEPS)]
    names = [s["id"] for s in channels(CHANNELS, ("UTC",))]
    n = 0
    for k, stamp in enumerate(stamps):
        for c, name in enumerate(names):
            name = UNKNOWN if n == bad_at else name
            quantity = (k * 7 + c * 3) % 1000
            if kind == "text/csv":
                yield f"{name},{stamp},5,0.{quantity:03d}"
            else:
                yield f'{{"channel":"{name}","start":"{stamp}","seconds":5,"quantity":0.{quantity:03d}}}'
            n += 1


@pytest.mark.parametrize("kind", ["application/x-ndjson", "text/csv"])
def test_one_bad_row_in_a_million_costs_one_row_until_it_is_good(tmp_path, kind):
    bad_at, head = 654_321, "channel,start,seconds,quantity\n" if kind == "text/csv" else ""
    shapes = [dict(s, utility="electricity", unit="kWh", interval_seconds=5) for s in channels(CHANNELS, ("UTC",))]
    config = config_for(tmp_path / "data", speed={"idle_seconds": 1, "allowed_lateness_seconds": 604_800})
    now_ms = int(START.timestamp() * 1000) + 86_400_000
    with City(tmp_path / "data", shapes, now_ms=now_ms, config=config, nested=False) as city:
        rows = list(lines(kind, bad_at))
        assert len(rows) == 1_000_000
        told = {"accepted": 0, "quarantined": 0}
        bodies = 1 if kind == "text/csv" else 2
        for part in range(bodies):
            own = rows[part * len(rows) // bodies : (part + 1) * len(rows) // bodies]
            body = (head + "\n".join(own)).encode()
            assert len(body) <= BODY_BYTES_MAX
            decoded = city.pipeline.take(body, kind)
            city.pipeline.submit(decoded, "http").result()
            said = answer(decoded)
            told = {name: told[name] + said[name] for name in told}
            assert said["reasons"] in ({}, {"unknown_channel": 1})
        assert told == {"accepted": 999_999, "quarantined": 1}
        [kept] = city.pipeline.log.quarantined()
        as_sent = rows[bad_at].encode()
        if kind == "text/csv":
            assert as_sent in kept.original
        else:
            assert kept.original == as_sent
        assert kept.reason == "unknown_channel" and json.dumps(kept.detail)
        city.settle()
        missing = bad_at % CHANNELS, bad_at // CHANNELS
        for c in (0, missing[0], 99):
            want = sum((k * 7 + c * 3) % 1000 for k in range(STEPS) if (c, k) != missing) * 1000
            got = city.answer("1d", channel=shapes[c]["id"])
            assert sum(row.sum for row in got.values()) == want
            assert sum(row.count for row in got.values()) == STEPS - (c == missing[0])
        city.pipeline.registry.register([Channel(UNKNOWN, "electricity", "kWh", interval_seconds=5)])
        assert replay_quarantine(city.pipeline, None) == {"accepted": 1, "quarantined": 0}
        assert list(city.pipeline.log.quarantined()) == []
        city.settle()
        city.shapes[UNKNOWN] = {"id": UNKNOWN}
        [row] = city.answer("1h", channel=UNKNOWN).values()
        assert (row.count, row.sum) == (1, (missing[1] * 7 + missing[0] * 3) % 1000 * 1000)
