"""The C library, built here with CMake, and called through its C interface as any other language would."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "cpp"
DEPENDENCIES = ROOT / ".venv" / "cpp"
NVIDIA = ROOT / ".venv" / "nvidia"
STATUSES = ("ok", "bad argument", "bad prompt", "bad bundle", "runtime error", "cancelled", "out of memory")

Log = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
Progress = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32)


class Options(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("steps", ctypes.c_uint32),
        ("prior", ctypes.c_char_p),
        ("precision", ctypes.c_char_p),
        ("runtime", ctypes.c_char_p),
        ("threads", ctypes.c_uint32),
        ("log", Log),
        ("log_user", ctypes.c_void_p),
    )


class Request(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("prompt", ctypes.c_char_p),
        ("seed", ctypes.c_uint64),
        ("count", ctypes.c_uint32),
        ("prior_strength", ctypes.c_float),
        ("progress", Progress),
        ("progress_user", ctypes.c_void_p),
    )


class Failed(Exception):
    """A status that is not PAHI_OK, and the library's words."""


class Library:
    def __init__(self, path: Path) -> None:
        self.c = ctypes.CDLL(str(path))
        self.c.pahi_last_error.restype = self.c.pahi_version.restype = ctypes.c_char_p

    def open(self, folder: Path, **options: Any) -> Opened:
        own, handle = Options(), ctypes.c_void_p()
        self.c.pahi_options_init_sized(ctypes.byref(own), ctypes.c_size_t(ctypes.sizeof(own)))
        for name, value in options.items():
            setattr(own, name, value)
        self.check(self.c.pahi_open(os.fsencode(folder), ctypes.byref(own), ctypes.byref(handle)))
        return Opened(self, handle)

    def check(self, status: int) -> None:
        if status:
            raise Failed(f"{STATUSES[status]}: {self.c.pahi_last_error().decode()}")


class Opened:
    """A pipeline; closed with the object."""

    def __init__(self, library: Library, handle: ctypes.c_void_p) -> None:
        self.library, self.handle = library, handle
        width, height = ctypes.c_uint32(), ctypes.c_uint32()
        library.check(library.c.pahi_image_size(handle, ctypes.byref(width), ctypes.byref(height)))
        self.shape = (height.value, width.value, 3)

    def __del__(self) -> None:
        self.library.c.pahi_close(self.handle)

    def draw(self, prompt: bytes | str | None, room: int | None = None, **fields: Any) -> NDArray[np.uint8]:
        """Pictures [count, H, W, 3]; `room` is the size that is told, if not what they need."""
        request = Request()
        self.library.c.pahi_request_init_sized(ctypes.byref(request), ctypes.c_size_t(ctypes.sizeof(request)))
        request.prompt = prompt.encode() if isinstance(prompt, str) else prompt
        for name, value in fields.items():
            setattr(request, name, value)
        pictures = np.zeros((max(1, min(request.count, 64)), *self.shape), np.uint8)
        size = pictures.nbytes if room is None else room
        pointer = pictures.ctypes.data_as(ctypes.c_void_p)
        draw: Callable[..., int] = self.library.c.pahi_draw
        self.library.check(draw(self.handle, ctypes.byref(request), pointer, ctypes.c_size_t(size)))
        return pictures

    def tokenize(self, prompt: bytes) -> list[int]:
        ids, count = (ctypes.c_int64 * 1024)(), ctypes.c_size_t()
        self.library.check(self.library.c.pahi_tokenize(self.handle, prompt, ids, 1024, ctypes.byref(count)))
        return list(ids[: count.value])


def usual_places() -> dict[str, str]:
    """What makes CMake look where the packages were unpacked, and for ONNX Runtime's wheel."""
    return {"CMAKE_PREFIX_PATH": str(DEPENDENCIES / "root" / "usr"), "CMAKE_LIBRARY_PATH": str(_onnxruntime())}


def _onnxruntime() -> Path:
    """A folder with the wheel's library under the names that linkers and loaders look for."""
    import onnxruntime

    # Its real place: the folder may be shared by several checkouts.
    (library,) = (Path(onnxruntime.__file__).resolve().parent / "capi").glob("libonnxruntime.so.*.*")
    folder = DEPENDENCIES / "onnxruntime"
    folder.mkdir(exist_ok=True)
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(library)
    return folder


def build(folder: Path, *options: str) -> Path:
    run(["cmake", "-S", str(SOURCE), "-B", str(folder), "-G", "Ninja", *options], **usual_places())
    run(["ninja", "-C", str(folder)])
    return folder


def run(words: list[str], folder: Path | None = None, /, **environment: str) -> str:
    """Run in `folder`; standard output. RuntimeError with what it printed if it fails."""
    programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # cmake and ninja
    own = os.environ | {"PATH": programs} | environment
    done = subprocess.run(words, capture_output=True, text=True, env=own, cwd=folder)
    if done.returncode:
        raise RuntimeError(f"{words[0]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout
