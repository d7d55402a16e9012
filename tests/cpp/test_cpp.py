"""The C library against Python: the same ids, the same pictures, and an error for everything else."""

from __future__ import annotations

import ctypes
import json
import random
import re
import shutil
import threading
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import pahi_rt
from pahi_rt import Pipeline
from pahi_rt.bundle import file_record, open_bundle
from pahi_rt.errors import PromptError
from pahi_rt.tokenizer import Tokenizer
from tests.cpp.bundles import IMAGE, showing, write_bundle
from tests.cpp.library import (
    DEPENDENCIES,
    ROOT,
    SOURCE,
    STATUSES,
    Failed,
    Library,
    Log,
    Opened,
    Options,
    Progress,
    Request,
    build,
    run,
    usual_places,
)
from tests.prompts import WORDS, varied_prompt

pytestmark = [
    pytest.mark.cpp,
    pytest.mark.skipif(not DEPENDENCIES.is_dir(), reason=f"there is no {DEPENDENCIES}: run make .venv/.cpp"),
]

EMOJI = open_bundle("emoji").path


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the documentation's commands need, where they have been run, except for what needs a network."""
    folder = tmp_path_factory.mktemp("cpp")
    for part in ("cpp", "pahi_rt/assets/emoji"):
        shutil.copytree(ROOT / part, folder / part)
    page = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"```\napt install .*?\n(.*?)```", page, re.DOTALL)
    places = usual_places()
    library = places.pop("CMAKE_LIBRARY_PATH")  # which the commands say themselves
    environment = places | {"CFLAGS": "-Werror", "CXXFLAGS": "-Werror", "DESTDIR": str(folder / "root")}
    for command in commands.replace("\\\n", " ").splitlines():
        if command.startswith("curl "):
            # In the place of the release: the same folders, with Debian's headers and the wheel's library.
            (release,) = re.findall(r"/(onnxruntime-linux-x64-[0-9.]+)\.tgz", command)
            (folder / release).mkdir()
            (folder / release / "include").symlink_to(DEPENDENCIES / "root" / "usr" / "include" / "onnxruntime")
            (folder / release / "lib").symlink_to(library)
        elif command != "ldconfig":
            run(["sh", "-c", command], folder, **environment)
    return folder


@pytest.fixture(scope="module")
def built(checkout: Path) -> Path:
    return checkout / "build" / "cpp"


@pytest.fixture(scope="module")
def library(built: Path) -> Library:
    return Library(built / "libpahi.so")


@pytest.fixture(scope="module")
def opened(library: Library) -> Opened:
    return library.open(EMOJI)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load("emoji", runtime="onnxruntime")


def difference(picture: np.ndarray[Any, Any], expected: Image.Image) -> int:
    """The largest, in levels."""
    return int(np.abs(picture.astype(int) - np.asarray(expected, int)).max())


@pytest.mark.parametrize("prompt", ["a grinning cat", "PANDA!! 🐼", "cat " * 200])
@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_pictures_are_those_of_python(opened: Opened, pipeline: Pipeline, prompt: str, seed: int) -> None:
    for strength in (0.0, 0.5, 1.0):
        (picture,) = opened.draw(prompt, seed=seed, prior_strength=strength)
        assert difference(picture, pipeline(prompt, seed=seed, prior_strength=strength)) <= 1


@pytest.mark.parametrize("prior", ["hi", "pahi", "gaussian"])
def test_every_graph_can_be_chosen(library: Library, prior: str) -> None:
    for steps in (1, 2):
        (picture,) = library.open(EMOJI, steps=steps, prior=prior.encode(), threads=1).draw("rocket", seed=3)
        expected = Pipeline.load("emoji", steps=steps, prior=prior, runtime="onnxruntime")("rocket", seed=3)
        assert difference(picture, expected) <= 1


def test_several_pictures_have_the_next_seeds(opened: Opened, pipeline: Pipeline) -> None:
    for picture, expected in zip(
        opened.draw("skull", seed=5, count=3), pipeline("skull", seed=5, count=3), strict=True
    ):
        assert difference(picture, expected) <= 1


