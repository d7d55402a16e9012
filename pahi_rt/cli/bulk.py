"""Verb `bulk`: pictures of every row of an input, each exactly once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pahi_rt.assets import DEFAULT
from pahi_rt.cli import messages
from pahi_rt.cli.bulk_progress import BulkProgress
from pahi_rt.cli.extras import needs
from pahi_rt.cli.group import Group
from pahi_rt.cli.interrupts import ends_at_once
from pahi_rt.cli.options import Debug, Json, NameArgument, NameOption
from pahi_rt.cli.train import INTERRUPTED
from pahi_rt.errors import RunError

if TYPE_CHECKING:
    from pahi_rt.bulk.crew import Crew, Job
    from pahi_rt.bulk.job import Outcome
    from pahi_rt.bulk.prompt_files import File
    from pahi_rt.bulk.record import RunRecord
    from pahi_rt.bulk.settings import Settings
    from pahi_rt.bulk.store import Store
    from pahi_rt.pipeline import Pipeline


class _RunByDefault(Group):
    """`pahi-rt bulk PROMPTS OUT` is `pahi-rt bulk run PROMPTS OUT`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if args and args[0] in self.commands else ["run", *args])


app = typer.Typer(name="bulk", cls=_RunByDefault, help="Draw pictures of every row of an input, each exactly once.")

Output = Annotated[str, NameArgument(metavar="OUT", help="The folder of the pictures, or its URL.")]


