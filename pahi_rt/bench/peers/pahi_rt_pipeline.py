"""pahi-rt itself: pahi_rt_pipeline.py BUNDLE RUNTIME PRECISION."""

from __future__ import annotations

import sys

from serving import serve  # type: ignore[import-not-found]

from pahi_rt import Pipeline


def main(bundle: str, runtime: str, precision: str) -> None:
    pipeline = Pipeline.load(bundle, runtime=runtime, precision=precision)
    described = pipeline.runtime.describe()
    version = f"{described['runtime']} {described['version']}"
    decoder = pipeline.bundle.manifest.autoencoder.id
    serve(lambda prompt, seed: pipeline(prompt, seed=seed), version=version, decoder=decoder)


if __name__ == "__main__":
    main(*sys.argv[1:])
