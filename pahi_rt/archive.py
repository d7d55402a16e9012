"""Bundles that come as one .zip or from the Hugging Face hub, brought once into the user's cache.

Only files that the manifest lists are unpacked, each no longer than its listed size and with its listed
sha256, so an archive can neither fill the disk nor write outside its folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from pahi_rt.errors import BundleError
from pahi_rt.manifest import MANIFEST, FileRecord, Manifest, is_pickle_name, is_safe_name, read_manifest

_LARGEST_MANIFEST = 16 << 20


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/pahi-rt/bundles, or ~/.cache/pahi-rt/bundles."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pahi-rt" / "bundles"


def unpack(archive: Path) -> Path:
    """The folder that holds `archive`'s bundle, named by its manifest's sha256. Raises BundleError."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return _unpack(opened, str(archive))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise BundleError(f"{archive} is not a readable .zip: {error}", fix=_fresh(archive)) from error
    except OSError as error:
        fix = f"check {archive}, and that {cache_folder()} can be written (or set XDG_CACHE_HOME)"
        raise BundleError(f"{archive} cannot be unpacked: {error}", fix=fix) from error


def download(repository: str) -> Path:
    """The folder that holds the bundle of a hub repository ("owner/name"). Raises BundleError."""
    folder = cache_folder() / "hub" / repository.replace("/", "--")
    _fetch(repository, folder, [MANIFEST])
    manifest = read_manifest((folder / MANIFEST).read_bytes(), f"{repository}/{MANIFEST}")
    _fetch(repository, folder, list(manifest.files))
    return folder


def _fetch(repository: str, folder: Path, names: list[str]) -> None:
    from huggingface_hub import snapshot_download

    try:
        # Real files rather than links into the hub's own cache: a bundle's files may not leave it.
        snapshot_download(repository, allow_patterns=names, local_dir=folder)
    except Exception as error:  # the hub's releases raise requests', httpx's and their own exceptions
        reason = str(error).strip().split("\n")[0]
        fix = "check the name (see `pahi-rt bundles`), the network and `hf auth login`"
        raise BundleError(f"no bundle {repository!r} here or on the hub: {reason}", fix=fix) from error
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise BundleError(f"hub repository {repository!r} has no {missing[0]}", fix="name a repository of a bundle")


def _unpack(archive: zipfile.ZipFile, where: str) -> Path:
    for entry in archive.infolist():
        _check_entry(entry, where)
    prefix = _prefix(archive, where)
    raw = _read(archive, prefix + MANIFEST, _LARGEST_MANIFEST, where)
    manifest = read_manifest(raw, f"{where}/{prefix}{MANIFEST}")
    folder = cache_folder() / hashlib.sha256(raw).hexdigest()
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _extract(archive, prefix, manifest, raw, folder)
    return folder


def _check_entry(entry: zipfile.ZipInfo, where: str) -> None:
    name = entry.filename.rstrip("/")
    if ".." in PurePosixPath(name).parts or name.startswith("/") or "\\" in entry.orig_filename:
        raise BundleError(f"{where}: {entry.filename!r} would be written outside the bundle", fix=_fresh(where))
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise BundleError(f"{where}: {entry.filename!r} is a link", fix="zip real files, without --symlinks")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BundleError(f"{where}: {entry.filename!r} is compressed in an unusual way", fix="zip it with deflate")
    if is_pickle_name(name):
        raise BundleError(f"{where}: {entry.filename!r} is a pickle; a bundle must hold none", fix=_fresh(where))


def _prefix(archive: zipfile.ZipFile, where: str) -> str:
    """Where the manifest is: at the top ("") or in the only folder ("emoji/")."""
    found = [name for name in archive.namelist() if PurePosixPath(name).name == MANIFEST and name.count("/") <= 1]
    if len(found) != 1 or not is_safe_name(found[0]):
        raise BundleError(f"{where} is not a bundle: it has no {MANIFEST} at its top", fix=_fresh(where))
    return found[0][: -len(MANIFEST)]


def _read(archive: zipfile.ZipFile, name: str, limit: int, where: str) -> bytes:
    with archive.open(name) as entry:
        content = entry.read(limit + 1)
    if len(content) > limit:
        raise BundleError(f"{where}: {name} is longer than {limit} bytes", fix=_fresh(where))
    return content


def _extract(archive: zipfile.ZipFile, prefix: str, manifest: Manifest, raw: bytes, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as scratch:
        ready = Path(scratch) / "bundle"
        for name, record in manifest.files.items():
            (ready / name).parent.mkdir(parents=True, exist_ok=True)
            _extract_file(archive, prefix + name, record, ready / name)
        (ready / MANIFEST).write_bytes(raw)
        _move(ready, folder)


def _extract_file(archive: zipfile.ZipFile, name: str, record: FileRecord, target: Path) -> None:
    digest, size = hashlib.sha256(), 0
    try:
        entry = archive.open(name)
    except KeyError as error:
        raise BundleError(f"{archive.filename} lacks {name}", fix=_fresh(archive.filename)) from error
    with entry, target.open("wb") as file:
        while (chunk := entry.read(1 << 20)) and size <= record.size:
            digest.update(chunk)
            size += file.write(chunk)
    if size != record.size or digest.hexdigest() != record.sha256:
        raise BundleError(f"{archive.filename}: {name} is not what the manifest says", fix=_fresh(archive.filename))


def _move(ready: Path, folder: Path) -> None:
    try:
        ready.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        # Another process has just unpacked the same bundle; the end of `scratch` removes ours.
        shutil.rmtree(ready)


def _fresh(archive: object) -> str:
    return f"get a fresh copy of {archive}, or name another bundle"
