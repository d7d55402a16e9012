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
from pahi_rt.bundle import open_bundle
from pahi_rt.errors import PahiError
from pahi_rt.export.provenance import Source, describe_components
from pahi_rt.files import sha256, write_whole
from pahi_rt.manifest import Manifest
from pahi_rt.models.generators import load_generator
from pahi_rt.models.priors import PRIORS as KINDS
from pahi_rt.scratch import scratch

PRIORS = Path(__file__).parent / "priors"
RESULTS = Path(pahi_rt.__file__).parent / "bench" / "results"
REPORTS = ("emoji-generator.json", "emoji-composition.png")
"""What `package` measures and draws for the documents."""


def restore(workshop: Workshop) -> None:
    """Put the published results in place of those of the stages, scorers and the bundle's priors too.

    What the stages between `autoencoder` and `generator` leave is not published. A restored stage is done; it
    cannot be continued.
    """
    pipeline, trained = published.generator(), open_bundle(BUNDLE).manifest.priors
    wanted = {
        workshop.folder / "pahi-emoji": pipeline,
        workshop.folder / "tokenizer": PUBLISHED / "tokenizer",
        workshop.folder / "vocabulary.json": BUNDLE / "vocabulary.json",
        **{workshop.folder / "scorers" / path.name: path for path in scorer.HOME.glob("*.safetensors")},
        **{workshop.folder / name: RESULTS / name for name in REPORTS},
        **{workshop.prior(kind): _prior(kind) for kind in trained},
    }
    for place, source in wanted.items():
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


def install(workshop: Workshop) -> None:
    """Copy pipeline and bundle, which holds the scorers, into the source tree, and trained priors.

    Priors that were published with an earlier bundle are removed. Raises PahiError if pipeline or bundle is missing,
    they do not belong together, or a scorer is not good enough.
    """
    bundle = open_bundle(left_by("bundle", workshop.folder / "bundle")).manifest
    if _made_of(bundle) != _present(workshop):
        what = f"{workshop.folder / 'bundle'} was not made of what lies in {workshop.folder} now"
        raise PahiError(what, fix="python -m emoji_model bundle")
    for name, path in workshop.scorer_weights().items():
        assessment.require(name, scorer.measured(path))
    made = {
        workshop.folder / "bundle": BUNDLE,
        workshop.folder / "scorers" / "emoji-scorers.json": RESULTS / "emoji-scorers.json",
        **{workshop.folder / name: RESULTS / name for name in REPORTS},
        **{workshop.prior(kind): _prior(kind) for kind in bundle.priors},
    }
    for source, place in made.items():
        if source.exists():
            _copy(source, place)
            print(f"install: {source} in {place}")
    for kind in KINDS - bundle.priors.keys():
        _prior(kind).unlink(missing_ok=True)
    published.publish(workshop.folder / "pahi-emoji", BUNDLE, PUBLISHED)
    print(f"install: {workshop.folder / 'pahi-emoji'} in {PUBLISHED}, its weights in {BUNDLE}")


def _made_of(manifest: Manifest) -> dict[str, str]:
    """What a bundle was made of -> its sha256."""
    learned = {name: spec.component.sha256 for name, spec in (manifest.priors | (manifest.scorers or {})).items()}
    return {"generator": manifest.generator.sha256, "autoencoder": manifest.autoencoder.sha256, **learned}


def _present(workshop: Workshop) -> dict[str, str]:
    """The same of what the stages have left. Raises PahiError if they have not."""
    left_by("package", workshop.folder / "emoji-generator.json")
    generator, autoencoder = describe_components(Source(left_by("package", workshop.folder / "pahi-emoji")))
    learned = {name: sha256(path) for name, path in (workshop.priors() | workshop.scorer_weights()).items()}
    return {"generator": generator.sha256, "autoencoder": autoencoder.sha256, **learned}


def _prior(kind: str) -> Path:
    """Where the prior of a kind is published."""
    return PRIORS / f"{kind}.safetensors"


def _copy(source: Path, place: Path) -> None:
    """Copy a file, or a folder, which replaces the one that is there. A kill leaves all of it or nothing."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        with scratch(place, "write") as made:
            new = shutil.copytree(source, made / place.name)
            shutil.rmtree(place, ignore_errors=True)
            new.rename(place)
    else:
        write_whole(place, source.read_bytes())
