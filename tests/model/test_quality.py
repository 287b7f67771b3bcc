"""A quality goes out as it came in."""

from __future__ import annotations

import numpy as np
import pytest

from meterpulse.model.quality import Quality, code_of, is_packed, nem12_of, of_nem12, packed_of, reason_of, text_of
from meterpulse.model.reading import COLUMNS, Readings, _pack_column, pack, unpack


@pytest.mark.parametrize("flag", "AEFNSV")
@pytest.mark.parametrize("method", [0, 11, 14, 17, 52, 99])
def test_nem12_flags_and_methods_survive(flag, method):
    packed = of_nem12(flag, method)
    assert nem12_of(packed) == (flag, method)
    assert packed_of(text_of(packed)) == packed
    assert is_packed(np.array([packed])).all()


@pytest.mark.parametrize("reason", [0, 53, 99, 255])
def test_nem12_reason_codes_survive(reason):
    packed = of_nem12("F", 14, reason)
    assert (nem12_of(packed), reason_of(packed)) == (("F", 14), reason)
    assert code_of(packed) == code_of(of_nem12("F", 14)) and packed_of(text_of(packed)) == packed
    assert is_packed(np.array([packed])).all() and reason_of(of_nem12("F", 14)) is None


@pytest.mark.parametrize("quality", Quality)
def test_espi_codes_survive_and_have_a_nem12_flag(quality):
    assert code_of(int(quality)) == quality and packed_of(quality.word) == quality
    assert nem12_of(int(quality))[0] in "AEFNSV"


@pytest.mark.parametrize("wrong", [1, 20, 255, 14 | 5 << 8, 14 | 7 << 16, -1, 1 << 30, 14 | 1 << 19])
def test_what_is_no_quality_is_known_as_such(wrong):
    assert not is_packed(np.array([wrong])).any()


def test_a_batch_packed_before_there_was_a_quality_is_still_read():
    r = Readings.of([0, 1], 0, 5, [7, 9])
    old = bytearray(pack(r))[: len(pack(r)) - len(b"".join(_pack_column(r.quality, 2)))]
    old[4] = len(COLUMNS) - 1
    assert unpack(bytes(old)) == r
