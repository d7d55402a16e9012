"""Verb `export-scorer`: turn a preference scorer into a graph that needs no PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pahi_rt.cli import messages
from pahi_rt.cli.export import parse_size
from pahi_rt.cli.extras import needs
from pahi_rt.cli.options import Debug, Json, NameArgument, PathOption


def export_scorer(
    scorer: Annotated[
        str, NameArgument(metavar="SCORER", help="A kind, such as pickscore, or kind:PATH_OR_HUB_ID; as for `train`.")
    ],
    output: Annotated[Path, PathOption("-o", "--output", metavar="FOLDER", help="The folder to write.")],
    height: Annotated[
        int | None, typer.Option(min=1, help="Height of the pictures in pixels (default: the scorer's own, or 512).")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=1, help="Width of the pictures in pixels (default: the scorer's own, or 512).")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, or w16, which stores matrices in 16 bits.")] = "fp32",
    name: Annotated[str | None, typer.Option(help="Its name in bundles (default: its kind).")] = None,
    licence: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Licence of its weights (default: their model card's).")
    ] = None,
    opset: Annotated[int, typer.Option(help="ONNX operator set.")] = 20,
    force: Annotated[bool, typer.Option("--force", help="Replace an exported scorer.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a scorer as a graph from pictures and token ids to scores, and check it against PyTorch.

    `pahi-rt export --scorer FOLDER` puts it into a bundle.
    """
    with needs("train,export"):
        from pahi_rt.export.scorer import ScorerSettings, export_scorer
    settings = ScorerSettings(parse_size(height, width), precision, opset, name, licence)
    written = export_scorer(scorer, output, settings, overwrite=force, on_stage=messages.stage)
    if as_json:
        messages.document({"path": str(output), **written.to_dict()})
    else:
        messages.result(str(output))
    messages.next_command("export", "MODEL", "-o", "BUNDLE", "--scorer", str(output))
