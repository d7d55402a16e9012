"""pahi-rt bench stages: what `pahi-rt bulk` does for a picture beside running the graph, in a core's own time.

The pictures of 128 x 128 are the embedded model's own. There are no real ones of 512 x 512 in this package, so a
photograph that matplotlib brings stands for them: how long a picture takes to encode depends on what it shows.
"""

from __future__ import annotations

import hashlib
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pahi_rt.assets import DEFAULT
from pahi_rt.bench import machine
from pahi_rt.bench.peers.serving import PROMPTS
from pahi_rt.bench.reports.report import Spread
from pahi_rt.bench.reports.stages import DRIVER, HASHES, NOISE, TOKENS, WRITING, Stage, StagesReport
from pahi_rt.bench.timing import spread
from pahi_rt.bulk.encode import encode
from pahi_rt.bulk.formats import open_writer
from pahi_rt.bulk.prompt_files import find_files
from pahi_rt.bulk.record import Part
from pahi_rt.bulk.sample import Sample
from pahi_rt.bulk.seeds import row_seed
from pahi_rt.bulk.settings import EncodeFormat
from pahi_rt.bulk.shards import plan
from pahi_rt.bulk.sources import Columns, read_rows
from pahi_rt.drawing import Drawing
from pahi_rt.errors import PahiError
from pahi_rt.noise import draw_noise
from pahi_rt.pipeline import Pipeline

FORMATS: dict[str, tuple[EncodeFormat, int | None]] = {
    "png": ("png", None),
    "webp, lossless": ("webp", None),
    "webp, quality 90": ("webp", 90),
    "jpeg": ("jpeg", None),
}
"""Name -> format and quality."""
_LATENT = {128: (4, 16, 16), 512: (4, 64, 64)}
"""Pixels -> shape of the noise, as SD-Turbo's architecture has it; the embedded model's is as large or smaller."""
_ROWS, _PER_SHARD = 50_000, 1000


@dataclass(frozen=True)
class _Subject:
    """What is encoded."""

    description: str
    images: Sequence[Image.Image]


def measure(pictures: int, force: bool = False) -> StagesReport:
    """The whole report, from `pictures` calls of each stage. Raises PahiError for a busy machine, unless `force`."""
    busy, environment = machine.check_idle(force), machine.describe()
    pipeline = Pipeline.load(DEFAULT, threads=1)
    subjects = {128: _own_pictures(pipeline), 512: _photograph()}
    tokens = _time(lambda n: pipeline.tokenizer.encode([PROMPTS[n % len(PROMPTS)]]), pictures)
    stages = [Stage(name=DRIVER, ms=_time_driver()), Stage(name=TOKENS, ms=tokens)]
    for pixels, subject in subjects.items():
        stages += _stages_of(pixels, subject, pictures)
    return StagesReport(
        command=machine.command(),
        machine=environment,
        busy=busy,
        pictures={str(pixels): subject.description for pixels, subject in subjects.items()},
        stages=tuple(stages),
    )


def _own_pictures(pipeline: Pipeline) -> _Subject:
    return _Subject("pictures of the embedded model", pipeline(PROMPTS))


def _photograph() -> _Subject:
    try:
        from matplotlib import get_data_path
    except ModuleNotFoundError as error:
        raise PahiError("the photograph is matplotlib's", fix="pip install 'pahi-rt[bench]'") from error
    with Image.open(Path(get_data_path(), "sample_data", "grace_hopper.jpg")) as image:  # 512 x 606
        return _Subject("a photograph (matplotlib's grace_hopper.jpg)", [image.convert("RGB").crop((0, 0, 512, 512))])


def _stages_of(pixels: int, subject: _Subject, pictures: int) -> Iterator[Stage]:
    images = subject.images
    yield Stage(
        name=NOISE,
        pixels=pixels,
        ms=_time(lambda n: draw_noise([row_seed(0, f"prompts.txt:{n}")], _LATENT[pixels]), pictures),
    )
    for name, (kind, quality) in FORMATS.items():
        files = [encode(image, _DRAWING, kind, quality) for image in images]
        taken = _time(lambda n: encode(images[n % len(images)], _DRAWING, kind, quality), pictures)  # noqa: B023
        size = round(sum(map(len, files)) / len(files), 1)
        yield Stage(name=name, pixels=pixels, ms=taken, bytes=size)
    samples = [_sample(number, images[number % len(images)]) for number in range(pictures)]
    yield Stage(name=HASHES, pixels=pixels, ms=_time(lambda n: _hash(images[n % len(images)], samples[n]), pictures))
    yield Stage(name=WRITING, pixels=pixels, ms=_time_writing(samples))


def _time(work: Callable[[int], object], calls: int) -> Spread:
    """Milliseconds of a call's thread, which is given its number; what other programs take meanwhile does not count."""
    taken = []
    for number in range(-1, calls):
        started = time.thread_time()
        work(max(0, number))
        taken.append((time.thread_time() - started) * 1000)
    return spread(taken[1:], digits=4)


def _time_writing(samples: Sequence[Sample]) -> Spread:
    with tempfile.TemporaryDirectory() as folder, open_writer("webdataset", Path(folder), 0, "png", {}) as writer:
        return _time(lambda n: writer.add(samples[n]), len(samples))


def _time_driver() -> Spread:
    """Time what the driver does for a row: read it, hash it, and pickle it for its worker."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prompts.txt"
        path.write_text("\n".join(f"{PROMPTS[n % len(PROMPTS)]}, number {n}" for n in range(_ROWS)), encoding="utf-8")
        rows = read_rows(find_files(str(path)), Columns())
        steps = plan(rows, Part(("prompts.txt",), 0), _PER_SHARD, {}, retry_failed=False)
        taken = _time(lambda n: pickle.dumps(next(steps)), _ROWS // _PER_SHARD - 1)
    return Spread(
        median=round(taken.median / _PER_SHARD, 6),
        p10=round(taken.p10 / _PER_SHARD, 6),
        p90=round(taken.p90 / _PER_SHARD, 6),
        n=taken.n,
    )


def _sample(number: int, image: Image.Image) -> Sample:
    content = encode(image, _DRAWING, "png", None)
    digest = hashlib.sha256(content).hexdigest()
    return Sample(
        f"{number:09d}",
        f"prompts.txt:{number}",
        PROMPTS[number % len(PROMPTS)],
        number,
        image=content,
        sha256=digest,
        pixels_sha256=digest,
        width=image.width,
        height=image.height,
        truncated=False,
    )


def _hash(image: Image.Image, sample: Sample) -> tuple[str, str]:
    return hashlib.sha256(sample.image or b"").hexdigest(), hashlib.sha256(image.tobytes()).hexdigest()


_DRAWING = Drawing(
    prompts=("a grinning cat",), seed=1, count=1, steps=1, bundle="emoji", bundle_sha256="0" * 64, version="0"
)
