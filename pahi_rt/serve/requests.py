"""Requests as clients send them, strictly or leniently read, and the one form that the rest of the service knows."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeVar
from urllib.parse import quote

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from pahi_rt import __version__
from pahi_rt.choice import Chosen
from pahi_rt.drawing import Choice, Drawing
from pahi_rt.errors import RequestError
from pahi_rt.judge import check_candidates
from pahi_rt.manifest_file import MAX_STEPS
from pahi_rt.noise import request_seeds
from pahi_rt.prior import choose_strength
from pahi_rt.serve.limits import LONGEST_PROMPT, MOST_OPENAI_PICTURES, MOST_PICTURES
from pahi_rt.serve.models import Model, Models
from pahi_rt.serve.problems import Problem, bad_request, refused

_IN_HEADERS = "".join(chr(code) for code in range(32, 127) if chr(code) != "%")
"""Characters of a model's name that stand for themselves in a header; the others are percent-encoded."""

_MARK = b"\xef\xbb\xbf"
"""What Windows' programs write before UTF-8."""

Prompt = Annotated[
    str,
    # The tokenizer refuses blank prompts and NUL in better words than msgspec's.
    Meta(
        min_length=1,
        max_length=LONGEST_PROMPT,
        examples=["a red apple"],
        extra_json_schema={"pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$"},
    ),
]
Seed = Annotated[
    int,
    # msgspec compares with 64-bit integers alone; request_seeds refuses what is larger.
    Meta(ge=0, extra_json_schema={"maximum": 2**64 - 1}, description="The seed of the first picture."),
]
Strength = Annotated[float, Meta(ge=0, le=1, description="How much of the prior to apply.")]
Count = Annotated[int, Meta(ge=1, le=MOST_PICTURES, description="Pictures of each prompt: seed, seed + 1, ...")]
Candidates = Annotated[
    int, Meta(ge=1, le=MOST_PICTURES, description="Pictures to draw of each prompt; the best are answered.")
]
Keep = Annotated[int, Meta(ge=1, le=MOST_PICTURES, description="How many of the candidates to answer with.")]
Steps = Annotated[int, Meta(ge=1, le=MAX_STEPS, description="Denoising steps; by default the fewest of the model's.")]
Prior = Literal["pahi", "hi", "gaussian"]
Format = Literal["png", "webp", "jpeg"]
Quality = Annotated[int, Meta(ge=1, le=100, description="Of webp and jpeg; PNG has none.")]


class PicturesRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of POST /v1/pictures: `prompt` or `prompts`, and at most 16 pictures in all."""

    prompt: Prompt | None = None
    prompts: Annotated[list[Prompt], Meta(min_length=1, max_length=MOST_PICTURES)] | None = None
    model: str | None = None
    seed: Seed | None = None
    count: Count = 1
    steps: Steps | None = None
    prior: Prior | None = None
    prior_strength: Strength | None = None
    format: Format = "png"
    quality: Quality | None = None
    candidates: Candidates | None = None
    keep: Keep | None = None
    scorer: str | None = None

    @property
    def pictures(self) -> int:
        """How many pictures it has drawn; more than MOST_PICTURES are refused."""
        return min(MOST_PICTURES, len(self.prompts or [self.prompt]) * (self.candidates or self.count))


class LiveRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """A message that a client sends on the WebSocket /v1/live."""

    id: int
    prompt: Prompt
    model: str | None = None
    seed: Seed | None = None
    count: Count = 1
    steps: Steps | None = None
    prior: Prior | None = None
    prior_strengths: Annotated[list[Strength], Meta(max_length=MOST_PICTURES)] = []
    format: Format = "png"
    quality: Quality | None = None


class GenerationRequest(Struct, kw_only=True):
    """The body of OpenAI's POST /v1/images/generations. Fields that are not listed here are ignored."""

    prompt: Prompt
    model: str | None = None
    n: Annotated[int, Meta(ge=1, le=MOST_OPENAI_PICTURES)] | None = None
    size: str | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Format | None = None
    output_compression: Annotated[int, Meta(ge=0, le=100)] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Meta(ge=0, le=3)] | None = None
    seed: Seed | None = None
    steps: Steps | None = None
    prior: Prior | None = None
    prior_strength: Strength | None = None
    candidates: Candidates | None = None
    scorer: str | None = None

    @property
    def pictures(self) -> int:
        """How many pictures it has drawn."""
        return self.candidates or self.n or 1


class _Numbered(Struct):
    id: int | None = None


Body = TypeVar("Body", bound=Struct)


@dataclass(frozen=True)
class Shot:
    """One picture to draw."""

    index: int
    """Which of the order's prompts."""
    seed: int
    strength: float
    score: float | None = None
    """What the scorer gave it, if it was chosen."""


@dataclass(frozen=True)
class Order:
    """A request that has been checked: the pictures to draw, in the order in which they are answered."""

    model: Model
    chosen: Chosen
    prompts: tuple[str, ...]
    input_ids: NDArray[np.int64]
    """[P, T]: a row for each prompt."""
    truncated: tuple[bool, ...]
    """[P]: whether the prompt was longer than the model reads."""
    seed: int
    shots: tuple[Shot, ...]
    format: Format
    quality: int | None
    tokenise_ms: float
    choice: Choice | None = None
    """How the best of the shots are chosen; None if all of them are answered."""
    keep: int = 1
    """How many of each prompt's candidates are answered."""

    @property
    def headers(self) -> dict[str, str]:
        """What every reply with its pictures carries, also one that begins before they are drawn."""
        name = quote(self.model.name, safe=_IN_HEADERS)
        return {"X-Model": name, "X-Bundle-Sha256": self.model.sha256, "X-Seed": str(self.seed)}

    def drawing(self, shot: Shot) -> Drawing:
        """How one picture is drawn: what `pahi-rt generate` would write into its PNG."""
        choice = self.choice and replace(self.choice, seeds=(shot.seed,), scores=(shot.score or 0.0,))
        return Drawing(
            prompts=(self.prompts[shot.index],),
            seed=shot.seed,
            count=1,
            steps=self.chosen.graph.steps,
            bundle=self.model.name,
            bundle_sha256=self.model.sha256,
            version=__version__,
            prior=self.chosen.prior,
            prior_strength=shot.strength,
            precision=self.chosen.graph.precision,
            choice=choice,
        )


