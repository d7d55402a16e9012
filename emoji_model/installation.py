"""What the source tree holds of the recipe's results: put into a working folder, and taken from it."""

from __future__ import annotations

import shutil
from pathlib import Path

from torch import nn

import pahi_rt
from emoji_model import assessment, autoencoder, decoder, generator, published, scorer
from emoji_model.published import BUNDLE, PUBLISHED
from emoji_model.trainer import left_by, steps_done
from emoji_model.trainer import restore as restore_stage
from emoji_model.workshop import Workshop
from pahi_rt.models.generators import load_generator
from pahi_rt.models.priors import PRIORS as KINDS

PRIORS = Path(__file__).parent / "priors"
RESULTS = Path(pahi_rt.__file__).parent / "bench" / "results"


def restore(workshop: Workshop) -> None:
    """Put the published results in place of those of the stages, scorers and priors too if there are any.

    What the stages between `autoencoder` and `generator` leave is not published. A restored stage is done; it
    cannot be continued.
    """
    pipeline = published.generator()
    wanted = {
        workshop.folder / "pahi-emoji": pipeline,
        workshop.folder / "tokenizer": PUBLISHED / "tokenizer",
        workshop.folder / "vocabulary.json": BUNDLE / "vocabulary.json",
        **{workshop.folder / "scorers" / path.name: path for path in scorer.HOME.glob("*.safetensors")},
    }
    for place, source in (wanted | _published(workshop)).items():
        if source.exists() and not place.exists():
            _copy(source, place)
    model = load_generator(pipeline)
    vae = {"vae": model.decoder}
    parts = {
        "autoencoder": (autoencoder.SCHEDULE, vae),
        "generator": (generator.SCHEDULE, {"text_encoder": model.text_encoder, "unet": model.unet}),
        "decoder": (decoder.SCHEDULE, vae),
    }
    for name, (schedule, modules) in parts.items():
        if steps_done(workshop.folder / name) == 0:
            restore_stage(nn.ModuleDict(modules), workshop.steps or schedule.steps, workshop.folder / name)
        print(f"{name}: {steps_done(workshop.folder / name)} steps in {workshop.folder / name}")


def _published(workshop: Workshop) -> dict[Path, Path]:
    """Result in the working folder -> its place in the source tree."""
    return {
        **{workshop.folder / name: RESULTS / name for name in ("emoji-generator.json", "emoji-composition.png")},
        **{workshop.prior(kind): PRIORS / f"{kind}.safetensors" for kind in KINDS},
    }


def install(workshop: Workshop) -> None:
    """Copy pipeline and bundle, which holds the scorers, into the source tree, and trained priors.

    Raises PahiError if pipeline or bundle is missing, or a scorer is not good enough.
    """
    left_by("bundle", workshop.folder / "bundle")
    left_by("package", workshop.folder / "pahi-emoji")
    left_by("package", workshop.folder / "emoji-generator.json")
    for path in (workshop.folder / "scorers").glob("*.safetensors"):
        assessment.require(path.stem, scorer.measured(path))
    made = {
        workshop.folder / "bundle": BUNDLE,
        workshop.folder / "scorers" / "emoji-scorers.json": RESULTS / "emoji-scorers.json",
    }
    for source, place in (made | _published(workshop)).items():
        if source.exists():
            _copy(source, place)
            print(f"install: {source} in {place}")
    published.publish(workshop.folder / "pahi-emoji", BUNDLE, PUBLISHED)
    print(f"install: {workshop.folder / 'pahi-emoji'} in {PUBLISHED}, its weights in {BUNDLE}")


def _copy(source: Path, place: Path) -> None:
    """Copy a file, or a folder, which replaces the one that is there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source, place)
    else:
        shutil.copy(source, place)
