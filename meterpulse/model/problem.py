"""An error that reaches a person: an RFC 9457 problem document over HTTP, one clear line on the command line."""

from __future__ import annotations


class Problem(Exception):
    """What went wrong and what to do about it. `status` is the HTTP status, `kind` the last part of the problem's type URI."""

    def __init__(self, status: int, kind: str, title: str, detail: str = "", *, retry_after_seconds: int | None = None):
        super().__init__(f"{title}: {detail}" if detail else title)
        self.status, self.kind, self.title, self.detail = status, kind, title, detail
        self.retry_after_seconds = retry_after_seconds

    def document(self) -> dict[str, object]:
        """The RFC 9457 body."""
        return {
            "type": f"urn:meterpulse:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