def read_body(kind: type[Body], raw: bytes | str) -> Body:
    """Read JSON as `kind`. Raises Problem that names the field."""
    try:
        return msgspec.json.decode(raw.removeprefix(_MARK) if isinstance(raw, bytes) else raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(error) from error


def read_id(raw: bytes | str) -> int | None:
    """The id of a message, also of one that cannot be read otherwise."""
    try:
        return msgspec.json.decode(raw, type=_Numbered).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _unreadable(error: Exception) -> Problem:
    if not isinstance(error, msgspec.ValidationError):
        return bad_request("the request is not valid JSON in UTF-8", 'send JSON such as {"prompt": "a red apple"}')
    what, _, place = str(error).partition(" - at `$")
    field = place.strip(".`")
    named = re.search(r"(?:field|unknown field) `(\w+)`", what)
    detail = f"{field}: {what}" if field else what
    fix = "send what /openapi.json says" + (f" of {field}" if field else "")
    return bad_request(detail, fix, field or (named[1] if named else None))


def order_pictures(request: PicturesRequest, models: Models) -> Order:
    """What a request on our own route asks for. Raises Problem."""
    if (request.prompt is None) == (request.prompts is None):
        raise bad_request("the request needs either prompt or prompts", 'send {"prompt": "a red apple"}', "prompt")
    prompts = [request.prompt] if request.prompt is not None else request.prompts or []
    return _order(
        models.find(request.model),
        prompts,
        seed=request.seed,
        count=request.count,
        steps=request.steps,
        prior=request.prior,
        strengths=[request.prior_strength],
        format=request.format,
        quality=request.quality,
        candidates=request.candidates,
        keep=request.keep,
        scorer=request.scorer,
    )


def order_live(request: LiveRequest, models: Models) -> Order:
    """What a message on the WebSocket asks for: each seed, and for each seed every strength. Raises Problem."""
    return _order(
        models.find(request.model),
        [request.prompt],
        seed=request.seed,
        count=request.count,
        steps=request.steps,
        prior=request.prior,
        strengths=request.prior_strengths or [None],
        format=request.format,
        quality=request.quality,
    )


def order_generation(request: GenerationRequest, models: Models) -> Order:
    """What a request on OpenAI's route asks for. Raises Problem."""
    model = models.find_or_default(request.model)
    width, height = model.size
    if request.size not in (None, "", "auto", f"{width}x{height}"):
        fix = f'use "{width}x{height}" or "auto", or leave it out'
        raise bad_request(f"the model {model.name!r} does not draw {request.size!r}", fix, "size")
    if request.response_format == "url":
        fix = 'use "b64_json", or leave it out'
        raise bad_request("pictures are not kept here, so there is no url of them", fix, "response_format")
    quality = request.output_compression
    return _order(
        model,
        [request.prompt],
        seed=request.seed,
        count=(request.n or 1) if request.candidates is None else 1,
        steps=request.steps,
        prior=request.prior,
        strengths=[request.prior_strength],
        format=request.output_format or "png",
        quality=None if quality is None else max(1, quality),
        candidates=request.candidates,
        keep=None if request.candidates is None else request.n,
        scorer=request.scorer,
    )


def _order(
    model: Model,
    prompts: Sequence[str],
    *,
    seed: int | None,
    count: int,
    steps: int | None,
    prior: str | None,
    strengths: Sequence[float | None],
    format: Format,
    quality: int | None,
    candidates: int | None = None,
    keep: int | None = None,
    scorer: str | None = None,
) -> Order:
    if scorer is not None and candidates is None:
        raise bad_request("a scorer chooses among candidates, and there are none", "add candidates", "candidates")
    drawn = count if candidates is None else candidates
    asked = len(prompts) * len(strengths) * drawn
    if asked > MOST_PICTURES:
        raise bad_request(f"{asked} pictures are too many for one request", f"ask for {MOST_PICTURES} or fewer")
    chosen = model.choose(steps, prior)
    started = time.perf_counter()
    try:
        weights = [choose_strength(chosen.prior, strength) for strength in strengths]
        kept = check_candidates(count, candidates, keep)
        seeds = request_seeds(secrets.randbelow(2**32) if seed is None else seed, drawn)
        encoded = model.tokenizer.encode(list(prompts))
    except RequestError as error:
        raise refused(error) from error
    return Order(
        model=model,
        chosen=chosen,
        prompts=tuple(prompts),
        input_ids=encoded.input_ids,
        truncated=tuple(encoded.truncated),
        seed=seeds.start,
        shots=tuple(Shot(i, s, w) for i in range(len(prompts)) for s in seeds for w in weights),
        format=format,
        quality=quality,
        tokenise_ms=1000 * (time.perf_counter() - started),
        choice=None if candidates is None else Choice(model.choose_scorer(scorer), candidates, seeds.start),
        keep=kept,
    )
