"""Verb `serve`: the HTTP service and the playground."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pahi_rt.assets import DEFAULT
from pahi_rt.cli import messages
from pahi_rt.cli.extras import needs
from pahi_rt.cli.options import Debug, NameArgument, PathOption
from pahi_rt.serve.limits import BATCH_SIZES, DEADLINE, GRACE, LONGEST_WAIT, PATIENCE
from pahi_rt.serve.signals import sighup_waits

_Seconds = partial(typer.Option, min=0, max=LONGEST_WAIT)


@sighup_waits()
def serve(
    bundles: Annotated[
        list[str] | None,
        NameArgument(
            metavar="BUNDLE...", help=f"Names, folders, .zips or hub ids; the first is the default ({DEFAULT})."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that draw.")] = 1,
    runtime: Annotated[str, typer.Option(help="What runs the model; `pahi-rt doctor` lists them all.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU cores for each process (default: its share).")] = None,
    precision: Annotated[str | None, typer.Option(help="Precision (default: the bundle's first).")] = None,
    batch: Annotated[int, typer.Option(min=1, help="The largest batch that may form.")] = BATCH_SIZES[-1],
    queue: Annotated[
        int | None, typer.Option(min=1, help="Pictures accepted at once (default: by speed and --patience).")
    ] = None,
    patience: Annotated[float, _Seconds(help="Seconds that a request should wait at most.")] = PATIENCE,
    deadline: Annotated[float, _Seconds(help="Seconds after which a request is given up.")] = DEADLINE,
    grace: Annotated[float, _Seconds(help="Seconds to finish accepted work when told to end.")] = GRACE,
    api_key_file: Annotated[
        Path | None, PathOption(metavar="FILE", help="API keys, one on each line; SIGHUP reads them again.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(metavar="ORIGIN", help="Let pages of this origin use the service; repeatable.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name that the service goes by; repeatable.")
    ] = None,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log a line for each request.")] = False,
    qualified: Annotated[
        bool, typer.Option("--qualified", help="Only start if `pahi-rt qualify` has passed what would draw here.")
    ] = False,
    reports: Annotated[
        list[Path] | None,
        PathOption("--report", metavar="FILE", help="With --qualified: a report outside the bundle; repeatable."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Draw pictures over HTTP, as OpenAI's clients ask for them, and on a page that draws as you type."""
    with needs("serve"):
        from pahi_rt.serve.logs import logging_to_stderr
        from pahi_rt.serve.server import listen, open_models, serve
        from pahi_rt.serve.settings import Settings, check_settings
        from pahi_rt.serve.workers import supervise

    settings = Settings(
        bundles=tuple(bundles or [DEFAULT]),
        host=host,
        port=port,
        workers=workers,
        runtime=runtime,
        threads=threads,
        precision=precision,
        queue=queue,
        patience=patience,
        deadline=deadline,
        grace=grace,
        batch=batch,
        api_key_file=api_key_file,
        allow_origins=tuple(allow_origin or []),
        allow_hosts=tuple(allow_host or []),
        access_log=access_log,
        qualified=qualified,
        reports=tuple(reports or []),
    )
    check_settings(settings)
    models = open_models(settings)
    with listen(settings) as listener, logging_to_stderr(settings):
        address = _address(host, listener.getsockname()[1])
        names = ", ".join(model.name for model in models)
        messages.say(f"serving {names} on {address}, which is also a page to try it; Ctrl-C ends it")
        if workers > 1:
            supervise(settings, listener)
        elif not serve(models, settings, listener):
            messages.note("something was still being drawn or loaded, and is given up")
            os._exit(1)  # its thread cannot be stopped, and Python would wait for it


def _address(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/"
