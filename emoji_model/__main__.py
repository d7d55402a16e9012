"""python -m emoji_model STAGE: one stage of the recipe, or `all`.

    data         fetch the emoji sets from npm, rasterise every concept in every style
    tokenizer    learn a byte-pair tokenizer from the captions
    autoencoder  learn pictures <-> latents
    scenes       compose scenes: colours, backgrounds, numbers, pairs, hats
    sketch       learn to draw a picture from its content and the style that the noise asks for
    memory       teach the text encoder's last layers the content of all drawings and scenes
    words        teach the text encoder which of them a caption asks for
    generator    learn latents from captions and noise, in one step and in two
    decoder      sharpen the decoder on the generator's own latents
    judge        train a classifier of drawings, to measure composition with
    package      write the diffusers folder and the measurements
    scorers      train two preference scorers on drawings and on the generator's pictures
    bundle       export the graphs, with the priors that `pahi-rt train` left in WORK/priors/hi and WORK/priors/pahi
    restore      in place of tokenizer, autoencoder, generator, decoder and package: copy the published results, scorers
                 and priors too
    install      copy the results into the source tree, as the embedded default

A training that was stopped continues where it was. A finished one says so and does nothing, and so do `data`,
`tokenizer` and `scenes`. `package`, the measurements of `scorers`, and `bundle` are made again each time.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from emoji_model import installation
from emoji_model.workshop import Workshop
from pahi_rt.cli import messages
from pahi_rt.errors import PahiError

STAGES = (
    "data", "tokenizer", "autoencoder", "scenes", "sketch", "memory", "words", "generator", "decoder", "judge",
    "package", "scorers", "bundle",
)  # fmt: skip
"""What `all` runs."""
WITH_THE_SOURCE_TREE = {"restore": installation.restore, "install": installation.install}
"""Asked for by name."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="emoji_model", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("stage", choices=(*STAGES, *WITH_THE_SOURCE_TREE, "all"))
    parser.add_argument("--work", type=Path, default=Path("runs/emoji"), help="working folder (default: runs/emoji)")
    parser.add_argument("--workers", type=_positive, default=2, help="processes of one thread each (default: 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--steps", type=_positive, help="steps of a training stage, or scenes of `scenes` (default: its own)"
    )
    args = parser.parse_args()
    workshop = Workshop(args.work, args.workers, args.seed, args.steps)
    try:
        for stage in STAGES if args.stage == "all" else (args.stage,):
            run = WITH_THE_SOURCE_TREE.get(stage) or getattr(Workshop, stage)
            run(workshop)
    except PahiError as error:
        messages.problem(error)
        return 1
    return 0


def _positive(text: str) -> int:
    """An integer of 1 or more. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
