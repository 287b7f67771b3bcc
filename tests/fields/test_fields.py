"""One folder per incident of the field, and per bug of ours: readings in, rows out.

`case.json` holds channels, what was sent in which order, and the rows that every answer must give, before batch has been
there and after it. To add one: a folder named after what happened, with a `case.json` like its neighbours'; its "story" says
what went wrong.
"""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from meterpulse.config import load
from meterpulse.model.channel import Channel
from meterpulse.pipeline import Pipeline
from meterpulse.serving.answers import as_json
from meterpulse.serving.queries import UsageQuery, usage
from meterpulse.serving.rebuilds import Wanted, rebuild_days

CASES = sorted(p.parent.name for p in Path(__file__).parent.glob("*/case.json"))


@pytest.mark.parametrize("name", CASES)
def test_field(name, tmp_path):
    case = json.loads((Path(__file__).parent / name / "case.json").read_text())
    now = int(datetime.fromisoformat(case["now"]).timestamp() * 1000)
    config = load(
        {
            "data": str(tmp_path / "data"),
            "log": {"max_bytes": 1 << 28},
            "stores": {"max_bytes": 1 << 28},
            "speed": {"idle_seconds": 1},
            "batch": {"quiet_seconds": 0},
            "lake": {"commit_seconds": 1},
        }
    )
    with Pipeline.open(config, clock=lambda: now) as p:
        assert p.registry.register([Channel.from_dict(c) for c in case["channels"]]).errors == []
        for step in case["sent"]:
            decoded = p.take("\n".join(map(json.dumps, step["readings"])).encode(), "application/x-ndjson")
            assert not decoded.rejected, decoded.rejected
            p.ingest(decoded, step.get("source", "http"))
            if step.get("then") == "settle":
                assert p.settle(30)
        assert p.settle(30)
        check(p, case)
        assert not rebuild_days(p, Wanted(all=True))["failed"]
        check(p, case)


def check(p: Pipeline, case: dict) -> None:
    for answer in case["answers"]:
        document = json.loads(as_json(usage(p, UsageQuery(**answer["asked"]))), parse_float=Decimal)
        rows = [[row["start"], str(row["quantity"]), row["count"]] for row in document["rows"]]
        assert rows == [[start, str(quantity), count] for start, quantity, count in answer["rows"]], answer["asked"]
