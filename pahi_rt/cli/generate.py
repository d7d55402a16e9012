"""Verb `generate`: draw pictures of prompts."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    from pahi_rt.output import Recipe
    from pahi_rt.pipeline import Pipeline, Result

_LONGEST_ECHO = 60


def generate(
    prompts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT", help="What to draw.")] = None,
    count: Annotated[int | None, typer.Option("-n", "--count", help="Pictures of each prompt (1).")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first picture (random).")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps, 1 or 2 (1).")] = None,
    bundle: Annotated[
        str | None,
        NameOption(metavar="BUNDLE", help=f"Name, folder, .zip or hub:owner/name@rev ({DEFAULT})."),
    ] = None,
    prior: Annotated[str | None, typer.Option(help="hi, pahi or gaussian (the best that the bundle has).")] = None,
    prior_strength: Annotated[float | None, typer.Option(metavar="0..1", help="How much of the prior (1).")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, w16, w8, int8 or fp16 (the bundle's first).")] = None,
    runtime: Annotated[str, typer.Option(help="What runs the model (see `pahi-rt doctor`).")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Cores to use (all).")] = None,
    output: Annotated[str | None, typer.Option("-o", "--output", help="A .png file, a folder (here), or -.")] = None,
    grid: Annotated[bool, typer.Option("--grid", help="Write one file, with a row for each prompt.")] = False,
    file: Annotated[str | None, typer.Option("--prompts", help="File with a prompt on each line, or -.")] = None,
    like: Annotated[Path | None, PathOption(metavar="FILE", help="A PNG to draw again.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Show the pictures in the terminal.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files instead of numbering them.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw pictures of one or more prompts and write them as PNG files.

    Each file records how it was made, so that `pahi-rt generate --like FILE.png` draws it again.
    """
    from pahi_rt.output import Destination, check_amount

    wishes = Wishes(seed, count, steps, prior, prior_strength, precision)
    if like and (prompts or file or wishes != Wishes()):
        raise typer.BadParameter("--like brings its own prompts, seed, steps, count, prior and precision")
    is_piped = output == STANDARD_OUTPUT
    if is_piped and as_json:
        raise typer.BadParameter("--json and -o - both want standard output: leave one of them out")
    opened, recipe = repeat(like, bundle) if like else plan(read_prompts(prompts, file), wishes, bundle)
    is_grid = grid or (like is not None and recipe.pictures > 1)
    check_amount(recipe, opened.manifest.image if is_grid else None)
    place = (
        StandardOutput(1 if is_grid else recipe.pictures)
        if is_piped
        else Destination(None if output is None else expand(output), force=force)
    )
    pipeline, load_ms = load_pipeline(opened, recipe, runtime, threads)
    results = pipeline.stream(
        recipe.prompts, seed=recipe.seed, count=recipe.count, prior_strength=recipe.prior_strength
    )
    _name_unknown_words(opened, recipe.prompts)
    tell = None if as_json else messages.say if is_piped else messages.result
    first, pictures = None, []
    for written in (write_grid if is_grid else write_each)(each_ends_at_once(results), recipe, place):
        _present(written, tell, show=show)
        first = first or written.path
        pictures += written.describe() if as_json else []
    if as_json:
        messages.document(describe(pipeline, recipe, load_ms, pictures))
    _suggest(recipe, None if is_piped else first, bundle)


def read_prompts(prompts: Sequence[str] | None, file: str | None) -> list[str]:
    """The prompts of the command line, then those of the file. Raises PromptError."""
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

    opened = open_bundle(DEFAULT if bundle is None else bundle)
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
        fix = command("pahi-rt", "generate", "--like", like, "--bundle", "FOLDER")
        raise PahiError(f"{like} was drawn by bundle {recipe.bundle[:80]!r}, which is not built in", fix=fix)
    opened = open_bundle(recipe.bundle if bundle is None else bundle)
    if recipe.precision not in opened.precisions:
        drawn = str(recipe.precision)[:40]
        what = f"{like} was drawn in {drawn!r}, and bundle {opened.manifest.name!r} has no such graphs"
        raise PahiError(what, fix="draw its prompt anew, without --like, or name the bundle that drew it (--bundle)")
    sha256 = manifest_sha256(opened)
    if sha256 != recipe.bundle_sha256:
        messages.note(f"{like} was drawn by another bundle {recipe.bundle[:80]!r}; the picture may differ")
    return opened, replace(recipe, bundle=opened.manifest.name, bundle_sha256=sha256)


def load_pipeline(bundle: Bundle, recipe: Recipe, runtime: str, threads: int | None) -> tuple[Pipeline, float]:
    """The pipeline, and the milliseconds that loading took, imports included. Raises as `Pipeline.load` does."""
    started = time.perf_counter()
    from pahi_rt.pipeline import Pipeline

    with ends_at_once():
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
    from pahi_rt.bundle import file_record
    from pahi_rt.manifest import MANIFEST

    return file_record(bundle.path / MANIFEST).sha256


def _present(written: Written, tell: Callable[[str], None] | None, *, show: bool) -> None:
    _name_cut_prompts(written.results)
    if show:
        from pahi_rt.cli.show import show_picture

        show_picture(written.image)
    if tell is not None:
        tell(written.line)


def describe(pipeline: Pipeline, recipe: Recipe, load_ms: float, pictures: list[dict[str, Any]]) -> dict[str, Any]:
    """The run as one JSON document."""
    return {
        "version": recipe.version,
        "bundle": {"name": recipe.bundle, "sha256": recipe.bundle_sha256},
        "steps": recipe.steps,
        "prior": recipe.prior,
        "prior_strength": recipe.prior_strength,
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


def _name_cut_prompts(results: Sequence[Result]) -> None:
    for prompt in {result.prompt: None for result in results if result.truncated}:
        messages.note(f"the prompt {_short(prompt)!r} is longer than the model reads; its end was cut")


def _suggest(recipe: Recipe, path: Path | None, bundle: str | None) -> None:
    where = [] if bundle is None else ["--bundle", bundle]
    prompt = recipe.prompts[0]
    if recipe.pictures == 1 and len(prompt) <= _LONGEST_ECHO and not prompt.startswith("-"):
        messages.next_command("generate", prompt, "-n", "8", "--grid", *where)
    elif path is not None:
        messages.next_command("generate", "--like", str(path), *where)


def _short(prompt: str) -> str:
    return prompt if len(prompt) <= _LONGEST_ECHO else prompt[: _LONGEST_ECHO - 3] + "..."


def _milliseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000.0
