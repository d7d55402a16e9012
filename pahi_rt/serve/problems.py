"""What can go wrong with a request: a status, and words that hold no path, traceback or version."""

from __future__ import annotations

import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pahi_rt.errors import PahiError

PROBLEM_JSON = "application/problem+json"
_LONGEST = 400
"""Characters of a sentence that may hold what a client has sent."""


@dataclass
class Problem(Exception):
    """An error of one request, with its fix."""

    status: int
    slug: str
    """Names the kind of problem for programs: the end of `type` in RFC 9457, and OpenAI's `code`."""
    detail: str
    fix: str
    retry_after: float | None = None
    """Seconds after which trying again makes sense."""
    param: str | None = None
    """The field of the request that is at fault."""

    @property
    def title(self) -> str:
        """The status in words."""
        return HTTPStatus(self.status).phrase

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with it."""
        return {} if self.retry_after is None else {"Retry-After": str(self.wait_seconds)}

    @property
    def wait_seconds(self) -> int:
        """`retry_after` in whole seconds, 1 or more."""
        return max(1, math.ceil(self.retry_after or 0))

    def brief(self) -> dict[str, Any]:
        """What a message on the WebSocket says of it."""
        wait = {} if self.retry_after is None else {"retry_after": self.wait_seconds}
        return {"status": self.status, "title": self.title, "detail": self.detail, "fix": self.fix, **wait}

    def to_rfc9457(self, request_id: str) -> dict[str, Any]:
        """The problem as RFC 9457 has it."""
        return {"type": f"urn:pahi-rt:problem:{self.slug}", **self.brief(), "request_id": request_id}

    def to_openai(self) -> dict[str, Any]:
        """The problem as OpenAI's clients expect it. They show `message` alone, so it holds the fix too."""
        kind = "invalid_request_error" if self.status < 500 and self.status != 429 else "server_error"
        if self.status == 429:
            kind = "rate_limit_error"
        message = f"{self.detail} (fix: {self.fix})"
        return {
            "error": {"message": message, "type": kind, "param": self.param, "code": self.slug, "fix": self.fix},
        }


def refused(error: PahiError) -> Problem:
    """The problem of a request that the library refuses with a RequestError, whose words name no file."""
    return Problem(400, "bad-request", error.what, error.fix)


def bad_request(detail: str, fix: str, param: str | None = None) -> Problem:
    """The problem of a request that says something impossible, which `detail` may repeat: it is cut."""
    return Problem(400, "bad-request", detail[:_LONGEST], fix[:_LONGEST], param=param and param[:_LONGEST])


def cannot_draw() -> Problem:
    """The problem of a runtime that fails; the log has the reason."""
    return Problem(500, "cannot-draw", "the model failed to draw this", "try again; the server's log has the reason")


def internal() -> Problem:
    """The problem of a bug of ours; the log has the traceback."""
    return Problem(500, "internal", "the server failed on this request", "report it with its request id")


def overdue(seconds: float) -> Problem:
    """The problem of a request whose deadline has passed."""
    fix = "ask for fewer pictures at once, or start the server with a longer --deadline"
    return Problem(504, "overdue", f"the pictures were not ready within {seconds:g} s", fix)


def draining() -> Problem:
    """The problem of a request that comes while the service ends."""
    fix = "try again shortly, or ask another server"
    return Problem(503, "shutting-down", "the server is shutting down and takes no new requests", fix, retry_after=5)


def loading() -> Problem:
    """The problem of a request that comes before the first picture was drawn."""
    fix = "try again shortly; /readyz answers 200 when it is ready"
    return Problem(503, "loading", "the server is still loading its models", fix, retry_after=1)
