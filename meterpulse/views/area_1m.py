"""What each area used of each utility in every minute: the base of all longer windows of areas."""

from __future__ import annotations

from meterpulse.views import AREA, View

VIEW = View("area_1m", by=AREA, every="1m", rolled_from=None, keep="30d")
