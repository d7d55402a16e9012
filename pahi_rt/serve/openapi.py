"""/openapi.json: what the routes take and answer."""

from __future__ import annotations

from typing import Any

import msgspec

from pahi_rt import __version__
from pahi_rt.serve.problems import PROBLEM_JSON
from pahi_rt.serve.requests import GenerationRequest, PicturesRequest

_SCHEMAS = "#/components/schemas/"
_JSON = "application/json"
_ANYTHING: dict[str, Any] = {}
_STRING, _INTEGER, _NUMBER, _BOOLEAN = ({"type": kind} for kind in ("string", "integer", "number", "boolean"))
_SEED = {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}
_HEADERS = {
    "X-Request-Id": {"schema": _STRING, "description": "The client's, or a new one."},
    "Server-Timing": {"schema": _STRING, "description": "Milliseconds: queue, tokenise, run, score, encode."},
    "X-Seed": {"schema": _STRING, "description": "The seed of the first picture."},
    "X-Bundle-Sha256": {"schema": _STRING, "description": "Identifies the model to the byte."},
    "X-Model": {"schema": _STRING},
}
_REFUSALS = {
    400: "The request cannot be drawn.",
    401: "The API key is missing or wrong.",
    403: "The page that asks comes from another origin.",
    404: "There is no such model.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is compressed.",
    421: "The server does not go by this name.",
    429: "Too many pictures wait; Retry-After says for how long.",
    500: "The model failed, or the server did.",
    503: "The server is loading or shutting down.",
    504: "The deadline has passed.",
}


def describe_service(*, needs_key: bool) -> dict[str, Any]:
    """The OpenAPI document."""
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "pahi-rt", "version": __version__, "summary": "Pictures from words in one denoising step."},
        "paths": {path: dict(methods) for path, methods in _paths().items()},
        "components": {"schemas": _schemas()},
    }
    if needs_key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _paths() -> dict[str, dict[str, Any]]:
    name = {"name": "name", "in": "path", "required": True, "schema": _STRING}
    file: dict[str, Any] = {f"image/{kind}": {"schema": {}} for kind in ("png", "webp", "jpeg")}
    drawn = {**file, _JSON: {"schema": _ref("Pictures")}, "multipart/mixed": {"schema": {}}}
    generated = {
        _JSON: {"schema": _ref("Images")},
        "text/event-stream": {"schema": _object(event=_STRING, data=_STRING)},
    }
    return {
        "/v1/pictures": {
            "post": _operation("Draw pictures", drawn, _HEADERS, body="PicturesRequest", refusals=_REFUSALS)
        },
        "/v1/images/generations": {
            "post": _operation(
                "Draw pictures as OpenAI does",
                generated,
                {key: _HEADERS[key] for key in ("X-Request-Id", "X-Seed", "X-Bundle-Sha256")},
                body="GenerationRequest",
                refusals=_REFUSALS,
                is_openai=True,
            )
        },
        "/v1/models": {"get": _get("List the models", _JSON, _ref("ModelList"), (401, 421), is_openai=True)},
        "/v1/models/{name}": {
            "parameters": [name],
            "get": _get("Describe a model", _JSON, _ref("Model"), (401, 404, 421), is_openai=True),
        },
        "/v1/models/{name}/vocabulary": {
            "parameters": [name],
            "get": _get("The words that a model knows", _JSON, {"type": "object"}, (401, 404, 421)),
        },
        "/healthz": {"get": _open("Whether the process works", _ref("Status"), (421, 503))},
        "/readyz": {"get": _open("Whether it would draw now", _ref("Status"), (421, 503))},
        "/metrics": {"get": _get("Metrics for Prometheus", "text/plain", _STRING, (401, 421))},
        "/openapi.json": {"get": _open("This document", {"type": "object"}, (421,))},
    }


def _open(summary: str, schema: dict[str, Any], refusals: tuple[int, ...]) -> dict[str, Any]:
    """An operation that needs no key."""
    return {**_get(summary, _JSON, schema, refusals), "security": []}


