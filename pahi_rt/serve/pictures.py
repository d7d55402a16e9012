"""Our own routes: pictures, vocabularies, health and metrics."""

from __future__ import annotations

import json
import secrets
from functools import partial

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pahi_rt.serve.encode import Reply
from pahi_rt.serve.openapi import describe_service
from pahi_rt.serve.problems import Problem
from pahi_rt.serve.replies import read, service_of
from pahi_rt.serve.requests import PicturesRequest, order_pictures, read_body

MULTIPART = "multipart/mixed"
_JSON = "application/json"


async def pictures(request: Request) -> Response:
    """POST /v1/pictures: a file for one picture; for several, or where the client accepts no other, JSON or parts."""
    service = service_of(request)
    body = read_body(PicturesRequest, await read(request))
    job = await service.accept(body.pictures, partial(order_pictures, body))
    reply = await service.finish(job, request.receive)
    accepted = request.headers.get("accept", "*/*")
    if MULTIPART in accepted:
        return _multipart(reply)
    if len(reply.files) > 1 or _JSON in accepted:
        return JSONResponse(reply.describe_with_files(), headers=reply.headers)
    return Response(reply.files[0], headers=reply.headers, media_type=reply.type)


def _multipart(reply: Reply) -> Response:
    """The description as the first part, then each picture."""
    boundary = secrets.token_hex(16)
    parts = [(_JSON, json.dumps(reply.describe()).encode()), *((reply.type, file) for file in reply.files)]
    body = b"".join(
        f"--{boundary}\r\nContent-Type: {kind}\r\nContent-Length: {len(part)}\r\n\r\n".encode() + part + b"\r\n"
        for kind, part in parts
    )
    closed = body + f"--{boundary}--\r\n".encode()
    return Response(closed, headers=reply.headers, media_type=f"{MULTIPART}; boundary={boundary}")


async def vocabulary(request: Request) -> Response:
    """GET /v1/models/{name}/vocabulary: the bundle's own file."""
    model = service_of(request).engine.models.find(request.path_params["name"])
    file = model.bundle.manifest.vocabulary
    if file is None:
        what = f"the model {model.name!r} has no vocabulary"
        raise Problem(404, "no-vocabulary", what, "ask it for anything; it does not say what it knows")
    return Response(model.bundle.read(file), media_type=_JSON)


async def healthz(request: Request) -> Response:
    """GET /healthz: whether the process works. A batch that never ends is the only way in which it does not."""
    service = service_of(request)
    if service.engine.busy_seconds > 2 * service.settings.deadline:
        raise Problem(503, "stuck", "the model has been drawing one batch for too long", "restart the server")
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """GET /readyz: whether a picture that is asked for now would be drawn."""
    service_of(request).engine.check_open()
    return JSONResponse({"status": "ready"})


async def metrics(request: Request) -> Response:
    """GET /metrics."""
    service = service_of(request)
    service.note_state()
    return Response(service.metrics.render(), media_type=CONTENT_TYPE_LATEST)


async def openapi(request: Request) -> Response:
    """GET /openapi.json."""
    return JSONResponse(describe_service(needs_key=service_of(request).keys.are_needed))
