"""meterpulse: the readings of a city's electricity, gas and water meters, kept and answered exactly.

import meterpulse

with meterpulse.open("meterpulse-data") as city:
    city.usage(channel="E-000001", start="2026-01-31T00:00:00Z", end="2026-02-01T00:00:00Z", grain="1h")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meterpulse.city import City

__version__ = "0.1.0"
__all__ = ["open"]


def open(path: str | Path = "meterpulse-data") -> City:
    """The city whose data is at `path`: through its running server if there is one, else opened in this process.

    `path` may also be the address of a server, such as http://127.0.0.1:8321. Close it, or use it in a `with` block.
    """
    from meterpulse.city import City
    from meterpulse.config import load

    text = str(path)
    return City.at(text) if text.startswith(("http://", "https://")) else City.of(load({"data": Path(path)}))
