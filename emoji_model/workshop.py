"""The working folder of the recipe, and its stages."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from transformers import CLIPTokenizer

from emoji_model import (
    assessment,
    autoencoder,
    composition,
    decoder,
    encoded,
    generator,
    judge,
    package,
    pools,
    preferences,
    related,
    render,
    scorer,
    sketch,
    sources,
    targets,
    words,
)
from emoji_model import tokenizer as bpe
from emoji_model.captions import Captions
from emoji_model.painting import accessories
from emoji_model.sampler import Sampler
from emoji_model.scenes import Author
from emoji_model.subjects import Subjects
from emoji_model.trainer import Schedule, left_by, save_atomically, spawn, steps_done
from pahi_rt.models.generators import load_generator
from pahi_rt.models.priors import PRIORS as KINDS
from pahi_rt.models.priors import load_prior

POOLS = (1, 2, 3)
"""Seeds of the pools; both scorers learn from all of them. From two pools of 356 subjects emoji-b learned 99 % of its
pairs of samples, and was right on 88 % of those of the test; a third pool brought 90 %."""


class Workshop:
    """A working folder, with one method for each stage."""

    def __init__(self, folder: Path, workers: int, seed: int, steps: int | None) -> None:
        self.folder, self.workers, self.seed, self.steps = folder, workers, seed, steps

    def concepts(self) -> list[sources.Concept]:
        """The concepts of concepts.txt, from the npm packages."""
        return sources.load_concepts(self.folder / "data" / "packages")

    def author(self) -> Author:
        """Who writes captions of these concepts, alone and composed."""
        return Author(Captions(self.concepts()))

    def pictures(self) -> torch.Tensor:
        """uint8 [concepts, styles, 4, 128, 128]."""
        return torch.load(left_by("data", self.folder / "data" / "pictures.pt"), weights_only=True)

    def data(self) -> None:
        """Leaves pictures.pt, every concept in every style, in `data/`."""
        path = self.folder / "data" / "pictures.pt"
        if not path.exists():
            save_atomically(render.render_all(self.concepts()), path)
        print(f"data: {len(self.pictures())} concepts x {len(sources.STYLES)} styles in {path}")

    def tokenizer(self) -> None:
        """Leaves the tokenizer in transformers' format in `tokenizer/`."""
        folder = self.folder / "tokenizer"
        if not folder.exists():
            author, rng = self.author(), random.Random(self.seed)
            kinds = [(c, s) for c in range(len(author.concepts)) for s in (None, *sources.STYLES)]
            plain = (author.captions.draw(*kind, rng).text for kind in kinds * 60)
            composed = (author.caption(author.draw(rng), rng) for _ in range(60_000))
            bpe.train(chain(plain, composed), folder)
        print(f"tokenizer: {len(bpe.load(folder))} entries in {folder}")

    def autoencoder(self) -> None:
        """Leaves checkpoint.pt in `autoencoder/`."""
        self._train(autoencoder.train, "autoencoder", autoencoder.SCHEDULE, lambda: (self.pictures().flatten(0, 1),))

    def scenes(self) -> None:
        """Leaves encoded.pt in `scenes/`."""
        path, count = self.folder / "scenes" / "encoded.pt", self.steps or encoded.SCENES
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            made = self.author(), self.pictures(), self._vae(), bpe.load(self.folder / "tokenizer")
            spawn(encoded.make, self.workers, self.seed, path, *made, count)
            encoded.join(path, self.workers)
        print(f"scenes: {len(encoded.load(path))} in {path}")

    def sketch(self) -> None:
        """Leaves checkpoint.pt in `sketch/`."""
        self._train(sketch.train, "sketch", sketch.SCHEDULE, lambda: (self._sampler(), self._vae()))

    def memory(self) -> None:
        """Leaves checkpoint.pt in `memory/`."""
        self._train(words.train_memory, "memory", words.MEMORY, lambda: (self._sampler(),), after="sketch")

    def words(self) -> None:
        """Leaves checkpoint.pt in `words/`."""
        self._train(words.train_words, "words", words.WORDS, lambda: (self._sampler(),), after="memory")

    def generator(self) -> None:
        """Leaves checkpoint.pt in `generator/`."""
        self._train(
            generator.train, "generator", generator.SCHEDULE, lambda: (self._sampler(), self._vae()), after="words"
        )

    def _vae(self) -> AutoencoderTiny:
        return autoencoder.load(self.folder / "autoencoder")

    def _sampler(self) -> Sampler:
        """Draws from all targets and scenes; the targets of plain captions are made on first use."""
        scenes = encoded.load(left_by("scenes", self.folder / "scenes" / "encoded.pt"))
        path, tokenizer = self.folder / "scenes" / "targets.pt", bpe.load(self.folder / "tokenizer")
        if not path.exists():
            made = targets.make(self._vae(), self.pictures(), self.seed)
            targets.save(list(_counted(made, len(self.concepts()))), path)
        return Sampler(targets.load(path), scenes, Captions(self.concepts()), tokenizer)

    def decoder(self) -> None:
        """Leaves checkpoint.pt in `decoder/`."""
        self._train(
            decoder.train,
            "decoder",
            decoder.SCHEDULE,
            lambda: (self._vae(), self.author(), self.pictures(), bpe.load(self.folder / "tokenizer")),
            after="generator",
        )

    def judge(self) -> None:
        """Leaves checkpoint.pt in `judge/`."""
        self._train(judge.train, "judge", judge.SCHEDULE, lambda: (self.author(), self.pictures()))

    def package(self) -> None:
        """Leaves the diffusers folder in `pahi-emoji/`, and emoji-generator.json, emoji-composition.png and
        vocabulary.json beside it."""
        tokenizer, author = bpe.load(self.folder / "tokenizer"), self.author()
        vae, modules = autoencoder.load(self.folder / "decoder"), generator.load(self.folder / "generator", tokenizer)
        pipeline = package.save_pipeline(vae, modules, tokenizer, self.folder / "pahi-emoji")
        model = load_generator(pipeline)
        report = package.measure(model, tokenizer, author.concepts, self.pictures(), seeds=4)
        seer = judge.load(self.folder / "judge", len(author.concepts))
        report["composition"] = composition.measure(model, tokenizer, seer, author, self.pictures())
        composition.sheet(model, tokenizer, author).save(self.folder / "emoji-composition.png")
        package.write_json(report, self.folder / "emoji-generator.json")
        table = related.make(author.captions, author.words(), self.folder / "data" / "packages")
        package.write_json(package.vocabulary(author, table), self.folder / "vocabulary.json")
        print(json.dumps(report, indent=1))

    def bundle(self) -> None:
        """Leaves the exported bundle in `bundle/`."""
        from pahi_rt.export.exporter import export_bundle

        pipeline = left_by("package", self.folder / "pahi-emoji")
        report = json.loads((self.folder / "emoji-generator.json").read_text(encoding="utf-8"))
        priors, scorers = self.priors(), self.scorer_graphs()
        for path in priors.values():
            (path.parent / "README.md").write_text(package.PRIOR_CARD, encoding="utf-8")
        # As `generate` draws by default: with PAHI if there is one.
        prior = load_prior(priors["pahi"]) if "pahi" in priors else None
        preview = package.write_preview(load_generator(pipeline), prior, self.folder / "preview.png")
        export_bundle(
            pipeline,
            self.folder / "bundle",
            name="emoji",
            priors=list(priors.values()),
            scorers=scorers,
            card=package.card(report),
            extra_files={"vocabulary.json": self.folder / "vocabulary.json", "preview.png": preview},
            vocabulary="vocabulary.json",
            precisions=("w16",),
            overwrite=True,
        )
        names = [*priors, *(graph.name for graph in scorers)]
        print(f"bundle: {self.folder / 'bundle'} with {', '.join(names) or 'neither priors nor scorers'}")

    def scorer_graphs(self) -> list[Path]:
        """Export those scorers that exist. Each graph reads its weights from the scorer's own file."""
        from pahi_rt.export.scorer import ScorerSettings, export_scorer

        made = []
        for name, weights in self.scorer_weights().items():
            graph = self.folder / "scorer-graphs" / name
            graph.parent.mkdir(exist_ok=True)
            settings = ScorerSettings(precision="w16", licence=package.LICENCE, weights=weights)
            export_scorer(f"{name}:{weights}", graph, settings, overwrite=True)
            made.append(graph)
        return made

    def scorer_weights(self) -> dict[str, Path]:
        """Name -> weights of those scorers that exist."""
        places = {name: self.folder / "scorers" / f"{name}.safetensors" for name in scorer.KINDS}
        return {name: place for name, place in places.items() if place.is_file()}

    def priors(self) -> dict[str, Path]:
        """Kind -> checkpoint of its prior, for those that exist."""
        return {kind: self.prior(kind) for kind in KINDS if self.prior(kind).is_file()}

    def prior(self, kind: str) -> Path:
        """Path of the prior of a kind, where `pahi-rt train` leaves it."""
        return self.folder / "priors" / kind / "prior.safetensors"

    def scorers(self) -> None:
        """Leaves emoji-a.safetensors, emoji-b.safetensors and emoji-scorers.json in `scorers/`."""
        tokenizer, folder = bpe.load(self.folder / "tokenizer"), self.folder / "scorers"
        subjects, report = self._subjects(), {}
        test = self._pool("test", 90, tokenizer, subjects)
        pool = pools.join([self._pool(f"train-{seed}", seed, tokenizer, subjects) for seed in POOLS])

        def learn(number: int, name: str) -> None:
            # Each scorer has its own seed: another order of the data, other initial weights.
            single = Workshop(self.folder, 1, self.seed + number, self.steps)
            made = name, pool, subjects, tokenizer
            single._train(preferences.train, f"scorers/{name}", preferences.SCHEDULE, lambda: made)

        # Both at once: a process for each scorer is faster than two processes for one and then for the other.
        with ThreadPoolExecutor(self.workers) as threads:
            list(threads.map(learn, range(1, 1 + len(scorer.KINDS)), scorer.KINDS))
        for name in scorer.KINDS:
            network = preferences.load(folder / name, name, tokenizer)
            preferences.standardise(network, pool, subjects.labels, tokenizer)
            report[name] = self._finish(network, folder / f"{name}.safetensors", test, subjects, tokenizer)
        shipped = [scorer.load(name, folder / f"{name}.safetensors").network for name in scorer.KINDS]
        report["agreement"] = assessment.agreement(shipped, test, subjects.labels, tokenizer)
        package.write_json(report, folder / "emoji-scorers.json")
        print(json.dumps(report, indent=1))

    def _finish(
        self,
        network: scorer.Network,
        path: Path,
        test: pools.Pool,
        subjects: Subjects,
        tokenizer: CLIPTokenizer,
    ) -> dict[str, Any]:
        """Save a scorer in half precision, and measure it as loaded from the file."""
        scorer.save(network, path, {})
        shipped = scorer.load(path.stem, path).network
        report = assessment.measure(shipped, test, subjects, tokenizer)
        scorer.save(shipped, path, report)
        return report

    def _subjects(self) -> Subjects:
        author, pictures = self.author(), self.pictures()
        return Subjects(author, pictures, accessories(author.concepts, pictures), self.seed)

    def _pool(self, name: str, seed: int, tokenizer: CLIPTokenizer, subjects: Subjects) -> pools.Pool:
        path = self.folder / "scorers" / f"pool-{name}.pt"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            model = load_generator(left_by("package", self.folder / "pahi-emoji"))
            rng = torch.Generator().manual_seed(self.seed + seed)
            save_atomically(vars(pools.make(model, tokenizer, subjects, rng)), path)
        return pools.Pool(**torch.load(path, weights_only=True))

    def _train(
        self,
        stage: Callable[..., None],
        name: str,
        schedule: Schedule,
        arguments: Callable[[], tuple[object, ...]],
        after: str | None = None,
    ) -> None:
        """Run a training stage in the folder `name`, unless it is done. `stage` gets worker, folder, what `arguments`
        makes, and schedule. Raises PahiError if it begins with what the stage `after` leaves, and that is not there."""
        schedule = replace(schedule, steps=self.steps or schedule.steps)
        if (done := steps_done(self.folder / name)) >= schedule.steps:
            print(f"{name}: {done} steps done in {self.folder / name}")
            return
        if after is not None:
            left_by(after, self.folder / after / "checkpoint.pt")
        spawn(stage, self.workers, self.seed, self.folder / name, *arguments(), schedule)


def _counted(parts: Iterator[targets.Targets], length: int) -> Iterator[targets.Targets]:
    for number, part in enumerate(parts, 1):
        print(
            f"\rtargets: {number}/{length} concepts", end="" if number < length else "\n", file=sys.stderr, flush=True
        )
        yield part
