"""From a diffusers model to a bundle: load, describe, check, trace, compare, write, and only then show the result.

Everything is written into a scratch folder beside the output, which takes its place when all of it is there and every
graph has passed the parity gate. An error before that leaves nothing behind. An export that is cut off, by Ctrl-C or a
kill, leaves the folder, and the same export goes on from it, however often that takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pahi_rt.bundle import Bundle, open_bundle, write_manifest
from pahi_rt.export.bundled_scorers import add_scorers
from pahi_rt.export.calibration import FIRST_SEED, load_calibration
from pahi_rt.export.contents import Extras, check_space, list_files, remove_others
from pahi_rt.export.graph import PORTABLE_OPSET
from pahi_rt.export.journal import open_journal
from pahi_rt.export.model import load_model
from pahi_rt.export.parity import Reference, check_graphs, list_references
from pahi_rt.export.precision import ALL
from pahi_rt.export.provenance import describe, find_source
from pahi_rt.export.reference import check_generator, find_obstacle
from pahi_rt.export.reveal import BUNDLE, building
from pahi_rt.export.settings import ExportSettings
from pahi_rt.export.stages import OnStage, Stages
from pahi_rt.export.tokenizer import save_tokenizer
from pahi_rt.export.trace import round_weights, write_graphs
from pahi_rt.manifest import FORMAT_VERSION, Card, Graph, Manifest
from pahi_rt.noise import NOISE_RECIPE
from pahi_rt.tokenizer import Tokenizer


def export_bundle(
    model: str | Path,
    output: str | Path,
    *,
    name: str,
    steps: Sequence[int] = (1, 2),
    precisions: Sequence[str] = ("fp32",),
    priors: Sequence[str | Path] = (),
    scorers: Sequence[str | Path] = (),
    decoder: str | Path | None = None,
    variant: str | None = None,
    loras: Sequence[str | Path] = (),
    size: tuple[int, int] | None = None,
    opset: int = PORTABLE_OPSET,
    calibration: str | Path | None = None,
    min_psnr: float | None = None,
    card: Card | None = None,
    extra_files: Mapping[str, str | Path] | None = None,
    vocabulary: str | None = None,
    overwrite: bool = False,
    on_stage: OnStage | None = None,
) -> Bundle:
    """Export the diffusers folder or hub id `model` as the bundle `output`, a graph for each of `steps`.

    There is such a graph for each of `precisions` (see `pahi_rt.export.precision`), the first of which is the bundle's
    default, and for each of `priors`, checkpoints of `pahi-rt train`: an HI, a PAHI or both. Without priors there is
    one that starts from the standard Gaussian. `scorers` are folders of `export_scorer`, or specs as for `load_scorer`.

    `decoder`, a folder or hub id, replaces the model's own autoencoder. `variant`, such as "fp16", chooses among the
    weights that the model has, and `loras`, each FILE or FILE:SCALE, are fused into them. `size` is the pictures'
    height and width in pixels, if not those that the model was trained at. int8 is calibrated with the prompts of
    `calibration` (a source as for `load_split`), which should be like those that the model will get. `min_psnr` in dB
    replaces the precision's own limit on how near graphs of fewer bits must come to PyTorch fp32. `extra_files` (name
    in the bundle -> file) are copied, and `vocabulary` names the one of them that lists the words the model knows.

    Raises OutputError if `output` cannot be written, ParityError if a graph does not draw what PyTorch draws, and
    PahiError for a model that cannot be exported or a prior that does not fit it.
    """
    output = Path(output)
    settings = ExportSettings(tuple(steps), tuple(precisions), opset, load_calibration(calibration), min_psnr)
    extras = Extras({key: Path(path) for key, path in (extra_files or {}).items()}, vocabulary)
    with building(output, BUNDLE, overwrite=overwrite, resume=True) as folder:
        stages = Stages(folder, on_stage)
        # Once: what a branch of the hub holds may change.
        source = find_source(model, decoder, variant, loras, priors, size)
        origin = describe(source)
        key = origin.fingerprint(size, settings.steps, opset, settings.calibration, min_psnr)

        with stages.run("load model"):
            loaded = load_model(source)
            journal = open_journal(folder, key)
            check_space(output, folder, loaded, settings.precisions, extras)
            spec = save_tokenizer(source.folder, loaded.generator, folder)
        tokenizer = Tokenizer(folder / spec.file, spec.max_length, spec.pad_id)
        inputs = loaded.inputs(tokenizer)
        calibration_inputs = loaded.inputs(tokenizer, settings.calibration, FIRST_SEED)

        with stages.run("draw with PyTorch"):
            drawn = loaded.draw(inputs, settings.steps)
        obstacle = find_obstacle(loaded.generator, loaded.pipeline)
        parity = () if obstacle else check_generator(loaded, inputs, drawn, stages, journal)
        image, prior_specs = loaded.image(drawn), loaded.describe_priors(origin.priors, inputs)

        graphs: list[Graph] = []
        references: dict[str, list[Reference]] = {}
        for precision in settings.precisions:
            if precision != settings.precisions[0]:
                with stages.run("load model again"):  # less precision cannot be undone
                    loaded = load_model(source)
            variants, tolerance = loaded.variants(settings.steps, precision), settings.near(precision)
            rounded = round_weights(loaded, precision, inputs, settings.steps, stages)
            for v in variants:
                references[v.file] = list_references(
                    drawn[v.place], rounded.get(v.place), tolerance, obstacle, is_halved=ALL[precision].is_halved
                )
            if (written := journal.graphs(precision)) is None:
                written = write_graphs(loaded, variants, calibration_inputs, folder, opset, stages)
                journal.add_graphs(precision, written)
            graphs += written
            loaded.release()

        # Only now: a runtime loads the weights again, and PyTorch's are freed.
        parity += check_graphs(folder, inputs, references, stages, journal)

        judges = add_scorers(folder, scorers, (image.height, image.width), settings.precisions[0], spec.file, stages)
        with stages.run("write bundle"):
            extras.copy(folder)
            files = sorted(set(list_files(graphs, extras)).union(*(one.files for one in (judges or {}).values())))
            remove_others(folder, files)
            manifest = Manifest(
                format_version=FORMAT_VERSION,
                name=name,
                generator=origin.generator,
                autoencoder=origin.autoencoder,
                priors=prior_specs,
                image=image,
                tokenizer=spec,
                noise_recipe=NOISE_RECIPE,
                graphs=tuple(graphs),
                engines=(),
                parity=parity,
                files={file: journal.record(file) for file in files},
                tools=origin.tools,
                card=card,
                vocabulary=vocabulary,
                scorers=judges,
            )
            write_manifest(folder, manifest)
            Bundle(folder, manifest).check_graphs()
    return open_bundle(output)
