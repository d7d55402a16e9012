"""python -m emoji_model STAGE: one stage of the recipe, or `all`.

    data         fetch the emoji sets from npm, draw every concept in every style
    tokenizer    byte-pair tokeniser of the captions
    autoencoder  pictures <-> latents
    text         the text encoder learns a sketch of each concept
    generator    latents from captions and noise, in one step and two
    decoder      sharpen the decoder on the generator's own latents
    package      diffusers folder, measurements
    scorers      two preference scorers, trained on drawings and on the generator's pictures
    bundle       the graphs, with the priors that `pahi-rt train` left in WORK/priors/hi and WORK/priors/pahi
    restore      in place of tokenizer to package: take what is published; scorers and priors as well
    install      copy what these made into the source tree: the embedded default

A stage that was stopped goes on where it was; a finished one says so and does nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CLIPTokenizer

import pahi_rt
from emoji_model import (
    autoencoder,
    decoder,
    generator,
    package,
    preferences,
    render,
    scorer,
    sources,
    targets,
    text,
    tokenizer,
)
from emoji_model.captions import Captions
from emoji_model.trainer import Schedule, left_by, restore, save_atomically, spawn, steps_done
from pahi_rt.cli import messages
from pahi_rt.errors import PahiError
from pahi_rt.models.generators import load_generator
from pahi_rt.models.priors import PRIORS as KINDS
from pahi_rt.models.priors import load_prior

HERE = Path(__file__).parent
PUBLISHED, PRIORS = HERE / "weights", HERE / "priors"
PACKAGE = Path(pahi_rt.__file__).parent
RESULTS, ASSETS = PACKAGE / "bench" / "results", PACKAGE / "assets" / "emoji"
POOLS = (1, 2, 3)
"""Seeds of the pools that the scorers learn from, both from all: from two of them emoji-b knew 99 % of its pairs of
samples, and 88 % of the test's."""


