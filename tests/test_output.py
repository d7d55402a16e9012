from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from pahi_rt.drawing import MOST_PICTURES, Drawing, encode_png, read_drawing
from pahi_rt.errors import OutputError, PahiError
from pahi_rt.files import slug
from pahi_rt.manifest import ImageSpec
from pahi_rt.output import Destination, check_amount, contact_sheet

DRAWING = Drawing(("a red apple",), 7, 1, 1, "emoji", "ab" * 32, "0.1.0")


def solid(colour: str, size: tuple[int, int] = (8, 6)) -> Image.Image:
    return Image.new("RGB", size, colour)


def failing(code: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a red apple", "a-red-apple"),
        ("  A  Red/Apple!.png ", "a-red-apple-png"),
        ("../../etc/passwd", "etc-passwd"),
        ("ein Bär, 猫", "ein-bär-猫"),
        ("😀 ❤️", "picture"),
        ("x" * 10_000, "x" * 48),
        ("a" * 47 + " b", "a" * 47),
        ("a\nb", "a-b"),
    ],
)
def test_slug(prompt: str, name: str) -> None:
    assert slug(prompt) == name


@pytest.mark.parametrize(
    "drawing",
    [
        DRAWING,
        replace(DRAWING, prompts=("猫 with “quotes”\nand a line",), seed=2**64 - 1),
        replace(DRAWING, prompts=("a", "b\tc", "d" * 10_000), count=3),
        replace(DRAWING, prompts=("ünïcode, latin-1 only",)),
        replace(DRAWING, prior="pahi", prior_strength=1.0),
        replace(DRAWING, prior="hi", prior_strength=0.1),
    ],
)
def test_a_png_carries_its_drawing(drawing: Drawing, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(encode_png(solid("red"), drawing))
    assert read_drawing(path) == drawing
    with Image.open(path) as image:
        assert isinstance(image, PngImageFile)
        assert image.text["prompt"] == drawing.prompts[0]
        assert image.tobytes() == solid("red").tobytes()


def test_a_png_is_the_same_each_time() -> None:
    assert encode_png(solid("red"), DRAWING) == encode_png(solid("red"), DRAWING)


def png_with(**text: str) -> bytes:
    info, buffer = PngInfo(), io.BytesIO()
    for key, value in text.items():
        info.add_text(key, value)
    solid("red").save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no picture at all",
        encode_png(solid("red"), DRAWING)[:20],
        png_with(),
        png_with(parameters="a cat, 30 steps"),
        png_with(**{**DRAWING.to_text(), "seed": "seven"}),
        png_with(**{**DRAWING.to_text(), "prompts": "{}"}),
        png_with(**{**DRAWING.to_text(), "prompts": "[1]"}),
    ],
)
def test_files_that_do_not_say_how_they_were_made(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(PahiError, match=r"x\.png does not say how it was made"):
        read_drawing(path)


def test_a_jpeg_and_a_missing_file(tmp_path: Path) -> None:
    solid("red").save(tmp_path / "x.png", "JPEG")
    with pytest.raises(PahiError, match="does not say"):
        read_drawing(tmp_path / "x.png")
    with pytest.raises(PahiError) as caught:
        read_drawing(tmp_path / "missing.png")
    with pytest.raises(PahiError) as caught:
        read_drawing(tmp_path)
    assert caught.value.fix == "check the path"


def test_contact_sheet() -> None:
    sheet = contact_sheet([solid(colour) for colour in ("red", "green", "blue")], columns=2)
    assert sheet.size == (8 + 4 + 8, 6 + 4 + 6)
    assert [sheet.getpixel(place) for place in ((0, 0), (12, 0), (0, 10), (12, 10), (9, 0))] == [
        (255, 0, 0),
        (0, 128, 0),
        (0, 0, 255),
        (255, 255, 255),
        (255, 255, 255),
    ]
    assert contact_sheet([solid("red")], columns=1).size == (8, 6)


def test_names_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [Destination().save(b"1", "cat") for _ in range(3)] == [
        Path("cat.png"),
        Path("cat-2.png"),
        Path("cat-3.png"),
    ]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(
        ["cat.png", "cat-2.png", "cat-3.png"], b"1"
    )


def test_a_file_is_numbered_too(tmp_path: Path) -> None:
    wanted = tmp_path / "v1.0.png"
    wanted.write_bytes(b"old")
    assert Destination(wanted).save(b"new", "ignored") == tmp_path / "v1.0-2.png"
    assert wanted.read_bytes() == b"old"


def test_force_overwrites_what_was_there_but_not_this_run(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"old")
    (tmp_path / "cat-2.png").write_bytes(b"old")
    destination = Destination(tmp_path, force=True)
    assert [destination.save(content, "cat").name for content in (b"a", b"b")] == ["cat.png", "cat-2.png"]
    assert [(tmp_path / name).read_bytes() for name in ("cat.png", "cat-2.png")] == [b"a", b"b"]


@pytest.mark.parametrize("links", [True, False], ids=["hard-links", "no-hard-links"])
def test_many_at_once_lose_nothing(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
    contents = [bytes([value]) * 1000 for value in range(40)]
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda content: Destination(tmp_path).save(content, "cat"), contents))
    assert [path.read_bytes() for path in paths] == contents
    assert len(list(tmp_path.iterdir())) == 40


