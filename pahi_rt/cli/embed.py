"""Verb `embed`: prepare a bundle for programs that are not Python."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pahi_rt.cli import messages
from pahi_rt.cli.group import Group
from pahi_rt.cli.options import BundleName, Debug, Json, PathOption
from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.terminal import command

if TYPE_CHECKING:
    from pahi_rt.export.web.contents import Files
    from pahi_rt.export.web.timing import Timing

app = typer.Typer(name="embed", cls=Group, help="Prepare a bundle for another program.")


@app.callback()
def _embed() -> None:
    """Prepare a bundle for another program."""


@app.command()
def triton(
    bundle: BundleName,
    output: Annotated[Path, PathOption("-o", "--output", metavar="REPO", help="The folder to write.")],
    runtime: Annotated[str, typer.Option(help="What runs the graph: python, onnxruntime or tensorrt.")] = "python",
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 1,
    prior: Annotated[str | None, typer.Option(help="hi, pahi or gaussian (default: the bundle's best).")] = None,
    precision: Annotated[str | None, typer.Option(help="Precision of the graph (default: the bundle's first).")] = None,
    batch: Annotated[int, typer.Option(min=1, help="The most pictures that are drawn at once.")] = 8,
    delay: Annotated[int, typer.Option(min=0, help="Microseconds that a request waits for others.")] = 0,
    instances: Annotated[int, typer.Option(min=1, help="Copies of the graph that draw at the same time.")] = 1,
    gpu: Annotated[bool, typer.Option("--gpu", help="Run onnxruntime on the GPU; tensorrt always runs there.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a repository that exists.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a model repository for NVIDIA's Triton Inference Server."""
    from pahi_rt.export.triton.config import Batching
    from pahi_rt.export.triton.repository import Choice, write_repository

    batching = Batching(batch, delay, instances, is_on_gpu=gpu)
    choice = Choice(runtime, steps, prior, precision)
    path = write_repository(bundle, output, choice, batching, overwrite=force)
    if as_json:
        messages.document({"path": str(path), "models": sorted(model.name for model in path.iterdir())})
    else:
        messages.result(str(path))
        messages.say(f"next: {command('tritonserver', f'--model-repository={path}')}")


@app.command()
def web(
    bundle: BundleName,
    output: Annotated[
        Path,
        PathOption("-o", "--output", metavar="SITE", help="The folder to write, or with --single-file the .html file."),
    ],
    single_file: Annotated[
        bool, typer.Option("--single-file", help="Write one .html file with everything in it.")
    ] = False,
    precision: Annotated[
        str | None, typer.Option(help="Precision of the graphs (default: the bundle's first).")
    ] = None,
    isolate: Annotated[
        bool, typer.Option("--isolate", help="Add a service worker, so that several threads draw on any host.")
    ] = False,
    packages: Annotated[
        Path | None, PathOption(metavar="FOLDER", help="Take npm's packages from here, not from the network.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a site that exists.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a static web site that draws in the browser, without a server."""
    from pahi_rt.export.web.site import write_site

    if single_file and isolate:
        raise typer.BadParameter("--isolate needs a site of several files: leave --single-file out")
    site = write_site(
        bundle,
        output,
        precision=precision,
        single_file=single_file,
        isolate=isolate,
        packages=packages,
        overwrite=force,
    )
    timing = _time_picture(site.files)
    if as_json:
        messages.document(
            {"path": str(site.path), "wire_bytes": dict(site.wire_bytes), "timing": timing and asdict(timing)}
        )
        return
    for engine, size in site.wire_bytes.items():
        messages.say(f"first picture with {engine}: {messages.megabytes(size)} over the wire")
    if timing is not None:
        where = f"WebAssembly on one thread, in Node.js {timing.node} on this machine"
        messages.say(f"each picture: {timing.picture_ms:.0f} ms with {where}")
    messages.result(str(site.path))
    look = ("-m", "webbrowser") if single_file else ("-m", "http.server", "--directory")
    messages.say(f"next: {command('python3', *look, site.path)}")


def _time_picture(files: Files) -> Timing | None:
    from pahi_rt.export.web.timing import time_picture

    try:
        return time_picture(files)
    except RuntimeUnavailable as error:
        messages.note(f"the time for a picture was not measured: {error.what}", error.fix)
        return None
