"""Verb `generate`: draw pictures of prompts."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pahi_rt.assets import DEFAULT
from pahi_rt.cli import messages
from pahi_rt.cli.interrupts import each_ends_at_once, ends_at_once
from pahi_rt.cli.options import Debug, Json, NameOption, PathOption, expand
from pahi_rt.cli.written import STANDARD_OUTPUT, Place, StandardOutput, Written, write_each, write_grid
from pahi_rt.errors import PahiError, PromptError
from pahi_rt.terminal import command

if TYPE_CHECKING:
    from pahi_rt.choice import Chosen
    from pahi_rt.drawing import Drawing
    from pahi_rt.pipeline import Pipeline, Result
    from pahi_rt.vocabulary import Vocabulary

_LONGEST_ECHO = 60
"""Characters of a prompt that are repeated in a message."""


def generate(
    prompts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT...", help="What to draw.")] = None,
    count: Annotated[int | None, typer.Option("-n", "--count", help="Pictures of each prompt (default: 1).")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first picture (default: random).")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps that the bundle has, 1 to 4 (default: 1).")] = None,
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
    candidates: Annotated[
        int | None, typer.Option(min=1, help="Draw this many of each prompt, and keep the best (see --keep).")
    ] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="How many of the candidates to keep (default: 1).")] = None,
    scorer: Annotated[
        str | None, typer.Option(help="The bundle's scorer that chooses among candidates (default: its first).")
    ] = None,
    runtime: Annotated[str, typer.Option(help="What runs the model; `pahi-rt doctor` lists them all.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU cores to use (default: all).")] = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="A .png file, a folder, or - for standard output (default: this folder)."),
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="Write all pictures to one file.")] = False,
    file: Annotated[
        str | None, typer.Option("--prompts", help="A file with a prompt on each line, or - for standard input.")
    ] = None,
    like: Annotated[Path | None, PathOption(metavar="FILE", help="A PNG of `pahi-rt generate` to draw again.")] = None,
    literal: Annotated[
        bool, typer.Option("--literal", help="Leave unknown words as they are, not replaced by the nearest known ones.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Show the pictures in the terminal.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files instead of numbering them.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw pictures of one or more prompts and write them as PNG files.

    Each file records how it was made, so that `pahi-rt generate --like FILE.png` draws it again.
    """
    from pahi_rt.output import check_amount
    from pahi_rt.vocabulary import Vocabulary

    given = (seed, count, steps, prior, prior_strength, precision, candidates, keep, scorer)
    if like and (prompts or file or any(value is not None for value in given)):
        raise typer.BadParameter("--like brings its own prompts, seed, steps, count, prior, precision and choice")
    if scorer is not None and candidates is None:
        raise typer.BadParameter("--scorer chooses among candidates: add --candidates")
    is_piped = output == STANDARD_OUTPUT
    if is_piped and as_json:
        raise typer.BadParameter("--json and -o - both want standard output: leave one of them out")
    if like:
        drawing, chosen = repeat_drawing(like, bundle, runtime, threads)
        vocabulary = Vocabulary.load(chosen.bundle)
    else:
        texts = read_prompts(prompts, file)
        expected = len(texts) * max(1, candidates or count or 1)
        chosen = choose_graph(bundle, steps, runtime, threads, prior, precision, expected)
        vocabulary = Vocabulary.load(chosen.bundle)
        known = texts if literal else in_known_words(texts, vocabulary, chosen.bundle.manifest.name)
        drawing = new_drawing(known, chosen, seed, count, prior_strength)
        drawing = with_choice(drawing, chosen, count, candidates, keep, scorer)
    is_grid = grid or (like is not None and drawing.pictures > 1)
    check_amount(drawing, chosen.bundle.manifest.image if is_grid else None)
    place = open_place(output, 1 if is_grid else drawing.pictures, force)
    pipeline, load_ms = load_pipeline(chosen, drawing.choice.scorer if drawing.choice else None)
    results = draw(pipeline, drawing)
    _name_unknown_words(drawing, vocabulary)
    tell = None if as_json else messages.say if is_piped else messages.result
    first, pictures, taken_ms = None, [], []
    for written in (write_grid if is_grid else write_each)(each_ends_at_once(results), drawing, place):
        _present(written, tell, show=show)
        first = first or written.path
        pictures += written.describe() if as_json else []
        taken_ms += [result.run_ms for result in written.results]
    if drawing.choice is None:  # otherwise a picture's time has other candidates and scores in it
        _remember(pipeline, chosen, [load_ms, *taken_ms])
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


def choose_graph(
    bundle: str | None,
    steps: int | None,
    runtime: str,
    threads: int | None,
    prior: str | None,
    precision: str | None,
    pictures: int,
) -> Chosen:
    """Open the bundle and choose what to draw so many pictures with; None is the default. Raises BundleError."""
    from pahi_rt.bundle import open_bundle
    from pahi_rt.choice import choose

    opened = open_bundle(DEFAULT if bundle is None else bundle)
    steps = 1 if steps is None else steps
    return choose(
        opened, steps=steps, runtime=runtime, threads=threads, prior=prior, precision=precision, pictures=pictures
    )


def new_drawing(
    prompts: Sequence[str], chosen: Chosen, seed: int | None, count: int | None, prior_strength: float | None
) -> Drawing:
    """Fill in the defaults for None. The default seed is random, below 2**32. Raises RequestError."""
    from pahi_rt import __version__
    from pahi_rt.drawing import Drawing
    from pahi_rt.prior import choose_strength

    return Drawing(
        prompts=tuple(prompts),
        seed=secrets.randbelow(2**32) if seed is None else seed,
        count=1 if count is None else count,
        steps=chosen.graph.steps,
        bundle=chosen.bundle.manifest.name,
        bundle_sha256=chosen.bundle.sha256,
        version=__version__,
        prior=chosen.prior,
        prior_strength=choose_strength(chosen.prior, prior_strength),
        precision=chosen.graph.precision,
    )


