"""The persistent hash: text to dense index and back, exactly, whatever the texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterpulse.model.channel import NOT_FOUND
from meterpulse.registry import cells
from meterpulse.registry.texts import TextIndex

TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40).filter(
    lambda text: len(text.encode()) <= 200
)
SHORT = st.text("ab", min_size=1, max_size=3)  # collides often


CELLS = [
    3472328296227679557,
    648518346341351473,
    97,
    72057594037927936,
    16,
    18406746830730738533,
    1048599,
    18429807075066405734,
]
SLOTS = {288: 5186850592550551555, 352: 2823700457476587522, 496: 10192470422956539908, 608: 17122180347216265217}


def layout(texts: list[str], width: type = np.int64) -> tuple[np.ndarray, np.ndarray]:
    encoded = [text.encode() for text in texts]
    return np.cumsum([0, *map(len, encoded)]).astype(width), np.frombuffer(b"".join(encoded), np.uint8)


def add(index: TextIndex, texts: list[str]) -> list[int]:
    return index.add(*layout(texts), np.ones(len(texts), bool)).tolist()


def find(index: TextIndex, texts: list[str], width: type = np.int64) -> list[int]:
    return index.view().find(*layout(texts, width)).tolist()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(TEXTS | SHORT, max_size=30), max_size=6), st.lists(TEXTS | SHORT, max_size=20), st.data())
def test_the_index_is_a_dict(tmp_path_factory, batches, others, data):
    directory = tmp_path_factory.mktemp("texts")
    index, model = TextIndex(directory, "id", 0, 0), dict[str, int]()
    for batch in batches:
        assert add(index, batch) == [model.setdefault(text, len(model)) for text in batch]
        if data.draw(st.booleans()):
            index.sync()
            if data.draw(st.booleans()):
                index.save(tail=0)
            count, heap_used = index.count, index.heap_used
            index.abandon()
            index = TextIndex(directory, "id", count, heap_used)
    asked = [*others, *model]
    assert find(index, asked) == [model.get(text, NOT_FOUND) for text in asked]
    assert find(index, asked, np.int32) == [model.get(text, NOT_FOUND) for text in asked]
    assert index.view().texts(np.arange(len(model), dtype=np.uint32)).to_pylist() == list(model)
    index.close()


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 14, 15, 16, 17, 23, 24, 199, 200])
def test_texts_of_every_length_are_found_and_their_neighbours_are_not(tmp_path, size):
    index = TextIndex(tmp_path, "id", 0, 0)
    texts = [str(i).zfill(size)[-size:] for i in range(10 if size == 1 else 90)]
    texts = list(dict.fromkeys(texts))
    assert add(index, texts) == list(range(len(texts)))
    assert find(index, texts) == list(range(len(texts)))
    assert find(index, [text[:-1] + "x" for text in texts]) == [NOT_FOUND] * len(texts)
    assert find(index, ["x" + text[1:] for text in texts]) == [NOT_FOUND] * len(texts)
    assert find(index, [text + "0" for text in texts]) == [NOT_FOUND] * len(texts)
    index.close()


def test_the_order_of_asking_does_not_matter(tmp_path):
    index = TextIndex(tmp_path, "id", 0, 0)
    texts = [f"E-{i:07}" for i in range(20_000)]
    add(index, texts)
    order = np.random.default_rng(7).permutation(len(texts))
    assert find(index, [texts[i] for i in order]) == order.tolist()
    assert find(index, texts[::3]) == list(range(0, len(texts), 3))
    assert find(index, [texts[5]] * 1000) == [5] * 1000
    index.close()


def test_texts_at_the_end_of_the_memory_are_read_within_it(tmp_path):
    index = TextIndex(tmp_path, "id", 0, 0)
    add(index, ["a", "abcdefghi", "abcdefghijklmnopq"])
    for text in ("a", "abcdefghi", "abcdefghijklmnopq", "abcdefghijklmnop"):
        page = np.frombuffer(text.encode(), np.uint8).copy()
        expected = {"a": 0, "abcdefghi": 1, "abcdefghijklmnopq": 2}.get(text, NOT_FOUND)
        assert index.view().find(np.array([0, page.size], np.int32), page).tolist() == [expected]
    index.close()


def test_a_view_does_not_see_what_is_added_later(tmp_path):
    index = TextIndex(tmp_path, "id", 0, 0)
    add(index, ["one"])
    view = index.view()
    add(index, ["two"])
    assert [view.find_one("one"), view.find_one("two"), index.view().find_one("two")] == [0, NOT_FOUND, 1]
    with pytest.raises(IndexError):
        view.texts(np.array([1], np.uint32))
    index.close()


def saved_index(directory: Path, texts: list[str]) -> tuple[int, int]:
    index = TextIndex(directory, "id", 0, 0)
    add(index, texts)
    index.sync()
    index.close()
    return index.count, index.heap_used


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "empty", "foreign"])
def test_a_damaged_table_of_slots_is_made_anew(tmp_path, damage):
    texts = [f"E-{i:07}" for i in range(3000)]
    count, heap_used = saved_index(tmp_path, texts)
    path = tmp_path / "id.slots"
    bytes_ = bytearray(path.read_bytes())
    if damage == "flip":
        bytes_[9000] ^= 4
    path.write_bytes({"truncate": bytes_[:-8], "empty": b"", "foreign": b"x" * 5000}.get(damage, bytes_))
    if damage == "remove":
        path.unlink()
    index = TextIndex(tmp_path, "id", count, heap_used)
    assert find(index, texts) == list(range(len(texts)))
    index.close()


def test_texts_beyond_what_was_committed_do_not_count(tmp_path):
    saved_index(tmp_path, ["one", "two", "three"])
    index = TextIndex(tmp_path, "id", 1, 0)
    assert find(index, ["one", "two", "three"]) == [0, NOT_FOUND, NOT_FOUND]
    assert add(index, ["three", "two"]) == [1, 2]
    index.close()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=20))
def test_only_utf8_without_control_characters_passes(bodies):
    code = np.empty(len(bodies), np.uint8)
    offsets = np.cumsum([0, *map(len, bodies)])
    cells.check_texts(offsets, np.frombuffer(b"".join(bodies), np.uint8), code)
    for body, verdict in zip(bodies, code, strict=True):
        try:
            text = body.decode()
        except UnicodeDecodeError:
            assert verdict != cells.OK
        else:
            assert (verdict == cells.OK) == (bool(text) and all(ord(c) >= 32 and ord(c) != 127 for c in text))


def test_the_format_on_disk_is_as_released(tmp_path):
    """Cells hold hashes of long texts, slots of all: another hash needs another format, and a migration."""
    saved_index(tmp_path, ["E-0000001", "a", "sixteen bytes ok", "twenty-three bytes here"])
    assert np.fromfile(tmp_path / "id.cells", np.uint64, 8).tolist() == CELLS
    assert (tmp_path / "id.heap").read_bytes().rstrip(b"\0") == b"sixteen bytes oktwenty-three bytes here"
    slots = np.fromfile(tmp_path / "id.slots", np.uint64)[512:]
    assert {int(at): int(slots[at]) for at in np.flatnonzero(slots)} == SLOTS


def test_arrow_strings_are_looked_up_where_they_lie(tmp_path):
    index = TextIndex(tmp_path, "id", 0, 0)
    add(index, ["a", "bb", "ccc"])
    column = pa.array(["zz", "ccc", "a", "bb"]).slice(1, 3)
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + 4]
    assert index.view().find(offsets, np.frombuffer(column.buffers()[2], np.uint8)).tolist() == [2, 0, 1]
    index.close()
