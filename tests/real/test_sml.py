"""Dumps of real meters: each telegram is read, and no register falls."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meterpulse.ingest import files
from meterpulse.registry import Registry
from tests.conformance.sampled import taken

BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data"
REAL = Path(os.environ.get("METERPULSE_PUBLIC_DATA", BESIDE)) / "sml"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the dumps are not beside the checkout")


@pytest.mark.parametrize("path", sorted(REAL.glob("*.bin")), ids=lambda path: path.stem)
def test_real_meters_are_read_and_their_registers_never_fall(path: Path, tmp_path: Path) -> None:
    assert files.detect(path) == files.detect(path.with_suffix(".hex")) == "sml"
    told = tmp_path / path.name
    told.write_bytes(
        path.read_bytes().replace(b"\x1b" * 4 + b"\x01", b"\n2025-12-31T23:15:00Z\n" + b"\x1b" * 4 + b"\x01")
    )
    with Registry.open(tmp_path / "registry") as registry:
        found = taken(files.read(told, "sml"), registry)
    assert found.rows
    assert "wrong_type" not in found.refused and found.refused.count("bad_checksum") <= 2
    for id in {row[0] for row in found.rows if ".8." in row[0]}:
        values = [row[3] for row in found.rows if row[0] == id]
        assert values == sorted(values)