class Recipe:
    """The working folder of a run, and the stages over it."""

    def __init__(self, folder: Path, workers: int, seed: int, steps: int | None) -> None:
        self.folder, self.workers, self.seed, self.steps = folder, workers, seed, steps

    def concepts(self) -> list[sources.Concept]:
        return sources.load_concepts(self.folder / "data" / "packages")

    def pictures(self) -> torch.Tensor:
        """uint8 [concepts, styles, 4, 128, 128]."""
        return torch.load(left_by("data", self.folder / "data" / "pictures.pt"), weights_only=True)

    def data(self) -> None:
        path = self.folder / "data" / "pictures.pt"
        if not path.exists():
            save_atomically(render.render_all(self.concepts()), path)
        print(f"data: {len(self.pictures())} concepts x {len(sources.STYLES)} styles in {path}")

    def tokenizer(self) -> None:
        folder = self.folder / "tokenizer"
        if not folder.exists():
            captions, rng = Captions(self.concepts()), random.Random(self.seed)
            kinds = [(c, s) for c in range(len(captions.concepts)) for s in (None, *sources.STYLES)]
            tokenizer.train((captions.draw(*kind, rng).text for kind in kinds * 60), folder)
        print(f"tokenizer: {len(tokenizer.load(folder))} entries in {folder}")

    def autoencoder(self) -> None:
        pictures = self.pictures().flatten(0, 1)
        self._train(autoencoder.train, "autoencoder", autoencoder.SCHEDULE, pictures)

    def targets(self) -> targets.Targets:
        path = self.folder / "generator" / "targets.pt"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            pictures, vae = self.pictures(), autoencoder.load(self.folder / "autoencoder")
            targets.save(list(_counted(targets.make(vae, pictures, self.seed), len(pictures))), path)
        return targets.load(path)

    def text(self) -> None:
        vae, words = autoencoder.load(self.folder / "autoencoder"), tokenizer.load(self.folder / "tokenizer")
        latents = text.plain_latents(self.pictures(), vae)
        self._train(text.train, "text", text.SCHEDULE, latents, Captions(self.concepts()), words)

    def generator(self) -> None:
        vae = autoencoder.load(self.folder / "autoencoder")
        words = tokenizer.load(self.folder / "tokenizer")
        arguments = (self.targets(), Captions(self.concepts()), words, text.load(self.folder / "text", words), vae)
        self._train(generator.train, "generator", generator.SCHEDULE, *arguments)

    def decoder(self) -> None:
        vae = autoencoder.load(self.folder / "autoencoder")
        words = tokenizer.load(self.folder / "tokenizer")
        modules = generator.load(self.folder / "generator", words)
        self._train(decoder.train, "decoder", decoder.SCHEDULE, vae, modules, self.concepts(), self.pictures(), words)

    def package(self) -> None:
        words, concepts = tokenizer.load(self.folder / "tokenizer"), self.concepts()
        vae, modules = autoencoder.load(self.folder / "decoder"), generator.load(self.folder / "generator", words)
        pipeline = package.save_pipeline(vae, modules, words, self.folder / "pahi-emoji")
        model = load_generator(pipeline)
        report = package.measure(model, words, concepts, self.pictures(), seeds=4)
        package.write_json(report, self.folder / "emoji-generator.json")
        package.write_json(package.vocabulary(concepts), self.folder / "vocabulary.json")
        print(json.dumps(report, indent=1))

    def bundle(self) -> None:
        from pahi_rt.export.bundle import export_bundle

        pipeline = left_by("package", self.folder / "pahi-emoji")
        report = json.loads((self.folder / "emoji-generator.json").read_text(encoding="utf-8"))
        priors = self.priors()
        for path in priors.values():
            (path.parent / "README.md").write_text(package.PRIOR_CARD, encoding="utf-8")
        # What `generate` draws by default: PAHI if it is there.
        prior = load_prior(priors["pahi"]) if "pahi" in priors else None
        preview = package.write_preview(load_generator(pipeline), prior, self.folder / "preview.png")
        export_bundle(
            pipeline,
            self.folder / "bundle",
            name="emoji",
            priors=list(priors.values()),
            card=package.card(report),
            extra_files={"vocabulary.json": self.folder / "vocabulary.json", "preview.png": preview},
            vocabulary="vocabulary.json",
            precisions=("w16",),
            overwrite=True,
        )
        print(f"bundle: {self.folder / 'bundle'} with {' and '.join(priors) or 'no'} priors")

    def priors(self) -> dict[str, Path]:
        """The checkpoints that are there, by kind."""
        return {kind: self.prior(kind) for kind in KINDS if self.prior(kind).is_file()}

    def prior(self, kind: str) -> Path:
        """Where `pahi-rt train` leaves the prior of a kind."""
        return self.folder / "priors" / kind / "prior.safetensors"

    def scorers(self) -> None:
        """Leaves emoji-a.safetensors, emoji-b.safetensors and emoji-scorers.json in `scorers/`."""
        words, captions = tokenizer.load(self.folder / "tokenizer"), Captions(self.concepts())
        labels, folder = [concept.label for concept in captions.concepts], self.folder / "scorers"
        test, report = self._pool("test", 90, words, labels), {}
        pool = preferences.join([self._pool(f"train-{seed}", seed, words, labels) for seed in POOLS])

        def learn(number: int, name: str) -> None:
            # Another seed for each: another order, other first weights.
            single = Recipe(self.folder, 1, self.seed + number, self.steps)
            single._train(preferences.train, f"scorers/{name}", preferences.SCHEDULE, name, pool, captions, words)

        # Side by side: a process each learns more from a second than two for one scorer and then for the other.
        with ThreadPoolExecutor(self.workers) as threads:
            list(threads.map(learn, range(1, 1 + len(scorer.KINDS)), scorer.KINDS))
        for name in scorer.KINDS:
            network = preferences.load(folder / name, name, words)
            preferences.standardise(network, pool, labels, words)
            report[name] = self._finish(network, folder / f"{name}.safetensors", test, captions, words)
        package.write_json(report, folder / "emoji-scorers.json")
        print(json.dumps(report, indent=1))

    def _finish(
        self,
        network: scorer.Network,
        path: Path,
        test: preferences.Pool,
        captions: Captions,
        words: CLIPTokenizer,
    ) -> dict[str, Any]:
        """Save a scorer and measure it as it is in the file, where weights have half the precision."""
        scorer.save(network, path, {})
        shipped = scorer.load(path.stem, path, words).network
        report = preferences.measure(shipped, test, captions, words)
        scorer.save(shipped, path, report)
        return report

    def _pool(self, name: str, seed: int, words: CLIPTokenizer, labels: list[str]) -> preferences.Pool:
        path = self.folder / "scorers" / f"pool-{name}.pt"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            model, randoms = load_generator(self.folder / "pahi-emoji"), torch.Generator().manual_seed(self.seed + seed)
            pool = preferences.make_pool(model, words, labels, self.pictures(), randoms)
            save_atomically(vars(pool), path)
        return preferences.Pool(**torch.load(path, weights_only=True))

    def restore(self) -> None:
        """What the stages from `tokenizer` to `package` left when the published weights were made; scorers and priors
        too, if there are any."""
        wanted = {
            self.folder / "tokenizer": PUBLISHED / "tokenizer",
            self.folder / "vocabulary.json": ASSETS / "vocabulary.json",
        }
        for place, source in (wanted | self._published()).items():
            if source.exists() and not place.exists():
                _copy(source, place)
        model = load_generator(PUBLISHED)
        words, vae = {"text_encoder": model.text_encoder}, {"vae": model.decoder}
        parts = {
            "autoencoder": (autoencoder.SCHEDULE, vae),
            "text": (text.SCHEDULE, words),
            "generator": (generator.SCHEDULE, words | {"unet": model.unet}),
            "decoder": (decoder.SCHEDULE, vae),
        }
        for name, (schedule, modules) in parts.items():
            if steps_done(self.folder / name) == 0:
                restore(nn.ModuleDict(modules), self.steps or schedule.steps, self.folder / name)
            print(f"{name}: {steps_done(self.folder / name)} steps in {self.folder / name}")

    def _published(self) -> dict[Path, Path]:
        """What a run leaves -> where the source tree keeps it."""
        scorers = self.folder / "scorers"
        return {
            self.folder / "pahi-emoji": PUBLISHED,
            self.folder / "emoji-generator.json": RESULTS / "emoji-generator.json",
            **{scorers / f"{name}.safetensors": scorer.HOME / f"{name}.safetensors" for name in scorer.KINDS},
            **{self.prior(kind): PRIORS / f"{kind}.safetensors" for kind in KINDS},
        }

    def install(self) -> None:
        """Scorers and priors, if they have been trained, besides pipeline and bundle.

        PahiError if one of these is missing, or a scorer is not good enough.
        """
        left_by("bundle", self.folder / "bundle")
        left_by("package", self.folder / "pahi-emoji")
        left_by("package", self.folder / "emoji-generator.json")
        for path in (self.folder / "scorers").glob("*.safetensors"):
            preferences.require(path.stem, scorer.measured(path))
        made = {
            self.folder / "bundle": ASSETS,
            self.folder / "scorers" / "emoji-scorers.json": RESULTS / "emoji-scorers.json",
        }
        for source, place in (made | self._published()).items():
            if source.exists():
                _copy(source, place)
                print(f"install: {source} in {place}")

    def _train(self, stage: Callable[..., None], name: str, schedule: Schedule, *arguments: object) -> None:
        """Run a training stage in the folder `name`, unless it is done."""
        schedule = replace(schedule, steps=self.steps or schedule.steps)
        if (done := steps_done(self.folder / name)) >= schedule.steps:
            print(f"{name}: {done} steps done in {self.folder / name}")
            return
        # The schedule is the last argument of every training stage.
        spawn(stage, self.workers, self.seed, self.folder / name, *arguments, schedule)


def _copy(source: Path, place: Path) -> None:
    """A file, or a folder in place of the one that is there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source, place)
    else:
        shutil.copy(source, place)


def _counted(parts: Iterator[targets.Targets], length: int) -> Iterator[targets.Targets]:
    for number, part in enumerate(parts, 1):
        print(
            f"\rtargets: {number}/{length} concepts", end="" if number < length else "\n", file=sys.stderr, flush=True
        )
        yield part


STAGES = ("data", "tokenizer", "autoencoder", "text", "generator", "decoder", "package", "scorers", "bundle")
"""What `all` runs; `install` changes the source tree and is asked for by name."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="emoji_model", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("stage", choices=(*STAGES, "restore", "install", "all"))
    parser.add_argument("--work", type=Path, default=Path("runs/emoji"), help="working folder (default: runs/emoji)")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each (default: 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="length of a training stage, other than the recipe's")
    args = parser.parse_args()
    recipe = Recipe(args.work, args.workers, args.seed, args.steps)
    try:
        for stage in STAGES if args.stage == "all" else (args.stage,):
            getattr(recipe, stage)()
    except PahiError as error:
        messages.problem(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
