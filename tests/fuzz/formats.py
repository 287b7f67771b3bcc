"""A format under atheris, as long as you let it: `pip install atheris`, then `python -m tests.fuzz.formats london`.

What follows goes to libFuzzer: `-max_total_time=60`, a folder for its corpus. A crash is written to a file, and given back
as the last argument it is tried alone. Without atheris the same harness runs on random bytes.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

# What holds compiled loops comes first: numba takes no instrumented code.
import meterpulse.ingest.london
import meterpulse.ingest.tabular
from meterpulse.registry import Registry

try:
    import atheris
except ModuleNotFoundError:
    atheris = None
with atheris.instrument_imports() if atheris else nullcontext():
    import meterpulse.ingest.dsmr_p1
    import meterpulse.ingest.green_button
    import meterpulse.ingest.mapping
    import meterpulse.ingest.nem12
    import meterpulse.ingest.nem13
    import meterpulse.ingest.utilityapi  # noqa: F401
    from tests.conformance.sampled import SAMPLES, taken
    from tests.fuzz.hostile import check, mutated


def main() -> None:
    """By the name of a format."""
    samples = [sample for sample in SAMPLES if sample.format in sys.argv[1:2]]
    if not samples:
        sys.exit(f"python -m tests.fuzz.formats NAME, of {', '.join(sorted({s.format for s in SAMPLES}))}")
    with tempfile.TemporaryDirectory() as folder, Registry.open(Path(folder) / "registry") as registry:
        for sample in samples:
            taken(sample.reader.read(sample.path), registry)

        def one(choices: bytes) -> None:
            sample = samples[choices[0] % len(samples)] if choices else samples[0]
            check(
                sample, mutated(sample.path.read_bytes(), choices[1:]), Path(folder) / sample.path.name, registry.table
            )

        if atheris is None:
            rng, end, tries = random.Random(1), time.monotonic() + 60, 0
            while time.monotonic() < end:
                one(rng.randbytes(rng.randrange(1, 60)))
                tries += 1
            print(f"{tries} files in 60 s; with atheris installed, coverage leads the way")
            return
        atheris.Setup([sys.argv[0], *sys.argv[2:]], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
