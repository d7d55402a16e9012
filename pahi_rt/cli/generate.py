"""Verb `generate`: draw pictures of prompts."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pahi_rt.cli import messages
from pahi_rt.cli.options import Debug, Json
from pahi_rt.errors import PahiError, PromptError

if TYPE_CHECKING:
    from PIL import Image

    from pahi_rt.bundle import Bundle
    from pahi_rt.output import Destination, Recipe
    from pahi_rt.pipeline import Pipeline, Result

_DEFAULT = "emoji"
_LONGEST_ECHO = 60


def generate(
    prompts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT", help="What to draw.")] = None,
    count: Annotated[int | None, typer.Option("-n", "--count", help="Pictures of each prompt (1).")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first picture (random).")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps, 1 or 2 (1).")] = None,
    bundle: Annotated[str | None, typer.Option(help=f"Name, folder, .zip or hub id ({_DEFAULT}).")] = None,
    prior: Annotated[str | None, typer.Option(help="hi, pahi or gaussian (the best that the bundle has).")] = None,
    prior_strength: Annotated[float | None, typer.Option(metavar="0..1", help="How much of the prior (1).")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, w16, w8, int8 or fp16 (the bundle's first).")] = None,
    runtime: Annotated[str, typer.Option(help="What runs the model (see `pahi-rt doctor`).")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Cores to use (all).")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A .png file or a folder (here).")] = None,
    grid: Annotated[bool, typer.Option("--grid", help="Write one file, with a row for each prompt.")] = False,
    file: Annotated[str | None, typer.Option("--prompts", help="File with a prompt on each line, or -.")] = None,
    like: Annotated[Path | None, typer.Option(help="A PNG of pahi-rt, to draw again.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Show the pictures in the terminal.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files instead of numbering them.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw pictures of one or more prompts and write them as PNG files.

    Each file records how it was made, so that `pahi-rt generate --like FILE.png` draws it again.
    """
    from pahi_rt.output import Destination

    wishes = Wishes(seed, count, steps, prior, prior_strength, precision)
    if like and (prompts or file or wishes != Wishes()):
        raise typer.BadParameter("--like brings its own prompts, seed, steps, count, prior and precision")
    opened, recipe = repeat(like, bundle) if like else plan(read_prompts(prompts, file), wishes, bundle)
    destination = Destination(output, force=force)
    pipeline, load_ms = load_pipeline(opened, recipe, runtime, threads)
    results = pipeline.stream(
        recipe.prompts, seed=recipe.seed, count=recipe.count, prior_strength=recipe.prior_strength
    )
    _name_unknown_words(opened, recipe.prompts)
    write = write_grid if grid or (like and recipe.pictures > 1) else write_each
    files = [_present(written, show=show, quiet=as_json) for written in write(results, recipe, destination)]
    if as_json:
        messages.document(describe(pipeline, recipe, load_ms, files))
    _suggest(recipe, files[0].path, bundle)


def read_prompts(prompts: Sequence[str] | None, file: str | None) -> list[str]:
    """The prompts of the command line, then those of the file. Raises PromptError."""
    if not prompts and file is None:
        raise typer.BadParameter("give a PROMPT, --prompts FILE or --like FILE.png")
    if prompts and len(prompts) > 1 and not any(" " in prompt for prompt in prompts):
        messages.note(f'{len(prompts)} prompts of one word each; quote a longer one, as in "a red apple"')
    return [*(prompts or []), *(_read_lines(file) if file is not None else [])]


def _read_lines(file: str) -> list[str]:
    name = "standard input" if file == "-" else file
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        lines = raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise PromptError(f"line {number} of {name} is not valid UTF-8", fix="convert it to UTF-8") from error
    except OSError as error:
        raise PromptError(f"{name} cannot be read: {error.strerror or error}", fix="check the path") from error
    prompts = [line.rstrip("\r") for line in lines if line.strip()]
    if not prompts:
        raise PromptError(f"{name} holds no prompts", fix="write one on each line")
    return prompts


