"""What all HTTP routes share: reading a body, and errors in the shape that the route's clients expect."""

from __future__ import annotations

import asyncio
import re

from starlette.requests import Request
from starlette.responses import JSONResponse

from pahi_rt.serve.limits import BODY_SECONDS, LARGEST_BODY
from pahi_rt.serve.problems import PROBLEM_JSON, Problem
from pahi_rt.serve.service import Service

_OPENAI = re.compile(r"/v1/(images/.*|models(/[^/]+)?)")
_CLOSE = {"Connection": "close"}


def service_of(request: Request) -> Service:
    """The service behind a request."""
    found: Service = request.app.state.service
    return found


async def read(request: Request) -> bytes:
    """The body. Raises Problem: 413 if it is too large, 408 if it comes too slowly."""
    try:
        return await asyncio.wait_for(_read(request), BODY_SECONDS)
    except asyncio.TimeoutError as error:
        what = f"the request's body did not arrive within {BODY_SECONDS:g} s"
        raise Problem(408, "too-slow", what, "send it at once") from error


async def _read(request: Request) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > LARGEST_BODY:
        raise _too_large()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise _too_large()
    return bytes(body)


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
