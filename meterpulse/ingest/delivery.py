"""What a source hands over: readings, and the acknowledgement that travels with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from meterpulse.ingest.contract import Decoded
from meterpulse.model.channel import Channel, ChannelTable


@dataclass(frozen=True, slots=True)
class Delivery:
    """Some messages of a source, decoded. Either all of it becomes durable or nothing.

    `source` names the clock that these readings move (their watermark is kept under it), such as `mqtt:meterpulse`.
    `acknowledge` is called once, when readings and refused rows are on disk, from any thread, in the order of delivery: it
    must be quick and must not raise. `positions` are where the parts of the origin go on after this delivery; they become
    durable in the same commit, and `House.position` gives them back.
    """

    source: str
    decoded: Decoded
    messages: int
    acknowledge: Callable[[], None]
    positions: Mapping[str, str] = field(default_factory=dict)


class House(Protocol):
    """What a source may ask of the city that it delivers to; from its own thread."""

    def table(self) -> ChannelTable:
        """All channels as of now; ask again for each delivery."""

    def now_ms(self) -> int:
        """The time, in ms since the epoch."""

    def register(self, channels: Sequence[Channel]) -> None:
        """Register channels that are not known yet; raises Problem."""

    def position(self, name: str) -> str | None:
        """What the newest durable delivery said under that name in its `positions`; None where none did."""