@dataclass(frozen=True)
class Wishes:
    """What the command line says of the pictures; None where it says nothing."""

    seed: int | None = None
    count: int | None = None
    steps: int | None = None
    prior: str | None = None
    prior_strength: float | None = None
    precision: str | None = None


def plan(prompts: Sequence[str], wishes: Wishes, bundle: str | None) -> tuple[Bundle, Recipe]:
    """Open the bundle and settle what is to be drawn: a random seed below 2**32 where none is given."""
    from pahi_rt import __version__
    from pahi_rt.bundle import open_bundle
    from pahi_rt.output import Recipe
    from pahi_rt.prior import choose_prior, choose_strength

    opened = open_bundle(_DEFAULT if bundle is None else bundle)
    prior = choose_prior(opened, wishes.prior)
    return opened, Recipe(
        prompts=tuple(prompts),
        seed=secrets.randbelow(2**32) if wishes.seed is None else wishes.seed,
        count=1 if wishes.count is None else wishes.count,
        steps=1 if wishes.steps is None else wishes.steps,
        bundle=opened.manifest.name,
        bundle_sha256=manifest_sha256(opened),
        version=__version__,
        prior=prior,
        prior_strength=choose_strength(prior, wishes.prior_strength),
        precision=opened.choose_precision(wishes.precision),
    )


def repeat(like: Path, bundle: str | None) -> tuple[Bundle, Recipe]:
    """Read how a PNG was made and open its bundle, or the one that is named instead. Raises PahiError."""
    from pahi_rt.bundle import built_in, open_bundle
    from pahi_rt.output import read_recipe

    recipe = read_recipe(like)
    if bundle is None and recipe.bundle not in built_in():
        fix = f"pahi-rt generate --like {like} --bundle FOLDER"
        raise PahiError(f"{like} was drawn by bundle {recipe.bundle!r}, which is not built in", fix=fix)
    opened = open_bundle(recipe.bundle if bundle is None else bundle)
    if recipe.precision not in opened.precisions:
        what = f"{like} was drawn in {recipe.precision}, and bundle {opened.manifest.name!r} has no such graphs"
        raise PahiError(what, fix="draw its prompt anew, without --like, or name the bundle that drew it (--bundle)")
    sha256 = manifest_sha256(opened)
    if sha256 != recipe.bundle_sha256:
        messages.note(f"{like} was drawn by another bundle {recipe.bundle!r}; the picture may differ")
    return opened, replace(recipe, bundle=opened.manifest.name, bundle_sha256=sha256)


def load_pipeline(bundle: Bundle, recipe: Recipe, runtime: str, threads: int | None) -> tuple[Pipeline, float]:
    """The pipeline, and the milliseconds that loading took, imports included. Raises as `Pipeline.load` does."""
    started = time.perf_counter()
    from pahi_rt.pipeline import Pipeline

    pipeline = Pipeline.load(
        bundle,
        steps=recipe.steps,
        prior=recipe.prior,
        precision=recipe.precision,
        runtime=runtime,
        threads=threads,
    )
    return pipeline, _milliseconds_since(started)


def manifest_sha256(bundle: Bundle) -> str:
    """Of pahi.json, which holds the hash of every other file."""
    from pahi_rt.bundle import MANIFEST, file_record

    return file_record(bundle.path / MANIFEST).sha256


@dataclass(frozen=True)
class Written:
    """A file, and the pictures in it."""

    path: Path
    image: Image.Image
    results: Sequence[Result]
    size: int
    """Bytes."""
    encode_ms: float
    """Encoding it as PNG."""


def write_each(results: Iterable[Result], recipe: Recipe, destination: Destination) -> Iterator[Written]:
    """A file for each picture, written as soon as it is drawn. Raises OutputError."""
    from pahi_rt.output import slug

    for result in results:
        alone = replace(recipe, prompts=(result.prompt,), seed=result.seed, count=1)
        yield _write(result.image, [result], alone, destination, slug(result.prompt))