def test_threads_may_share_a_pipeline(opened: Opened) -> None:
    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(lambda seed: opened.draw("guitar", seed=seed % 4), range(24)))
    for seed, picture in enumerate(pictures):
        assert np.array_equal(picture, pictures[seed % 4])


@pytest.fixture
def patient(library: Library, tmp_path: Path) -> Opened:
    """Of up to 1024 ids: with the model's own 24, most of a prompt would be cut away before it is compared."""
    return library.open(write_bundle(tmp_path / "patient", showing(IMAGE, tokens=1024), tokens=1024))


def test_ten_thousand_prompts_have_the_ids_of_tokenizers(patient: Opened) -> None:
    python, chance = Tokenizer(EMOJI / "tokenizer.json", 1024, 0), random.Random(0)
    for _ in range(10_000):
        prompt = varied_prompt(chance)
        try:
            expected = python.encode([prompt]).input_ids[0].tolist()
        except PromptError:
            with pytest.raises(Failed, match="bad prompt"):
                patient.tokenize(prompt.encode())
            continue
        assert patient.tokenize(prompt.encode()) == expected, repr(prompt)


def test_marks_are_ordered_as_tokenizers_does(patient: Opened) -> None:
    python = Tokenizer(EMOJI / "tokenizer.json", 1024, 0)
    marks = [chr(point) for point in range(0x300, 0x20000) if unicodedata.category(chr(point)) == "Mn"]
    for mark in [*marks, "\u11a7", "\U00011930", "\U00011938"]:
        for prompt in (f"a\u0345{mark}e{mark}\u0323", f"가{mark}\u0301 \U00011935{mark}"):
            assert patient.tokenize(prompt.encode()) == python.encode([prompt]).input_ids[0].tolist(), ascii(prompt)


@pytest.mark.parametrize("text", ["\u0301\u0323", "a", "<|endoftext|>", "!", "a ", "'s"])
def test_a_million_characters_take_no_more_than_seconds(opened: Opened, text: str) -> None:
    started = time.monotonic()
    opened.tokenize((text * (1_000_000 // len(text))).encode())
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "prompt, message", [(b"\xff", "no UTF-8"), (b"", "empty"), (b" \t\n", "empty"), ("\u2003".encode(), "empty")]
)
def test_what_is_no_prompt(opened: Opened, prompt: bytes, message: str) -> None:
    with pytest.raises(Failed, match=f"bad prompt: .*{message}"):
        opened.draw(prompt)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"count": 0}, "count is 0"),
        ({"count": 2, "seed": 2**64 - 1}, "no seeds past"),
        ({"prior_strength": 1.5}, "none of 0..1"),
        ({"prior_strength": float("nan")}, "none of 0..1"),
        ({"struct_size": 4}, "struct_size"),
        ({"struct_size": 20}, "struct_size"),
        ({"struct_size": 4096}, "struct_size"),
        ({"prompt": None}, "prompt is NULL"),
        ({"room": 128 * 128 * 3 - 1}, "too small"),
    ],
)
def test_what_cannot_be_drawn(opened: Opened, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(Failed, match=f"bad argument: .*{message}"):
        opened.draw(**{"prompt": "panda"} | fields)


def test_an_older_header_is_given_what_it_has_room_for(library: Library) -> None:
    request = Request()
    request.count = 77
    library.c.pahi_request_init_sized(ctypes.byref(request), ctypes.c_size_t(24))  # size, prompt and seed
    assert (request.struct_size, request.count) == (24, 77)


def test_a_strength_without_a_prior(library: Library) -> None:
    with pytest.raises(Failed, match="too many threads"):
        library.open(EMOJI, threads=2**32 - 1)
    with pytest.raises(Failed, match="needs a prior"):
        library.open(EMOJI, prior=b"gaussian").draw("panda", prior_strength=0.5)


def test_progress_is_told_and_can_end_it(opened: Opened) -> None:
    seen: list[tuple[int, int]] = []
    tell = Progress(lambda _, done, total: seen.append((done, total)) or int(done == 2))
    with pytest.raises(Failed, match="cancelled"):
        opened.draw("panda", count=4, progress=tell)
    assert seen == [(1, 4), (2, 4)]


def test_pictures_before_a_cancellation_stay(opened: Opened) -> None:
    """And progress is told in the thread that draws."""
    expected, threads, size = opened.draw("panda", count=2, seed=5), set(), 128 * 128 * 3

    def tell(_: object, done: int, __: int) -> int:
        threads.add(threading.get_ident())
        return int(done == 2)

    request, rgb = Request(), (ctypes.c_uint8 * (4 * size))()
    opened.library.c.pahi_request_init_sized(ctypes.byref(request), ctypes.c_size_t(ctypes.sizeof(request)))
    request.prompt, request.seed, request.count, request.progress = b"panda", 5, 4, Progress(tell)
    status = opened.library.c.pahi_draw(opened.handle, ctypes.byref(request), rgb, ctypes.c_size_t(4 * size))
    assert STATUSES[status] == "cancelled"
    assert bytes(rgb)[: 2 * size] == expected.tobytes()
    assert threads == {threading.get_ident()}


def test_null_is_an_argument_like_any_other(library: Library, opened: Opened) -> None:
    handle = ctypes.c_void_p()
    assert library.c.pahi_open(None, None, ctypes.byref(handle)) == 1
    assert library.c.pahi_open(b"x", None, None) == 1
    handle = ctypes.c_void_p(7)
    assert STATUSES[library.c.pahi_open(b"x", None, ctypes.byref(handle))] == "bad bundle" and handle.value is None
    assert library.c.pahi_draw(None, None, None, 0) == 1
    assert library.c.pahi_tokenize(opened.handle, None, None, 0, None) == 1
    library.c.pahi_close(None)
    library.c.pahi_options_init_sized(None, ctypes.c_size_t(8))
    assert library.c.pahi_version() == pahi_rt.__version__.encode()


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "pahi.json").read_text())
    change(manifest)
    (folder / "pahi.json").write_text(json.dumps(manifest))


