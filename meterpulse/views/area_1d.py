"""What each area used of each utility in every local day of the area."""

from __future__ import annotations

from meterpulse.views import AREA, View

VIEW = View("area_1d", by=AREA, every="1d", rolled_from="area_1m", keep="forever")
