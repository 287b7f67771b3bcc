"""Event time's clock: how far each source has come, and so how far all of them have."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Watermark:
    """One source's progress: the newest start seen, less the watermark delay. It never goes back."""

    delay_ms: int
    newest_ms: dict[str, int] = field(default_factory=dict)
    heard_ms: dict[str, int] = field(default_factory=dict)

    def advance(self, source: str, start_ms: int, now_ms: int) -> None:
        """`source` delivered a reading that started at `start_ms`; `now_ms` is when we heard it."""
        self.newest_ms[source] = max(start_ms, self.newest_ms.get(source, start_ms))
        self.heard_ms[source] = now_ms

    def value(self, now_ms: int, idle_ms: int) -> int | None:
        """The smallest watermark of the sources that are not idle; None where nothing was heard yet or all are idle."""
        active = [self.newest_ms[s] for s, heard in self.heard_ms.items() if now_ms - heard < idle_ms]
        return min(active) - self.delay_ms if active else None

    def newest(self) -> int | None:
        """The newest start that any source has delivered."""
        return max(self.newest_ms.values(), default=None)