def list_again(path: Path) -> None:
    """Let the manifest say what the file is now."""
    edit(path.parent, lambda manifest: manifest["files"].update({path.name: file_record(path).to_dict()}))


def outside(name: str) -> Callable[[dict[str, Any]], object]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["tokenizer"]["file"] = name
        manifest["files"][name] = manifest["files"]["tokenizer.json"]

    return change


def of_another_length(manifest: dict[str, Any]) -> None:
    """Everywhere in the manifest, but not in the graphs."""
    manifest["tokenizer"]["max_length"] = 25
    for graph in manifest["graphs"]:
        graph["inputs"][0]["shape"][1] = 25


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m: m.update(format_version=99), "format 99"),
        (lambda m: m.update(noise_recipe="other"), "noise recipe other"),
        (lambda m: m.update(graphs=[]), "no graphs"),
        (lambda m: m.pop("image"), "cannot be read"),
        (lambda m: m["image"].update(height=-1), "makes no sense"),
        (lambda m: m["image"].update(height=1e300), "makes no sense"),
        (lambda m: m["image"].update(height=True), "makes no sense"),
        (lambda m: m["image"].update(latent_shape=[65536] * 3), "makes no sense"),
        (lambda m: m["image"].update(latent_shape=[4, 16, 17]), "other inputs or outputs than"),
        (lambda m: m["image"].update(width=127), "other inputs or outputs than"),
        (of_another_length, "its 'input_ids' is not what"),
        (lambda m: m["tokenizer"].update(pad_id=-1), "makes no sense"),
        (lambda m: m["graphs"][0].update(prior="best"), "makes no sense"),
        (lambda m: m.update(format_version=2**32 + 3), "makes no sense"),
        (lambda m: m["files"].pop("tokenizer.json"), "does not list it"),
        (lambda m: m["files"]["tokenizer.json"].update(size=7), "instead of 7"),
        (outside("/etc/passwd"), "not a path inside"),
        (outside("../tokenizer.json"), "not a path inside"),
        (outside("a/../../x"), "not a path inside"),
    ],
)
def test_manifests_that_are_refused(library: Library, copy: Path, change: Any, message: str) -> None:
    edit(copy, change)
    with pytest.raises(Failed, match=f"bad bundle: .*{message}"):
        library.open(copy)


