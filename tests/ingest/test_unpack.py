"""What names on a command line stand for, and what is packed in archives: each content once, and no archive fills the disk."""

from __future__ import annotations

import gzip
import io
import sys
import zipfile

import pytest

from meterpulse.ingest import unpack
from meterpulse.ingest.unpack import Content, Unreadable, contents, expand


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def read(path) -> list[tuple[str, bytes]]:
    """(name, bytes) of each content, or (name, the error's words)."""
    return [
        (
            each.name.removeprefix(f"{path}"),
            each.path.read_bytes() if isinstance(each, Content) else str(each.error).encode(),
        )
        for each in contents(str(path))
    ]


def test_folders_and_patterns_stand_for_their_files_each_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.csv", "a/b/2.csv", "a/.hidden/3.csv", "a/.x", "c.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert expand(["c.csv", "a", "*.csv", "a/b/2.csv", "-"]) == [
        ("c.csv", False), ("a/1.csv", True), ("a/b/2.csv", True), ("-", False),
    ]  # fmt: skip
    for missing in ("no.csv", "*.txt"):
        with pytest.raises(FileNotFoundError, match="no.csv does not exist|nothing matches"):
            expand([missing])


def test_archives_in_archives_give_their_files_by_name(tmp_path):
    inner = zipped({"deep/MAC1.csv": b"one", "../../etc/MAC2.csv": b"two", "__MACOSX/._x": b"no"})
    path = tmp_path / "all.zip"
    path.write_bytes(zipped({"2013/inner.zip": inner, "MAC3.csv.gz": gzip.compress(b"three"), "empty/": b""}))
    assert read(path) == [
        ("/2013/inner.zip/deep/MAC1.csv", b"one"),
        ("/2013/inner.zip/../../etc/MAC2.csv", b"two"),
        ("/MAC3.csv.gz", b"three"),
    ]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["all.zip"]  # nothing was unpacked beside it


def test_the_name_of_a_content_is_its_own(tmp_path):
    path = tmp_path / "Water_WHW.csv.gz"
    path.write_bytes(gzip.compress(b"x"))
    assert [each.path.name for each in contents(str(path)) if isinstance(each, Content)] == ["Water_WHW.csv"]


def test_what_is_packed_too_deep_or_too_well_is_refused_and_its_neighbours_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "FREE_BYTES", 10_000)
    deep = b"x"
    for _ in range(unpack.NESTING_MAX + 1):
        deep = gzip.compress(deep)
    path = tmp_path / "hostile.zip"
    path.write_bytes(zipped({"bomb.csv": bytes(10**7), "deep.gz": deep, "good.csv": b"good"}))
    bomb, nested, good = read(path)
    assert b"more than 200 times its size" in bomb[1] and b"packed more than 3 times" in nested[1]
    assert good == ("/good.csv", b"good")
    monkeypatch.setattr(unpack, "MEMBERS_MAX", 2)
    assert b"at most 2 are taken" in read(path)[0][1]


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"abc" * 999)[:-9], gzip.compress(b"abc")[:12], zipped({"a": b"b" * 99})[:-30], b"PK\x03\x04junk"],
    ids=["gzip, cut", "gzip, its head", "zip, cut", "zip, junk"],
)
def test_a_broken_archive_is_told(tmp_path, content):
    path = tmp_path / "broken"
    path.write_bytes(content)
    found = list(contents(str(path)))
    assert isinstance(found[-1], Unreadable) and str(found[-1].error)


def test_a_flipped_byte_in_a_member_costs_that_member(tmp_path):
    packed = zipped({"bad.csv": b"a" * 50, "good.csv": b"good"}, zipfile.ZIP_STORED)
    (tmp_path / "x.zip").write_bytes(packed.replace(b"a" * 50, b"a" * 49 + b"b"))
    bad, good = read(tmp_path / "x.zip")
    assert b"CRC" in bad[1] and good == ("/good.csv", b"good")


def test_standard_input_may_be_packed(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(b"lines"))))
    assert [each.path.read_bytes() for each in contents("-") if isinstance(each, Content)] == [b"lines"]