@app.command(epilog="`pahi-rt bulk verify OUT -k 100` draws some of the pictures again, and compares.")
def run(
    prompts: Annotated[
        str,
        NameArgument(metavar="PROMPTS", help="A text, CSV, TSV, JSONL or Parquet file, a folder, a pattern, or a URL."),
    ],
    output: Output,
    caption_col: Annotated[
        str | None, typer.Option(help="Column of prompts (default: prompt, caption or text).")
    ] = None,
    id_col: Annotated[str | None, typer.Option(help="Column of ids (default: FILE:ROW).")] = None,
    seed_col: Annotated[
        str | None, typer.Option(help="Column of seeds (default: made from --seed and the id).")
    ] = None,
    save_additional_columns: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="Columns to copy into the output.")
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Pictures of each row.")] = 1,
    seed: Annotated[
        int, typer.Option(min=0, max=2**64 - 1, help="Seed of the run, from which those of the rows are made.")
    ] = 0,
    candidates: Annotated[
        int | None, typer.Option(min=1, help="Draw this many of each row, and keep the best (see --keep).")
    ] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="How many of the candidates to keep (default: 1).")] = None,
    scorer: Annotated[
        str | None, typer.Option(help="The bundle's scorer that chooses among candidates (default: its first).")
    ] = None,
    bundle: Annotated[str, NameOption(metavar="BUNDLE", help="Name, folder, .zip or hub:owner/name@rev.")] = DEFAULT,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 1,
    prior: Annotated[str | None, typer.Option(help="hi, pahi or gaussian (default: the bundle's best).")] = None,
    prior_strength: Annotated[
        float | None, typer.Option(metavar="0..1", help="How much of the prior to apply (default: 1).")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="Precision (default: the bundle's first).")] = None,
    runtime: Annotated[str, typer.Option(help="What runs the model; `pahi-rt doctor` lists them all.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures drawn at once; on a CPU 1 is as fast.")] = 1,
    output_format: Annotated[
        Literal["files", "webdataset", "parquet"], typer.Option(help="How pictures are written.")
    ] = "files",
    encode_format: Annotated[
        Literal["png", "webp", "jpeg"], typer.Option(help="What a picture is written as.")
    ] = "png",
    encode_quality: Annotated[
        int | None, typer.Option(metavar="1..100", help="Of webp (default: lossless) or jpeg (default: 95).")
    ] = None,
    number_sample_per_shard: Annotated[
        int, typer.Option(min=1, help="Pictures in a shard, which is whole or absent.")
    ] = 1000,
    incremental_mode: Annotated[
        Literal["incremental", "overwrite", "extend"],
        typer.Option(help="Go on with OUT, begin it again, or add another input to it."),
    ] = "incremental",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Draw again what failed, where it was mended.")
    ] = False,
    distributor: Annotated[Literal["local", "ray"], typer.Option(help="Where the workers are.")] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="The Ray cluster (default: the one this runs in, or a new one)."),
    ] = None,
    processes_count: Annotated[int | None, typer.Option(min=1, help="Workers (default: as many as fit).")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU cores of each worker.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print events, each one line of JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Draw pictures of every row of PROMPTS into OUT, in shards that are whole or absent.

    Given again, the same command goes on where it was stopped or killed. A row's seed comes from its own id, so that
    any number of workers and any size of shards draw the same pictures.
    """
    from pahi_rt.choice import MANY
    from pahi_rt.cli.generate import choose_graph

    with needs("bulk"):
        from pahi_rt.bulk.job import Run
        from pahi_rt.bulk.seeds import SEED_RULE
        from pahi_rt.bulk.settings import Settings
        from pahi_rt.bulk.store import open_store
    from pahi_rt.judge import check_candidates
    from pahi_rt.prior import choose_strength

    if scorer is not None and candidates is None:
        raise typer.BadParameter("--scorer chooses among candidates: add --candidates")
    kept = check_candidates(count, candidates, keep)
    chosen = choose_graph(bundle, steps, runtime, threads, prior, precision, MANY)
    settings = Settings(
        bundle_sha256=chosen.bundle.sha256,
        steps=steps,
        prior=chosen.prior,
        prior_strength=choose_strength(chosen.prior, prior_strength),
        precision=chosen.graph.precision,
        seed=seed,
        seed_rule=SEED_RULE,
        count=kept,
        batch_size=batch_size,
        output_format=output_format,
        encode_format=encode_format,
        encode_quality=encode_quality,
        number_sample_per_shard=number_sample_per_shard,
        caption_col=caption_col,
        id_col=id_col,
        seed_col=seed_col,
        save_additional_columns=tuple(filter(None, (save_additional_columns or "").split(","))),
        candidates=candidates,
        scorer=None if candidates is None else chosen.bundle.choose_scorer(scorer),
    )
    store = open_store(output)
    files, job = open_input(prompts, settings, bundle, runtime, threads, store)
    make_crew = partial(open_crew, job, distributor, ray_address, processes_count)
    progress = BulkProgress(kept, as_json=as_json)
    try:
        outcome = Run(files, store, job, incremental_mode, retry_failed).finish(make_crew, progress)
    except KeyboardInterrupt:
        progress.clear()
        _tell_how_to_go_on(progress, as_json)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        progress.clear()
    _present(outcome, progress, store, as_json)


def open_input(
    prompts: str, settings: Settings, bundle: str, runtime: str, threads: int, store: Store
) -> tuple[list[File], Job]:
    """The files of the input, and what every worker is given. Raises PahiError."""
    from pahi_rt.bulk.crew import Job
    from pahi_rt.bulk.job import columns_of
    from pahi_rt.bulk.prompt_files import find_files
    from pahi_rt.bulk.settings import check_settings
    from pahi_rt.bulk.sources import additional_types

    check_settings(settings)
    files = find_files(prompts, store.url)
    place = Path(bundle)
    named = str(place.absolute()) if place.exists() else bundle
    additional = additional_types(files, columns_of(settings))
    return files, Job(named, runtime, threads, store.url, settings, additional)


def open_crew(job: Job, distributor: str, ray_address: str | None, processes: int | None) -> Crew:
    """The workers. Raises PahiError."""
    if distributor == "ray":
        with needs("bulk-ray"):
            from pahi_rt.bulk.on_ray import RayCrew
        return RayCrew(job, ray_address, processes)
    from pahi_rt.bulk.local import LocalCrew

    return LocalCrew(job, processes)


def _tell_how_to_go_on(progress: BulkProgress, as_json: bool) -> None:
    counts = progress.counts
    if as_json:
        progress.end(reason="interrupted", shards=counts.shards)
        return
    messages.note(f"stopped with {messages.counted(counts.shards, 'whole shard')}; this command goes on from there")
    messages.next_command(*_without_overwrite(sys.argv[1:]))


def _without_overwrite(words: Sequence[str]) -> list[str]:
    """The words of a command without the option that begins again."""
    name, mode = pair = ("--incremental-mode", "overwrite")
    around = zip(["", *words], words, [*words[1:], ""], strict=False)
    kept = [(before, word, after) for before, word, after in around if word != f"{name}={mode}"]
    return [word for before, word, after in kept if pair not in ((before, word), (word, after))]


def _present(outcome: Outcome, progress: BulkProgress, store: Store, as_json: bool) -> None:
    facts = {"shards": outcome.shards, "successes": outcome.successes, "failed": outcome.failed}
    if as_json:
        progress.end(reason="finished", output=store.url, **facts)
        return
    failed = f", {outcome.failed} failed" if outcome.failed else ""
    pictures, shards = messages.counted(outcome.successes, "picture"), messages.counted(outcome.shards, "shard")
    messages.result(f"{store.url}  {pictures} in {shards}{failed}")
    if outcome.failed:
        messages.note("NNNNN_stats.json says which rows failed and why", "mend them, and add --retry-failed")
    messages.next_command("bulk", "verify", store.url)


@app.command()
def verify(
    output: Output,
    k: Annotated[int, typer.Option("-k", min=1, help="Pictures that are drawn again.")] = 100,
    bundle: Annotated[str | None, NameOption(metavar="BUNDLE", help="The bundle, if it has moved since.")] = None,
    runtime: Annotated[str | None, typer.Option(help="What runs the model (default: what drew them).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of pictures.")] = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check that OUT is complete, and that pictures of it, chosen at random, are what its record draws."""
    with needs("bulk"):
        from pahi_rt.bulk.record import read
        from pahi_rt.bulk.store import ANEW, open_store
        from pahi_rt.bulk.verify import check_complete, check_pictures, choose_pictures

    store = open_store(output)
    record = read(store)
    done = check_complete(store, record)
    pipeline = open_verifier(record, bundle, runtime)
    chosen = choose_pictures(done, k, seed)
    verdicts: Counter[str] = Counter()
    bad = []
    for one in check_pictures(store, record.settings, pipeline, chosen):
        verdicts[one.verdict] += 1
        if one.verdict in ("different", "damaged"):
            bad.append(one)
            messages.say(f"shard {one.shard}, {one.key}: {one.verdict}")
    if as_json:
        failed = [{"shard": one.shard, "key": one.key, "verdict": one.verdict} for one in bad]
        messages.document({"shards": len(done), "pictures": len(chosen), "verdicts": dict(verdicts), "failed": failed})
    else:
        told = ", ".join(f"{number} {verdict}" for verdict, number in sorted(verdicts.items())) or "none to draw"
        again = messages.counted(len(chosen), "picture")
        messages.result(f"{store.url}  {messages.counted(len(done), 'whole shard')}; of {again} drawn again: {told}")
    if bad:
        raise RunError(f"{len(bad)} of {len(chosen)} pictures are not what the record draws", fix=ANEW)


def open_verifier(record: RunRecord, bundle: str | None, runtime: str | None) -> Pipeline:
    """What draws a run's pictures again: its own bundle, on the runtime that drew them unless another is named.

    Raises PahiError.
    """
    from pahi_rt.bulk.crew import Job, open_pipeline

    name = runtime or (record.maker.runtime if record.maker else "auto")
    with ends_at_once():
        return open_pipeline(Job(bundle or record.bundle, name, None, "", record.settings, {}))
