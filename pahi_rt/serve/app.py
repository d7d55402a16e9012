"""The ASGI application: every route, and what stands around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from pahi_rt.serve import openai, pictures
from pahi_rt.serve.guard import Guard
from pahi_rt.serve.live import live
from pahi_rt.serve.page import page_routes
from pahi_rt.serve.problems import Problem
from pahi_rt.serve.replies import error_response
from pahi_rt.serve.service import ClientGone, Service

_GONE = 499
_NOTING_SECONDS = 1.0
"""Seconds between two updates of the gauges, which another worker may be asked for."""
_EXPOSED = ("Retry-After", "Server-Timing", "X-Bundle-Sha256", "X-Model", "X-Request-Id", "X-Seed")


def make_app(service: Service, *, failed: Callable[[BaseException], None]) -> Starlette:
    """The application of one process. `failed` is told what has ended the engine, such as a bundle that won't load."""

    @asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(service.engine.run()),
            asyncio.create_task(_note_state(service)),
        ]
        tasks[0].add_done_callback(lambda task: None if task.cancelled() else failed(task.exception() or SystemExit()))
        if service.settings.workers > 1:
            # Until it is ready, a worker leaves connections to the others.
            tasks.append(asyncio.create_task(service.engine.ready.wait()))
            await asyncio.wait([tasks[0], tasks[-1]], return_when=asyncio.FIRST_COMPLETED)
        yield
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
        service.close()

    open_routes = _open_routes()
    app = Starlette(
        routes=[*_routes(), *open_routes],
        middleware=_middleware(service, {route.path for route in open_routes}),
        exception_handlers={Problem: _answer, HTTPException: _answer, ClientGone: _answer},
        lifespan=running,
    )
    app.router.redirect_slashes = False  # it would name the host that the client has named
    app.state.service = service
    return app


def _routes() -> list[Route | WebSocketRoute]:
    return [
        Route("/v1/images/generations", openai.generations, methods=["POST"]),
        Route("/v1/models", openai.models),
        Route("/v1/models/{name:path}/vocabulary", pictures.vocabulary),
        Route("/v1/models/{name:path}", openai.model),
        Route("/v1/pictures", pictures.pictures, methods=["POST"]),
        WebSocketRoute("/v1/live", live),
        Route("/metrics", pictures.metrics),
    ]


def _open_routes() -> list[Route]:
    """The routes that need no key."""
    return [
        Route("/healthz", pictures.healthz),
        Route("/readyz", pictures.readyz),
        Route("/openapi.json", pictures.openapi),
        *page_routes(),
    ]


def _middleware(service: Service, open_paths: set[str]) -> list[Middleware]:
    guard = Middleware(Guard, service=service, open_paths=open_paths)
    if not service.settings.allow_origins:
        return [guard]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=service.settings.allow_origins,
        allow_methods=["GET", "POST"],
        # Clients send headers of their own, such as OpenAI's X-Stainless-*. Origins are what is checked.
        allow_headers=["*"],
        expose_headers=_EXPOSED,
    )
    return [cors, guard]


async def _answer(request: Request, error: Exception) -> Response:  # a plain function would be given a thread
    if isinstance(error, ClientGone):
        return Response(status_code=_GONE)
    problem = _of_routing(error) if isinstance(error, HTTPException) else error
    assert isinstance(problem, Problem)
    response = error_response(problem, request.url.path, request.state.request_id)
    if isinstance(error, HTTPException):
        response.headers.update(error.headers or {})
    if problem.status == 429 and request.app.state.service.settings.workers > 1:
        response.headers["Connection"] = "close"  # the next try goes to the worker that has least to do
    return response


def _of_routing(error: HTTPException) -> Problem:
    if error.status_code == 405:
        return Problem(405, "method-not-allowed", "this route does not take that method", "see /openapi.json")
    return Problem(error.status_code, "not-found", "there is no such route", "see /openapi.json")


async def _note_state(service: Service) -> None:
    while True:
        service.note_state()
        await asyncio.sleep(_NOTING_SECONDS)