def test_damaged_files_are_refused(library: Library, copy: Path) -> None:
    weights = copy / "weights-w16.bin"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.raises(Failed, match="bad bundle: .*bytes instead of"):
        library.open(copy)
    weights.unlink()
    with pytest.raises(Failed, match="bad bundle: .*cannot be read"):
        library.open(copy)
    weights.symlink_to(EMOJI / "weights-w16.bin")
    with pytest.raises(Failed, match="bad bundle: .*is a link"):
        library.open(copy)


def test_another_tokenizer_is_refused(library: Library, copy: Path) -> None:
    path = copy / "tokenizer.json"
    content = path.read_text()
    path.write_text(content.replace('"byte_fallback": false', '"byte_fallback": true '))
    list_again(path)
    with pytest.raises(Failed, match="bad bundle: the tokenizer is not CLIP's"):
        library.open(copy)
    path.write_text(" " * len(content.encode()))
    list_again(path)
    with pytest.raises(Failed, match="bad bundle: the tokenizer cannot be read"):
        library.open(copy)


def test_what_the_library_says_is_heard(library: Library) -> None:
    heard: list[tuple[int, str]] = []
    log = Log(lambda _, level, text: heard.append((level, text.decode())))
    library.open(EMOJI, log=log)
    assert heard[-1][0] == 0 and heard[-1][1].endswith("emoji: one-step-pahi-w16.onnx")


def test_each_pipeline_has_its_own_log(library: Library, copy: Path) -> None:
    """ONNX Runtime has one environment for all, which outlives the first of them."""
    heard: list[list[str]] = [[], []]
    first, second = (Log(lambda _, level, text, own=own: own.append(text.decode())) for own in heard)
    opened: Any = library.open(EMOJI, log=first)
    graph = copy / "one-step-pahi-w16.onnx"
    model = onnx.load(graph, load_external_data=False)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float32), "superfluous"))
    onnx.save(model, graph)
    list_again(graph)
    for _ in range(2):
        library.open(copy, log=second)
        assert sum("superfluous" in text for text in heard[1]) == 1
        heard[1].clear()
        opened = None
    assert opened is None and [text.rpartition(": ")[2] for text in heard[0]] == [graph.name]


def test_what_is_no_bundle(library: Library, tmp_path: Path) -> None:
    with pytest.raises(Failed, match="bad bundle: .*cannot be read"):
        library.open(tmp_path / "nothing")
    (tmp_path / "pahi.json").write_text("{")
    with pytest.raises(Failed, match="bad bundle: .*cannot be read"):
        library.open(tmp_path)
    for options in ({"steps": 9}, {"prior": b"other"}, {"precision": b"int3"}):
        with pytest.raises(Failed, match="bad bundle: the bundle has no graph"):
            library.open(EMOJI, **options)


def test_the_commands_of_the_documentation(checkout: Path, pipeline: Pipeline) -> None:
    with Image.open(checkout / "cat.png") as image:
        assert difference(np.asarray(image), pipeline("a grinning cat", seed=7)) <= 1
    assert (checkout / "root" / "usr" / "local" / "include" / "pahi.h").is_file()


