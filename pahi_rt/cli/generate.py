"""Verb `generate`: draw pictures of prompts."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pahi_rt.assets import DEFAULT
from pahi_rt.cli import messages
from pahi_rt.cli.interrupts import each_ends_at_once, ends_at_once
from pahi_rt.cli.options import Debug, Json, NameOption, PathOption, expand
from pahi_rt.cli.written import STANDARD_OUTPUT, StandardOutput, Written, write_each, write_grid
from pahi_rt.errors import PahiError, PromptError
from pahi_rt.terminal import command

if TYPE_CHECKING:
    from pahi_rt.bundle import Bundle
    from pahi_rt.drawing import Drawing
    from pahi_rt.pipeline import Pipeline

_LONGEST_ECHO = 60
"""Characters of a prompt that are repeated in a message."""


def generate(
    prompts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT", help="What to draw.")] = None,
    count: Annotated[int | None, typer.Option("-n", "--count", help="Pictures of each prompt (default: 1).")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first picture (default: random).")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps, 1 or 2 (default: 1).")] = None,
    bundle: Annotated[
        str | None,
        NameOption(metavar="BUNDLE", help=f"Name, folder, .zip or hub:owner/name@rev (default: {DEFAULT})."),
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(help="Prior of the noise: hi, pahi or gaussian (default: pahi, else hi, else gaussian)."),
    ] = None,
    prior_strength: Annotated[
        float | None,
        typer.Option(metavar="0..1", help="How much of the prior to apply (default: 1)."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Precision: fp32, w16, w8, int8 or fp16 (default: the bundle's first)."),
    ] = None,
    runtime: Annotated[str, typer.Option(help="What runs the model; `pahi-rt doctor` lists them all.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU cores to use (default: all).")] = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="A .png file, a folder, or - for standard output (default: this folder)."),
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="Write one file, with a row for each prompt.")] = False,
    file: Annotated[
        str | None, typer.Option("--prompts", help="A file with a prompt on each line, or - for standard input.")
    ] = None,
    like: Annotated[Path | None, PathOption(metavar="FILE", help="A PNG of `pahi-rt generate` to draw again.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Show the pictures in the terminal.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files instead of numbering them.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw pictures of one or more prompts and write them as PNG files.

    Each file records how it was made, so that `pahi-rt generate --like FILE.png` draws it again.
    """
    from pahi_rt.output import Destination, check_amount

    chosen = (seed, count, steps, prior, prior_strength, precision)
    if like and (prompts or file or any(value is not None for value in chosen)):
        raise typer.BadParameter("--like brings its own prompts, seed, steps, count, prior and precision")
    is_piped = output == STANDARD_OUTPUT
    if is_piped and as_json:
        raise typer.BadParameter("--json and -o - both want standard output: leave one of them out")
    if like:
        opened, drawing = repeat_drawing(like, bundle)
    else:
        opened, drawing = new_drawing(
            read_prompts(prompts, file),
            bundle,
            seed=seed,
            count=count,
            steps=steps,
            prior=prior,
            prior_strength=prior_strength,
            precision=precision,
        )
    is_grid = grid or (like is not None and drawing.pictures > 1)
    check_amount(drawing, opened.manifest.image if is_grid else None)
    place = (
        StandardOutput(1 if is_grid else drawing.pictures)
        if is_piped
        else Destination(None if output is None else expand(output), force=force)
    )
    pipeline, load_ms = load_pipeline(opened, drawing, runtime, threads)
    results = pipeline.stream(
        drawing.prompts, seed=drawing.seed, count=drawing.count, prior_strength=drawing.prior_strength
    )
    _name_unknown_words(opened, drawing.prompts)
    tell = None if as_json else messages.say if is_piped else messages.result
    first, pictures = None, []
    for written in (write_grid if is_grid else write_each)(each_ends_at_once(results), drawing, place):
        _present(written, tell, show=show)
        first = first or written.path
        pictures += written.describe() if as_json else []
    if as_json:
        messages.document(describe(pipeline, drawing, load_ms, pictures))
    _suggest(drawing, None if is_piped else first, bundle)


def read_prompts(prompts: Sequence[str] | None, file: str | None) -> list[str]:
    """The prompts of the command line, then those of the file ("-": standard input). Raises PromptError."""
    if not prompts and file is None:
        raise typer.BadParameter("give a PROMPT, --prompts FILE or --like FILE.png")
    if prompts and len(prompts) > 1 and not any(" " in prompt for prompt in prompts):
        messages.note(f'{len(prompts)} prompts of one word each; quote a longer one, as in "a red apple"')
    return [*(prompts or []), *(_read_lines(file) if file is not None else [])]


