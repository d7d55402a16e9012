"""Verb `embed`: prepare a bundle for programs that are not Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pahi_rt.cli import messages
from pahi_rt.cli.options import BundleName, Debug, Json, PathOption

app = typer.Typer(name="embed", help="Prepare a bundle for another program.")


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