def test_the_example_writes_a_png(built: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    target = tmp_path / "cat.png"
    words = [str(built / "pahi-generate"), str(EMOJI), "a grinning cat", "-o", str(target), "--seed", "7"]
    assert run(words) == f"{target}\n"
    with Image.open(target) as image:
        assert difference(np.asarray(image), pipeline("a grinning cat", seed=7)) <= 1
    with pytest.raises(RuntimeError, match="error: the prompt is empty"):
        run([*words[:2], " ", *words[3:]])


def test_the_example_draws_several(built: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    """Below one another."""
    target = tmp_path / "cats.png"
    words = [str(built / "pahi-generate"), str(EMOJI), "a grinning cat", "-o", str(target), "-n", "2"]
    run([*words, "--seed", str(2**64 - 2), "--strength", "0.5", "--precision", "w16", "--threads", "1"])
    with Image.open(target) as image:
        halves = np.split(np.asarray(image), 2)
    for half, expected in zip(
        halves, pipeline("a grinning cat", seed=2**64 - 2, count=2, prior_strength=0.5), strict=True
    ):
        assert difference(half, expected) <= 1


@pytest.mark.parametrize(
    "words, message",
    [
        (["--seed", "-1"], "from 0 to 18446744073709551615 is due after --seed"),
        (["--seed", "1e3"], "is due after --seed"),
        (["--seed", ""], "is due after --seed"),
        (["--seed", " 1"], "is due after --seed"),
        (["--seed", str(2**64)], "is due after --seed"),
        (["--steps", str(2**32 + 1)], "from 1 to 4294967295 is due after --steps"),
        (["--threads", "two"], "is due after --threads"),
        (["-n", "0"], "from 1 to 100 is due after -n"),
        (["--strength", "1.1"], "from 0 to 1 is due after --strength"),
        (["--strength", "nan"], "from 0 to 1 is due after --strength"),
        (["--strength", "0,5"], "from 0 to 1 is due after --strength"),
        (["--strength", ""], "from 0 to 1 is due after --strength"),
        (["--prior"], "a value is missing after --prior"),
        (["--size", "64"], "there is no option --size"),
    ],
)
def test_the_example_called_wrongly(built: Path, tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(RuntimeError, match=f"ended with 2:\nerror: .*{message}"):
        run([str(built / "pahi-generate"), str(EMOJI), "panda", *words], tmp_path)


def test_the_header_is_c99(tmp_path: Path) -> None:
    (tmp_path / "own.c").write_text(
        '#include "pahi.h"\nint main(void) { pahi_options o; return (int)sizeof o == 0; }\n'
    )
    flags = ["-std=c99", "-pedantic-errors", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    run(["cc", *flags, f"-I{SOURCE / 'include'}", str(tmp_path / "own.c")])
    assert ctypes.sizeof(Options) % ctypes.sizeof(ctypes.c_void_p) == 0


VERSION = r"""
#include <pahi.h>
#include <stdio.h>
int main(void) {
  printf("%d.%d.%d %s\n", PAHI_VERSION_MAJOR, PAHI_VERSION_MINOR, PAHI_VERSION_PATCH, pahi_version());
  return 0;
}
"""


@pytest.mark.parametrize("libraries", ["lib", "/elsewhere/lib"])
def test_other_projects_find_it(built: Path, tmp_path: Path, libraries: str) -> None:
    """With CMAKE_INSTALL_LIBDIR inside the prefix, which is chosen at last, and outside."""
    prefix, mine = tmp_path / "prefix", tmp_path / "mine"
    folder = str(tmp_path) + libraries if libraries.startswith("/") else libraries
    configured = tmp_path / "configured" if folder == libraries else prefix
    options = [f"-DCMAKE_INSTALL_PREFIX={configured}", f"-DCMAKE_INSTALL_LIBDIR={folder}"]
    run(["cmake", *options, str(built)])
    run(["ninja", "-C", str(built)])
    run(["cmake", "--install", str(built), "--prefix", str(prefix)])
    run([str(prefix / "bin" / "pahi-generate"), str(EMOJI), "panda", "-o", str(tmp_path / "x.png")])
    place = prefix / folder  # where `folder` is absolute, this is `folder`
    mine.mkdir()
    (mine / "main.c").write_text(VERSION)
    (mine / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(mine C)\nfind_package(pahi 0.2 REQUIRED)\n"
        "add_executable(mine main.c)\ntarget_link_libraries(mine pahi::pahi)\n"
    )
    run(["cmake", "-S", str(mine), "-B", str(mine / "build"), f"-DCMAKE_PREFIX_PATH={place.parent}"])
    run(["cmake", "--build", str(mine / "build")])
    assert run([str(mine / "build" / "mine")]) == f"{pahi_rt.__version__} {pahi_rt.__version__}\n"
    config = {"PKG_CONFIG_PATH": str(place / "pkgconfig")}
    # What is outside of the prefix does not move with it.
    moved = ["--define-prefix"] if folder == libraries else []
    flags = run(["pkg-config", "--cflags", "--libs", *moved, "pahi"], **config)
    run(["cc", str(mine / "main.c"), "-o", str(mine / "second"), *flags.split()])


def test_the_program_of_the_documentation(built: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```c\n(.*?)```", page, re.DOTALL)
    (tmp_path / "cat.c").write_text(code)
    flags = ["-std=c99", "-Wall", "-Werror", f"-I{SOURCE / 'include'}", f"-L{built}", f"-Wl,-rpath,{built}"]
    run(["cc", *flags, str(tmp_path / "cat.c"), "-o", str(tmp_path / "cat"), "-lpahi"])
    run([str(tmp_path / "cat"), str(EMOJI), str(tmp_path / "cat.ppm")])
    with Image.open(tmp_path / "cat.ppm") as image:
        assert difference(np.asarray(image), pipeline("a grinning cat", seed=7)) <= 1


def test_the_program_among_the_examples(built: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{SOURCE / 'include'}", f"-L{built}", f"-Wl,-rpath,{built}"]
    run(["cc", *flags, str(ROOT / "examples" / "pair.c"), "-o", str(tmp_path / "pair"), "-lpahi"])
    run([str(tmp_path / "pair"), str(EMOJI), "panda", str(tmp_path / "pair.ppm")])
    with Image.open(tmp_path / "pair.ppm") as image:
        halves = np.split(np.asarray(image), 2, axis=1)
    for strength, half in enumerate(halves):
        assert difference(half, pipeline("panda", seed=7, prior_strength=strength)) <= 1
    with pytest.raises(RuntimeError, match="error: the prompt is empty"):
        run([str(tmp_path / "pair"), str(EMOJI), " ", str(tmp_path / "none.ppm")])


@pytest.mark.slow
def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    folder = build(tmp_path / "build", "-DPAHI_SANITIZE=ON", "-DCMAKE_BUILD_TYPE=Debug")
    words = [str(folder / "pahi-generate"), str(EMOJI)]
    # What ONNX Runtime leaves behind at its end is its own.
    quiet = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "halt_on_error=1"}
    for prompt in ("a grinning cat", "PANDA!! 🐼 " * 300, "<|endoftext|>ΣΑΣ e\u0301"):
        run([*words, prompt, "-o", str(tmp_path / "x.png")], **quiet)
    for prompt in (" ", "\udcff"):
        with pytest.raises(RuntimeError, match="error: the prompt"):
            run([*words, prompt, "-o", str(tmp_path / "x.png")], **quiet)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tokenizer", "vocabulary", "manifest", "graph"])
def test_fuzzers_find_nothing(name: str, tmp_path: Path) -> None:
    if shutil.which("clang++") is None:
        pytest.skip("libFuzzer needs clang++")
    compilers = ("-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++")
    folder = build(tmp_path / "build", "-DPAHI_FUZZ=ON", "-DPAHI_EXAMPLES=OFF", *compilers)
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    files = {"vocabulary": "tokenizer.json", "manifest": "pahi.json", "graph": "one-step-pahi-w16.onnx"}
    texts = [(EMOJI / files[name]).read_bytes()] if name in files else [word.encode() for word in WORDS]
    for number, text in enumerate(texts):
        (seeds / str(number)).write_bytes(text)
    words = [str(folder / f"fuzz-{name}"), "-max_total_time=60", f"-artifact_prefix={tmp_path}/", str(seeds)]
    run(words, PAHI_TOKENIZER=str(EMOJI / "tokenizer.json"), PAHI_MANIFEST=str(EMOJI / "pahi.json"))