def repeat_drawing(like: Path, bundle: str | None, runtime: str, threads: int | None) -> tuple[Drawing, Chosen]:
    """Read how a PNG was drawn, and choose the same in its bundle, or in `bundle` instead. Raises PahiError."""
    from pahi_rt.bundle import open_bundle
    from pahi_rt.choice import choose
    from pahi_rt.drawing import read_drawing
    from pahi_rt.locations import built_in

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
    chosen = choose(
        opened,
        steps=drawing.steps,
        runtime=runtime,
        threads=threads,
        prior=drawing.prior,
        precision=drawing.precision,
        pictures=drawing.pictures,
    )
    return replace(drawing, bundle=opened.manifest.name, bundle_sha256=sha256), chosen


def open_place(output: str | None, files: int, force: bool) -> Place:
    """Where `--output` wants this many files to go. Raises OutputError."""
    from pahi_rt.output import Destination

    if output == STANDARD_OUTPUT:
        return StandardOutput(files)
    return Destination(None if output is None else expand(output), force=force)


def with_choice(
    drawing: Drawing,
    chosen: Chosen,
    count: int | None,
    candidates: int | None,
    keep: int | None,
    scorer: str | None,
) -> Drawing:
    """The drawing with what was asked for of candidates. Raises RequestError, BundleError."""
    from pahi_rt.drawing import Choice
    from pahi_rt.judge import check_candidates

    kept = check_candidates(1 if count is None else count, candidates, keep)
    if candidates is None:
        return drawing
    name = chosen.bundle.choose_scorer(scorer)
    return replace(drawing, count=kept, choice=Choice(name, candidates, drawing.seed))


def draw(pipeline: Pipeline, drawing: Drawing) -> Iterator[Result]:
    """Draw the pictures. Those that were chosen before are drawn by their seeds. Raises as `Pipeline.stream` does."""
    choice, strength = drawing.choice, drawing.prior_strength
    if choice is None:
        return pipeline.stream(drawing.prompts, seed=drawing.seed, count=drawing.count, prior_strength=strength)
    if not choice.seeds:
        return pipeline.stream(
            drawing.prompts,
            seed=drawing.seed,
            prior_strength=strength,
            candidates=choice.candidates,
            keep=drawing.count,
        )
    kept = zip(choice.seeds, choice.scores, strict=True)
    again = (
        (pipeline.stream([drawing.prompts[index // drawing.count]], seed=seed, prior_strength=strength), score)
        for index, (seed, score) in enumerate(kept)
    )
    return (replace(result, score=score) for results, score in again for result in results)


def load_pipeline(chosen: Chosen, scorer: str | None = None) -> tuple[Pipeline, float]:
    """Load what was chosen. Returns the milliseconds that it took too, with imports. Raises as `Pipeline.open` does."""
    started = time.perf_counter()
    from pahi_rt.pipeline import Pipeline

    with ends_at_once():
        pipeline = Pipeline.open(chosen, scorer=scorer)
    return pipeline, (time.perf_counter() - started) * 1000.0


def _remember(pipeline: Pipeline, chosen: Chosen, taken_ms: Sequence[float]) -> None:
    """Remember how long loading, the first picture and the others took, for the next choice of a runtime."""
    from pahi_rt.runtimes.costs import Measured, remember

    load_s, first_s, *others_s = (value / 1000 for value in taken_ms)
    found = Measured(load_s, first_s, min(others_s, default=None))
    remember(chosen, str(pipeline.runtime.describe()["runtime"]), found)


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
        **_describe_choice(drawing),
        "runtime": pipeline.runtime.describe(),
        "load_ms": load_ms,
        "pictures": pictures,
    }


def _describe_choice(drawing: Drawing) -> dict[str, Any]:
    choice = drawing.choice
    return {} if choice is None else {"scorer": choice.scorer, "candidates": choice.candidates, "keep": drawing.count}


def in_known_words(prompts: Sequence[str], vocabulary: Vocabulary | None, bundle: str) -> list[str]:
    """The prompts with the nearest words that the bundle knows, where a prompt names nothing that it draws; says so."""
    if vocabulary is None:
        return list(prompts)
    known = [vocabulary.in_known_words(prompt) for prompt in prompts]
    for prompt, nearest in dict(zip(prompts, known, strict=True)).items():
        if nearest != prompt:
            asked, drawn = prompt[:_LONGEST_ECHO], nearest[:_LONGEST_ECHO]
            messages.note(f"{bundle} does not know {asked!r}; drawing {drawn!r}, the nearest that it knows")
    return known


def _name_unknown_words(drawing: Drawing, vocabulary: Vocabulary | None) -> None:
    unknown = (
        {word: near for prompt in drawing.prompts for word, near in vocabulary.unknown(prompt).items()}
        if vocabulary
        else {}
    )
    for word, near in unknown.items():
        advice = f"try {', '.join(near)}" if near else f"see `{command('pahi-rt', 'bundles', 'show', drawing.bundle)}`"
        messages.note(f"{drawing.bundle} does not know {word[:_LONGEST_ECHO]!r}; {advice}")


def _suggest(drawing: Drawing, path: Path | None, bundle: str | None) -> None:
    where = [] if bundle is None else ["--bundle", bundle]
    prompt = drawing.prompts[0]
    if drawing.pictures == 1 and len(prompt) <= _LONGEST_ECHO and not prompt.startswith("-"):
        messages.next_command("generate", prompt, "-n", "8", "--grid", *where)
    elif path is not None:
        messages.next_command("generate", "--like", str(path), *where)
