"""What each channel used in every hour."""

from __future__ import annotations

from meterpulse.views import CHANNEL, View

VIEW = View("usage_1h", by=CHANNEL, every="1h", rolled_from="usage_5m", keep="forever")
