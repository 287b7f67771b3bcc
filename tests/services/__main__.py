"""`python -m tests.services [NAME...]`: brings the servers that the tests need to this machine."""

from __future__ import annotations

import sys
from importlib import import_module

from tests.services import names


def main(wanted: list[str]) -> int:
    """How many could not be brought."""
    failed = 0
    for name in wanted or names():
        module = import_module(f"tests.services.{name}")
        if module.missing() is None:
            continue
        print(f"fetching {name}", flush=True)
        try:
            module.fetch()
        except Exception as error:
            print(f"{name} could not be fetched: {error}", file=sys.stderr)
        failed += module.missing() is not None
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