def test_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    assert Destination(tmp_path).save(b"", "cat").stat().st_mode == plain.stat().st_mode


def test_a_folder_is_made_when_the_first_picture_is_ready(tmp_path: Path) -> None:
    destination = Destination(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()
    assert destination.save(b"", "cat") == tmp_path / "new" / "folder" / "cat.png"


def test_a_folder_may_look_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "pictures.png").mkdir()
    assert Destination(tmp_path / "pictures.png").save(b"", "cat").parent == tmp_path / "pictures.png"


@pytest.mark.parametrize(
    ("target", "what", "fix"),
    [
        ("cat.jpg", "does not end in .png", "cat.png"),
        ("missing/cat.png", "there is no folder", "mkdir -p"),
        ("file/cat.png", "there is no folder", "mkdir -p"),
        ("file", "is not a folder", "choose another place"),
        ("file/deeper", "is not a folder", "choose another place"),
    ],
)
def test_places_that_cannot_be_written(target: str, what: str, fix: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=what) as caught:
        Destination(tmp_path / target)
    assert fix in caught.value.fix
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(OutputError, match="you have no permission in"):
        Destination(tmp_path / "deeper")


@pytest.mark.parametrize("force", [True, False])
def test_a_full_disk_leaves_nothing(force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    monkeypatch.setattr(os, "replace", failing(errno.ENOSPC))
    with pytest.raises(OutputError, match=r"cat\.png cannot be written: No space left"):
        Destination(tmp_path, force=force).save(b"content", "cat")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["x" * 300 + ".png", "x" * 300, "deeper/" + "x" * 300])
def test_a_name_that_is_too_long_is_refused_at_once(target: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        Destination(tmp_path / target)
    assert caught.value.fix == "use a shorter name, or choose another place with -o FILE.png or -o FOLDER"
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
import pahi_rt.output
pahi_rt.output._move = lambda *_: os.kill(os.getpid(), 9)
pahi_rt.output.Destination(Path(sys.argv[1])).save(b"content", "cat")
"""
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=60).returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    assert Destination(tmp_path).save(b"content", "cat") == tmp_path / "cat.png"
    assert [path.name for path in tmp_path.iterdir()] == ["cat.png"]


@pytest.mark.parametrize(
    ("prompts", "count"), [(("a",), 2**63), (("a",), 0), (("a",), -1), (("a",) * 2000, 1000), ((), 1)]
)
def test_a_picture_that_asks_for_absurdly_many(prompts: tuple[str, ...], count: int) -> None:
    text = {**DRAWING.to_text(), "count": str(count), "prompts": json.dumps(prompts)}
    with pytest.raises(ValueError, match="no number of pictures"):
        Drawing.from_text(text)


def test_amounts() -> None:
    size = ImageSpec(512, 512, (4, 64, 64))
    check_amount(replace(DRAWING, count=MOST_PICTURES), None)
    check_amount(replace(DRAWING, count=400), size)
    with pytest.raises(OutputError, match="1000001 pictures are too many for one command"):
        check_amount(replace(DRAWING, count=MOST_PICTURES + 1), None)
    with pytest.raises(OutputError, match=r"a sheet of 1 x 1000 pictures has \d+ pixels") as caught:
        check_amount(replace(DRAWING, count=1000), size)
    assert "--grid" in caught.value.fix
