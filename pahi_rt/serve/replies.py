"""What all HTTP routes share: reading a body, and errors in the shape that the route's clients expect."""

from __future__ import annotations

import asyncio
import re

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from pahi_rt.serve.limits import BODY_SECONDS, LARGEST_BODY
from pahi_rt.serve.problems import PROBLEM_JSON, Problem
from pahi_rt.serve.service import ClientGone, Service

_OPENAI = re.compile(r"/v1/(images/.*|models(/[^/]+)?)")
_CLOSE = {"Connection": "close"}


def service_of(request: Request) -> Service:
    """The service behind a request."""
    found: Service = request.app.state.service
    return found


async def read(request: Request) -> bytes:
    """The body. Raises Problem (413 if it is too large, 408 if it comes too slowly), or ClientGone."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, "encoded", "the request's body is compressed", "send it without Content-Encoding")
    length = request.headers.get("content-length", "")
    is_too_large = length.isdecimal() and int(length) > LARGEST_BODY
    if is_too_large and "expect" in request.headers:
        raise _too_large()  # before the client is told to go on
    body = bytearray()
    try:
        await asyncio.wait_for(_fill(body, request), BODY_SECONDS)
    except ClientDisconnect as error:
        raise ClientGone from error
    except asyncio.TimeoutError as error:
        if not (is_too_large or len(body) > LARGEST_BODY):
            what = f"the request's body did not arrive within {BODY_SECONDS:g} s"
            raise Problem(408, "too-slow", what, "send it at once") from error
    if is_too_large or len(body) > LARGEST_BODY:
        raise _too_large()
    return bytes(body)


async def _fill(body: bytearray, request: Request) -> None:
    """Read the whole body, but keep no more than shows that it is too large.

    Many clients look for an answer only when they have sent everything.
    """
    async for chunk in request.stream():
        body += chunk[: LARGEST_BODY + 1 - len(body)]


def _too_large() -> Problem:
    what = f"the request's body has more than {LARGEST_BODY} bytes"
    return Problem(413, "too-large", what, "send shorter prompts, or fewer")


def error_response(problem: Problem, path: str, request_id: str) -> JSONResponse:
    """A problem in OpenAI's shape on OpenAI's routes, and as RFC 9457 has it on all others."""
    # What is left of a body that was not read would be taken for the next request.
    headers = {**problem.headers, **(_CLOSE if problem.status in (408, 413) else {})}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if _OPENAI.fullmatch(path):
        return JSONResponse(problem.to_openai(), problem.status, headers)
    return JSONResponse(problem.to_rfc9457(request_id), problem.status, headers, PROBLEM_JSON)
