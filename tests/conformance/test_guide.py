"""The format that the guide makes works as the guide says: its code, its sample and its readings are taken from the page."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from meterpulse import plugins
from meterpulse.ingest import files
from meterpulse.registry import Registry
from tests.conformance.sampled import as_text, taken

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "add-a-format.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\w*\n(.*?)^```$", PAGE, re.S | re.M)


def block(begin: str) -> str:
    """The page's block that begins so."""
    (found,) = (text for text in BLOCKS if text.startswith(begin))
    return found


@pytest.fixture
def daiad(tmp_path, monkeypatch):
    """The package's folder with one file more."""
    code = block('"""Water counters')
    folder = tmp_path / "meterpulse" / "ingest"
    folder.mkdir(parents=True)
    for file in Path(files.__file__).parent.glob("*.py"):
        (folder / file.name).symlink_to(file)
    (folder / "daiad.py").write_text(code, encoding="utf-8")
    module = ModuleType("meterpulse.ingest.daiad")
    module.__file__ = str(folder / "daiad.py")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, module.__file__, "exec"), module.__dict__)
    monkeypatch.setattr(plugins, "_HERE", tmp_path / "meterpulse")


def test_the_guides_format_is_found_and_reads_the_guides_sample(daiad, tmp_path):
    path = tmp_path / "swm.csv"
    path.write_text(block("user key"), encoding="utf-8")
    assert "daiad" in files.formats() and files.detect(path) == "daiad"
    with Registry.open(tmp_path / "registry") as registry:
        assert as_text(taken(files.read(path), registry)) == block("a1b2 2016")
        assert registry.channel("a1b2")["unit"] == "L"