def _read_lines(file: str) -> list[str]:
    from pahi_rt.tokenizer import split_lines

    name = "standard input" if file == "-" else file
    try:
        raw = sys.stdin.buffer.read() if file == "-" else expand(file).read_bytes()
        lines = split_lines(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        number = len(split_lines(error.object[: error.start].decode("latin-1")))
        raise PromptError(f"line {number} of {name} is not valid UTF-8", fix="convert it to UTF-8") from error
    except OSError as error:
        raise PromptError(f"{name} cannot be read: {error.strerror or error}", fix="check the path") from error
    prompts = [line for line in lines if line.strip()]
    if not prompts:
        raise PromptError(f"{name} holds no prompts", fix="write one on each line")
    return prompts


def new_drawing(
    prompts: Sequence[str],
    bundle: str | None,
    *,
    seed: int | None,
    count: int | None,
    steps: int | None,
    prior: str | None,
    prior_strength: float | None,
    precision: str | None,
) -> tuple[Bundle, Drawing]:
    """Open the bundle, and fill in the defaults for None. The default seed is random, below 2**32. Raises PahiError."""
    from pahi_rt import __version__
    from pahi_rt.bundle import open_bundle
    from pahi_rt.drawing import Drawing
    from pahi_rt.prior import choose_prior, choose_strength

    opened = open_bundle(DEFAULT if bundle is None else bundle)
    prior = choose_prior(opened, prior)
    return opened, Drawing(
        prompts=tuple(prompts),
        seed=secrets.randbelow(2**32) if seed is None else seed,
        count=1 if count is None else count,
        steps=1 if steps is None else steps,
        bundle=opened.manifest.name,
        bundle_sha256=opened.sha256,
        version=__version__,
        prior=prior,
        prior_strength=choose_strength(prior, prior_strength),
        precision=opened.choose_precision(precision),
    )


def repeat_drawing(like: Path, bundle: str | None) -> tuple[Bundle, Drawing]:
    """Read how a PNG was drawn, and open its bundle, or `bundle` instead. Raises PahiError."""
    from pahi_rt.bundle import open_bundle
    from pahi_rt.drawing import read_drawing
    from pahi_rt.sources import built_in

    drawing = read_drawing(like)
    if bundle is None and drawing.bundle not in built_in():
        fix = command("pahi-rt", "generate", "--like", like, "--bundle", "FOLDER")
        raise PahiError(f"{like} was drawn by bundle {drawing.bundle[:80]!r}, which is not built in", fix=fix)
    opened = open_bundle(drawing.bundle if bundle is None else bundle)
    if drawing.precision not in opened.precisions:
        drawn = str(drawing.precision)[:40]
        what = f"{like} was drawn in {drawn!r}, and bundle {opened.manifest.name!r} has no such graphs"
        raise PahiError(what, fix="draw its prompt anew, without --like, or name the bundle that drew it (--bundle)")
    sha256 = opened.sha256
    if sha256 != drawing.bundle_sha256:
        messages.note(f"{like} was drawn by another bundle {drawing.bundle[:80]!r}; the picture may differ")
    return opened, replace(drawing, bundle=opened.manifest.name, bundle_sha256=sha256)


def load_pipeline(bundle: Bundle, drawing: Drawing, runtime: str, threads: int | None) -> tuple[Pipeline, float]:
    """Load the pipeline. Also returns the milliseconds that it took, with imports. Raises as `Pipeline.load` does."""
    started = time.perf_counter()
    from pahi_rt.pipeline import Pipeline

    with ends_at_once():
        pipeline = Pipeline.load(
            bundle,
            steps=drawing.steps,
            prior=drawing.prior,
            precision=drawing.precision,
            runtime=runtime,
            threads=threads,
        )
    return pipeline, (time.perf_counter() - started) * 1000.0


def _present(written: Written, tell: Callable[[str], None] | None, *, show: bool) -> None:
    for prompt in {result.prompt: None for result in written.results if result.truncated}:
        short = prompt if len(prompt) <= _LONGEST_ECHO else prompt[: _LONGEST_ECHO - 3] + "..."
        messages.note(f"the prompt {short!r} is longer than the model reads; its end was cut")
    if show:
        from pahi_rt.cli.show import show_picture

        show_picture(written.image)
    if tell is not None:
        tell(written.line)


def describe(pipeline: Pipeline, drawing: Drawing, load_ms: float, pictures: list[dict[str, Any]]) -> dict[str, Any]:
    """The run as data for one JSON document."""
    return {
        "version": drawing.version,
        "bundle": {"name": drawing.bundle, "sha256": drawing.bundle_sha256},
        "steps": drawing.steps,
        "prior": drawing.prior,
        "prior_strength": drawing.prior_strength,
        "runtime": pipeline.runtime.describe(),
        "load_ms": load_ms,
        "pictures": pictures,
    }


def _name_unknown_words(bundle: Bundle, prompts: Sequence[str]) -> None:
    from pahi_rt.vocabulary import Vocabulary

    vocabulary = Vocabulary.load(bundle)
    unknown = (
        {word: near for prompt in prompts for word, near in vocabulary.unknown(prompt).items()} if vocabulary else {}
    )
    for word, near in unknown.items():
        advice = (
            f"try {', '.join(near)}" if near else f"see `{command('pahi-rt', 'bundles', 'show', bundle.manifest.name)}`"
        )
        messages.note(f"{bundle.manifest.name} does not know {word[:_LONGEST_ECHO]!r}; {advice}")


def _suggest(drawing: Drawing, path: Path | None, bundle: str | None) -> None:
    where = [] if bundle is None else ["--bundle", bundle]
    prompt = drawing.prompts[0]
    if drawing.pictures == 1 and len(prompt) <= _LONGEST_ECHO and not prompt.startswith("-"):
        messages.next_command("generate", prompt, "-n", "8", "--grid", *where)
    elif path is not None:
        messages.next_command("generate", "--like", str(path), *where)
