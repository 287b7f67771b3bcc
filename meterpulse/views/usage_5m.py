"""What each channel used in every 5 minutes: the base of all longer windows of channels."""

from __future__ import annotations

from meterpulse.views import CHANNEL, View

VIEW = View("usage_5m", by=CHANNEL, every="5m", rolled_from=None, keep="30d")
