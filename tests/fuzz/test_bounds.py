"""Huge files: a line of a gigabyte, ten million fields, bombs. They end in bounded memory, with an error that says why."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
GROWTH_MB_MAX = 400
CHILD = r"""
import gzip, json, resource, sys, zipfile
from pathlib import Path
from meterpulse.ingest import BodyError
from meterpulse.ingest.unpack import Content, contents
from tests.conformance.sampled import SAMPLES

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def outcome(sample, path):
    rows, refused = 0, []
    try:
        for batch in sample.reader.read(path):
            rows += batch.rows
            refused += [row.reason for row in batch.rejected]
    except BodyError as error:
        return [rows, refused[:1], error.detail]
    return [rows, refused[:1], ""]

folder, told = Path(sys.argv[1]), {}
by_name = {sample.path.name: sample for sample in SAMPLES}
for sample in SAMPLES:
    outcome(sample, sample.path)
base = peak_mb()

def huge(name, key, write):
    path = folder / name
    with path.open("wb") as file:
        file.write(by_name[name].path.read_bytes().split(b"\n")[0] + b"\n")
        write(file)
    told[key] = [*outcome(by_name[name], path), peak_mb() - base]
    path.unlink()

for name in ("block_0.csv", "Water_WHW.csv", "readings.ndjson"):
    huge(name, f"a gigabyte in {name}", lambda file: file.truncate(2**30))
huge("scenario.csv", "50 MB in scenario.csv", lambda file: file.truncate(5 * 10**7))
huge("telegrams.txt", "20 MB in telegrams.txt", lambda file: file.truncate(2 * 10**7))
for name in ("block_0.csv", "LD2011_2014.txt", "household_power_consumption.txt"):
    huge(name, f"ten million fields in {name}", lambda file: file.write((b"," if "block" in name else b"1;") * 10**7))
for kind in ("entities", "depth"):
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10 if i else "x" * 100}">' for i in range(12))
    deep = "<feed xmlns='http://naesb.org/espi'>" + "<a>" * 10**6
    text = f"<!DOCTYPE feed [{entities}]><feed>&a11;</feed>" if kind == "entities" else deep
    (folder / "feed.xml").write_text(text)
    told[f"xml {kind}"] = [*outcome(by_name["gas.xml"], folder / "feed.xml"), peak_mb() - base]
with gzip.open(folder / "bomb.csv.gz", "wb", 6) as file:
    for _ in range(30):
        file.write(bytes(10**7))
with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("a.csv", bytes(3 * 10**8))
for name in ("bomb.csv.gz", "bomb.zip"):
    found = [each for each in contents(str(folder / name))]
    assert not any(isinstance(each, Content) for each in found)
    told[name] = [0, [], str(found[0].error), peak_mb() - base]
print(json.dumps(told))
"""


def test_huge_and_explosive_files_end_in_bounded_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    told = json.loads(done.stdout)
    assert len(told) == 12
    for what, (rows, refused, error, growth_mb) in told.items():
        assert growth_mb < GROWTH_MB_MAX, (what, growth_mb)
        assert refused or error, what
        assert rows <= 1, what