def write_grid(results: Iterable[Result], recipe: Recipe, destination: Destination) -> Iterator[Written]:
    """One file with a row for each prompt and a column for each seed. Raises OutputError."""
    from pahi_rt.output import contact_sheet, slug

    drawn = list(results)
    sheet = contact_sheet([result.image for result in drawn], recipe.count)
    yield _write(sheet, drawn, recipe, destination, slug(recipe.prompts[0]) + "-grid")


def _write(
    image: Image.Image, results: Sequence[Result], recipe: Recipe, destination: Destination, name: str
) -> Written:
    from pahi_rt.output import encode_png

    started = time.perf_counter()
    content = encode_png(image, recipe)
    encode_ms = _milliseconds_since(started)
    return Written(destination.save(content, name), image, results, len(content), encode_ms)


def _present(written: Written, *, show: bool, quiet: bool) -> Written:
    _name_cut_prompts(written.results)
    if show:
        from pahi_rt.cli.show import show_picture

        show_picture(written.image)
    if not quiet:
        messages.result(_line(written))
    return written


def _line(written: Written) -> str:
    total_ms = written.encode_ms + sum(result.tokenize_ms + result.run_ms for result in written.results)
    seeds = sorted({result.seed for result in written.results})
    listed = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    size = f"{written.image.width}x{written.image.height}, {messages.megabytes(written.size)}"
    return f"{written.path}  {size}, {total_ms:.0f} ms, {listed}"


def describe(pipeline: Pipeline, recipe: Recipe, load_ms: float, files: Iterable[Written]) -> dict[str, Any]:
    """The run as one JSON document; a picture in a grid has its share of the file's encode_ms."""
    return {
        "version": recipe.version,
        "bundle": {"name": recipe.bundle, "sha256": recipe.bundle_sha256},
        "steps": recipe.steps,
        "prior": recipe.prior,
        "prior_strength": recipe.prior_strength,
        "runtime": pipeline.runtime.describe(),
        "load_ms": load_ms,
        "pictures": [picture for written in files for picture in _describe_pictures(written)],
    }


def _describe_pictures(written: Written) -> list[dict[str, Any]]:
    return [
        {
            "path": str(written.path),
            "bytes": written.size,
            "prompt": result.prompt,
            "seed": result.seed,
            "width": result.image.width,
            "height": result.image.height,
            "truncated": result.truncated,
            "tokenize_ms": result.tokenize_ms,
            "run_ms": result.run_ms,
            "encode_ms": written.encode_ms / len(written.results),
        }
        for result in written.results
    ]


def _name_unknown_words(bundle: Bundle, prompts: Sequence[str]) -> None:
    from pahi_rt.vocabulary import Vocabulary

    vocabulary = Vocabulary.load(bundle)
    unknown = (
        {word: near for prompt in prompts for word, near in vocabulary.unknown(prompt).items()} if vocabulary else {}
    )
    for word, near in unknown.items():
        advice = f"try {', '.join(near)}" if near else f"see `pahi-rt bundles show {bundle.manifest.name}`"
        messages.note(f"{bundle.manifest.name} does not know {word[:_LONGEST_ECHO]!r}; {advice}")


def _name_cut_prompts(results: Sequence[Result]) -> None:
    for prompt in {result.prompt: None for result in results if result.truncated}:
        messages.note(f"the prompt {_short(prompt)!r} is longer than the model reads; its end was cut")


def _suggest(recipe: Recipe, path: Path, bundle: str | None) -> None:
    where = [] if bundle is None else ["--bundle", bundle]
    prompt = recipe.prompts[0]
    if recipe.pictures == 1 and len(prompt) <= _LONGEST_ECHO and not prompt.startswith("-"):
        messages.next_command("generate", prompt, "-n", "8", "--grid", *where)
    else:
        messages.next_command("generate", "--like", str(path), *where)


def _short(prompt: str) -> str:
    return prompt if len(prompt) <= _LONGEST_ECHO else prompt[: _LONGEST_ECHO - 3] + "..."


def _milliseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000.0
