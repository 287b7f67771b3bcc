"""What each channel used in every local day of its usage point."""

from __future__ import annotations

from meterpulse.views import CHANNEL, View

VIEW = View("usage_1d", by=CHANNEL, every="1d", rolled_from="usage_5m", keep="forever")
