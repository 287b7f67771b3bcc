"""The compiled writer of rows and the general way give the same numbers, to the last digit."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from meterpulse.model.quantity import UNITS, from_thousandths
from meterpulse.serving.answers import WORDS, Answer, as_json, json_rows
from meterpulse.serving.usage import Rows

numbers = (
    st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-(10**9), 10**9) | st.sampled_from([10**k for k in range(19)])
)
seconds = st.integers(0, 7_258_118_400)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.tuples(
            seconds, st.integers(0, 2**63 - 1), *[numbers] * 4, st.booleans(), st.sampled_from(range(len(WORDS)))
        ),
        max_size=5,
    ),
    st.sampled_from(list(UNITS.values())),
    st.booleans(),
)
def test_every_number_is_the_exact_decimal(windows, unit, adds_up) -> None:  # type: ignore[no-untyped-def]
    windows.sort()
    table = np.array([w[:6] for w in windows], np.int64).reshape(len(windows), 6)
    rows = Rows(table[:, 0] * 1000, table[:, 1:], np.array([w[6] for w in windows], bool))
    quality = np.array([w[7] for w in windows], np.uint8)
    answer = Answer({"channel": "E-1"}, "5m", unit, None, rows, adds_up, quality=quality)
    got = json.loads(as_json(answer), parse_float=Decimal, parse_int=Decimal)["rows"]
    assert len(got) == len(windows)
    for row, known, window in zip(got, json_rows(answer), windows, strict=True):
        assert (row["start"], row["source"], row["unit"]) == (known["start"], known["source"], known["unit"])
        assert (row["count"], row["quality"]) == (window[1], WORDS[window[7]])
        for name, value in zip(("quantity", "min", "max", "last"), window[2:6], strict=True):
            exact = from_thousandths(value, unit) if (adds_up if name == "quantity" else window[1]) else None
            assert row[name] == exact and list(row) == list(known)
