"""OpenAI's routes, strict in what they answer and lenient in what they take."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from pahi_rt.serve.encode import Reply
from pahi_rt.serve.limits import SILENT_SECONDS
from pahi_rt.serve.problems import Problem, internal
from pahi_rt.serve.queue import Job
from pahi_rt.serve.replies import read, service_of
from pahi_rt.serve.requests import GenerationRequest, order_generation, read_body
from pahi_rt.serve.service import Service

_USAGE = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
}
"""Nobody pays here, but clients read it."""


async def generations(request: Request) -> Response:
    """POST /v1/images/generations."""
    service = service_of(request)
    body = read_body(GenerationRequest, await read(request))
    job = await service.accept(body.pictures, partial(order_generation, body))
    if body.stream:
        headers = job.order.headers
        return StreamingResponse(_events(service, job), headers=headers, media_type="text/event-stream")
    reply = await service.finish(job, request.receive)
    files = zip(reply.order.shots, reply.files, strict=True)
    data = [{"b64_json": base64.b64encode(file).decode(), "seed": shot.seed} for shot, file in files]
    return JSONResponse({**_describe(reply, "created"), "data": data, "usage": _USAGE}, headers=reply.headers)


async def models(request: Request) -> Response:
    """GET /v1/models."""
    data = [model.describe() for model in service_of(request).engine.models]
    return JSONResponse({"object": "list", "data": data})


async def model(request: Request) -> Response:
    """GET /v1/models/{name}."""
    return JSONResponse(service_of(request).engine.models.find(request.path_params["name"]).describe())


def _describe(reply: Reply, created: str) -> dict[str, Any]:
    width, height = reply.order.model.size
    return {
        created: int(time.time()),
        "model": reply.order.model.name,
        "seed": reply.order.seed,
        "bundle_sha256": reply.order.model.sha256,
        "size": f"{width}x{height}",
        "quality": "auto",
        "background": "opaque",
        "output_format": reply.order.format,
    }


async def _events(service: Service, job: Job) -> AsyncIterator[str]:
    """One `image_generation.completed` for each picture, and comments while there is nothing to say."""
    try:
        with service.replying(job) as making:
            while not making.done() and (left := service.time_left(job)):
                yield ": waiting\n\n"
                await asyncio.wait([making], timeout=min(left, SILENT_SECONDS))
            reply = service.result(making)
        for shot, file in zip(reply.order.shots, reply.files, strict=True):
            picture = {"b64_json": base64.b64encode(file).decode(), "usage": _USAGE, "timing": reply.timing}
            yield _event("image_generation.completed", {**_describe(reply, "created_at"), **picture, "seed": shot.seed})
    except Problem as problem:
        yield _event("error", problem.to_openai())
    except Exception:
        yield _event("error", internal().to_openai())
        raise


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n"