def _get(
    summary: str, kind: str, schema: dict[str, Any], refusals: tuple[int, ...], *, is_openai: bool = False
) -> dict[str, Any]:
    headers = {"X-Request-Id": _HEADERS["X-Request-Id"]}
    known = {status: _REFUSALS[status] for status in refusals}
    return _operation(summary, {kind: {"schema": schema}}, headers, refusals=known, is_openai=is_openai)


def _operation(
    summary: str,
    content: dict[str, Any],
    headers: dict[str, Any],
    *,
    refusals: dict[int, str],
    body: str | None = None,
    is_openai: bool = False,
) -> dict[str, Any]:
    problem = {_JSON: {"schema": _ref("OpenAIError")}} if is_openai else {PROBLEM_JSON: {"schema": _ref("Problem")}}
    request = {"requestBody": {"required": True, "content": {_JSON: {"schema": _ref(body)}}}} if body else {}
    return {
        "summary": summary,
        **request,
        "responses": {
            "200": {"description": "As asked for.", "headers": headers, "content": content},
            **{str(status): {"description": text, "content": problem} for status, text in refusals.items()},
        },
    }


def _schemas() -> dict[str, Any]:
    _, requests = msgspec.json.schema_components([PicturesRequest, GenerationRequest], ref_template=_SCHEMAS + "{name}")
    timing = _object(queue_ms=_NUMBER, tokenise_ms=_NUMBER, run_ms=_NUMBER, encode_ms=_NUMBER)
    picture = _object(
        prompt=_STRING,
        truncated=_BOOLEAN,
        seed=_SEED,
        prior_strength=_NUMBER,
        width=_INTEGER,
        height=_INTEGER,
        type=_STRING,
        bytes=_INTEGER,
        b64=_STRING,
    )
    picture["properties"]["score"] = _NUMBER  # only of pictures that were chosen
    timing["properties"]["score_ms"] = _NUMBER  # only with candidates
    word = _object(word=_STRING, nearest={"type": "array", "items": _STRING})
    model = _object(
        id=_STRING,
        object={"const": "model"},
        created=_INTEGER,
        owned_by=_STRING,
        height=_INTEGER,
        width=_INTEGER,
        steps={"type": "array", "items": _INTEGER},
        priors={"type": "array", "items": _STRING},
        default_prior=_STRING,
        scorers={"type": "array", "items": _STRING},
        sha256=_STRING,
        vocabulary=_BOOLEAN,
    )
    problem = _object(type=_STRING, status=_INTEGER, title=_STRING, detail=_STRING, fix=_STRING, request_id=_STRING)
    error = _object(message=_STRING, type=_STRING, param=_ANYTHING, code=_STRING, fix=_STRING)
    pictures = _object(
        model=_STRING,
        sha256=_STRING,
        seed=_SEED,
        steps=_INTEGER,
        prior=_STRING,
        pictures={"type": "array", "items": picture},
        unknown_words={"type": "array", "items": word},
        timing=timing,
    )
    pictures["properties"] |= {"scorer": _STRING, "candidates": _INTEGER}  # only where pictures were chosen
    requests["PicturesRequest"]["oneOf"] = [_only("prompt", "string", "prompts"), _only("prompts", "array", "prompt")]
    return {
        **requests,
        "Pictures": pictures,
        "Images": _object(
            created=_INTEGER,
            model=_STRING,
            seed=_SEED,
            bundle_sha256=_STRING,
            size=_STRING,
            output_format=_STRING,
            data={"type": "array", "items": _object(b64_json=_STRING, seed=_SEED)},
        ),
        "Model": model,
        "ModelList": _object(object={"const": "list"}, data={"type": "array", "items": _ref("Model")}),
        "Status": _object(status=_STRING),
        "Problem": problem,
        "OpenAIError": _object(error=error),
    }


def _object(**fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields)}


def _only(given: str, kind: str, absent: str) -> dict[str, Any]:
    return {"required": [given], "properties": {given: {"type": kind}, absent: {"type": "null"}}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": _SCHEMAS + name}
