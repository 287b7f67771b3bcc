"""What each area used of each utility in every hour."""

from __future__ import annotations

from meterpulse.views import AREA, View

VIEW = View("area_1h", by=AREA, every="1h", rolled_from="area_1m", keep="forever")
