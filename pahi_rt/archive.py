"""Bundles from a .zip or from the Hugging Face hub, unpacked or downloaded once into the user's cache.

Only files that the manifest lists are unpacked, each no longer than its listed size and with its listed sha256. They go
into a folder that is named by the manifest's sha256. The listed sizes are added up first: an archive that claims to
hold much more than weights can be compressed to, or more than fits on the disk, is refused.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from pahi_rt import hub
from pahi_rt.cache import cache_folder, make_private
from pahi_rt.errors import BundleError, HubError
from pahi_rt.hub import HubId
from pahi_rt.manifest import MANIFEST, FileRecord, Manifest, is_pickle_name, is_safe_name
from pahi_rt.manifest_file import MAX_MANIFEST, read_manifest
from pahi_rt.scratch import scratch, sweep

MOST_EXPANSION = 100
"""How many times its own size an archive may unpack to. Weights compress to half at best, text to a tenth."""
LONGEST_READ = 1 << 20
"""Bytes of one read. zipfile reads an archive's list of files at once, so this bounds it to some 10,000 files."""
_READ_ONLY = 0o444
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,  # encrypted, or of an unknown kind
    ValueError,
    OverflowError,
)
"""The exceptions of zipfile for archives that are broken, or were made to break it."""


def unpack(archive: Path) -> Path:
    """Unpack a bundle into the cache, unless it is there. Returns its folder, named by the manifest's sha256.

    Raises BundleError.
    """
    try:
        with _BoundedReader(archive) as file, zipfile.ZipFile(file) as opened:
            return _unpack(opened, archive)
    except _DAMAGE as error:
        raise BundleError(f"{archive} is not a readable .zip: {error}", fix=_fresh(archive)) from error
    except OSError as error:
        fix = f"check {archive}, and that {cache_folder('bundles')} can be written (or set XDG_CACHE_HOME)"
        raise BundleError(f"{archive} cannot be unpacked: {error}", fix=fix) from error


def download(hub_id: HubId) -> Path:
    """Download a repository's bundle into the cache, unless it is there. Returns its folder, named by the commit.

    Raises BundleError.
    """
    try:
        # All files come from the commit that the manifest came from, whatever is pushed meanwhile.
        start = hub.download(hub_id, [MANIFEST])
        manifest = read_manifest(_read_start(start / MANIFEST, hub_id), f"{hub_id}/{MANIFEST}")
        folder = cache_folder("bundles", "hub", hub_id.repository.replace("/", "--"), start.name)
        if not _is_whole(folder, manifest):
            _download_files(HubId(hub_id.repository, start.name), manifest, folder)
    except HubError as error:
        raise BundleError(error.what, fix=error.fix) from error
    except OSError as error:
        fix = f"check that {cache_folder('bundles')} can be written (or set XDG_CACHE_HOME)"
        raise BundleError(f"{hub_id} cannot be kept: {error}", fix=fix) from error
    return folder


def origin(folder: Path) -> HubId | None:
    """The repository, with its commit, that `download` got this folder from; None for any other folder."""
    owner_and_name = folder.parent
    if owner_and_name.parent != cache_folder("bundles", "hub"):
        return None
    return HubId(owner_and_name.name.replace("--", "/"), folder.name)


def _read_start(manifest: Path, hub_id: HubId) -> bytes:
    if not manifest.is_file():
        raise BundleError(f"{hub_id} is not a bundle: it has no {MANIFEST}", fix="name a repository of a bundle")
    with manifest.open("rb") as file:
        return file.read(MAX_MANIFEST + 1)


def _download_files(hub_id: HubId, manifest: Manifest, folder: Path) -> None:
    make_private(folder)
    names = [MANIFEST, *manifest.files]
    try:
        # Real files, not links into the hub's own cache: a bundle's files may not leave its folder.
        hub.download(hub_id, names, folder=folder)
    except HubError as error:
        there = sum((folder / name).is_file() for name in names)
        what = f"the download of {hub_id} is not finished, {there} of {len(names)} files are there: {error.what}"
        raise BundleError(what, fix=f"{error.fix}; files that are there are not downloaded again") from error
    if not _is_whole(folder, manifest):
        missing = next((name for name in names if not (folder / name).is_file()), "a whole file")
        what = f"the download of {hub_id} is not finished, or the repository is not whole: it lacks {missing}"
        raise BundleError(what, fix="check the network and run this again, or name another repository or revision")
    for name in names:
        (folder / name).chmod(_READ_ONLY)


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    """Whether every file is there with its listed size. Their content is checked when they are used."""
    try:
        sizes = {name: (folder / name).stat().st_size for name in manifest.files}
    except OSError:
        return False
    return (folder / MANIFEST).is_file() and sizes == {name: record.size for name, record in manifest.files.items()}


class _BoundedReader(io.FileIO):
    """Refuses long reads, which zipfile needs only for the list of files, and reads outside the file."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except OSError as error:
            raise zipfile.BadZipFile("it points outside itself") from error

    def read(self, size: int | None = -1, /) -> bytes:
        most = LONGEST_READ + 1
        content = super().read(most if size is None or size < 0 else min(size, most))
        if len(content) > LONGEST_READ:
            raise zipfile.BadZipFile("its list of files is too long")
        return content


def _unpack(archive: zipfile.ZipFile, path: Path) -> Path:
    for entry in archive.infolist():
        _check_entry(entry, path)
    prefix = _prefix(archive, path)
    raw = _read(archive, prefix + MANIFEST, MAX_MANIFEST, path)
    manifest = read_manifest(raw, f"{path}/{prefix}{MANIFEST}")
    folder = cache_folder("bundles", hashlib.sha256(raw).hexdigest())
    sweep(folder.parent)
    if not _is_whole(folder, manifest):
        make_private(folder.parent)
        _check_sizes(manifest, path, folder.parent)
        _extract(archive, path, prefix, manifest, raw, folder)
    return folder


def _check_entry(entry: zipfile.ZipInfo, where: Path) -> None:
    name = entry.filename.rstrip("/")
    if ".." in PurePosixPath(name).parts or name.startswith("/") or "\\" in entry.orig_filename:
        raise BundleError(f"{where}: {entry.filename!r} would be written outside the bundle", fix=_fresh(where))
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise BundleError(f"{where}: {entry.filename!r} is a link", fix="zip real files, without --symlinks")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BundleError(f"{where}: {entry.filename!r} is compressed in an unusual way", fix="zip it with deflate")
    if is_pickle_name(name):
        raise BundleError(f"{where}: {entry.filename!r} is a pickle; a bundle must hold none", fix=_fresh(where))


def _check_sizes(manifest: Manifest, path: Path, place: Path) -> None:
    """Raises BundleError if the files are larger than the archive can honestly hold, or than fits on `place`'s disk."""
    total, size = sum(record.size for record in manifest.files.values()), path.stat().st_size
    if total > MOST_EXPANSION * size:
        what = f"{path} has {size} bytes and claims to hold {total}, more than {MOST_EXPANSION} times as many"
        raise BundleError(what, fix=_fresh(path))
    free = shutil.disk_usage(place).free
    if total > free:
        what = f"{path} holds {total} bytes, and {place} has room for {free}"
        raise BundleError(what, fix=f"make room in {place}, or set XDG_CACHE_HOME to a folder with more")


def _prefix(archive: zipfile.ZipFile, where: Path) -> str:
    """The folder of the manifest inside the archive: the top ("") or the only folder ("emoji/")."""
    found = [name for name in archive.namelist() if PurePosixPath(name).name == MANIFEST and name.count("/") <= 1]
    if len(found) != 1 or not is_safe_name(found[0]):
        raise BundleError(f"{where} is not a bundle: it has no {MANIFEST} at its top", fix=_fresh(where))
    return found[0][: -len(MANIFEST)]


def _read(archive: zipfile.ZipFile, name: str, limit: int, where: Path) -> bytes:
    with archive.open(name) as entry:
        content = entry.read(limit + 1)
    if len(content) > limit:
        raise BundleError(f"{where}: {name} is longer than {limit} bytes", fix=_fresh(where))
    return content


def _extract(archive: zipfile.ZipFile, path: Path, prefix: str, manifest: Manifest, raw: bytes, folder: Path) -> None:
    with scratch(folder, "unpack") as made:
        ready = made / "bundle"
        make_private(ready)
        for name, record in manifest.files.items():
            make_private((ready / name).parent)
            _extract_file(archive, path, prefix + name, record, ready / name)
        (ready / MANIFEST).write_bytes(raw)
        (ready / MANIFEST).chmod(_READ_ONLY)
        if not _is_whole(folder, manifest):  # otherwise another process has just unpacked the same archive
            _replace(ready, folder, made / "broken")


def _extract_file(archive: zipfile.ZipFile, path: Path, name: str, record: FileRecord, target: Path) -> None:
    digest, size = hashlib.sha256(), 0
    try:
        entry = archive.open(name)
    except KeyError as error:
        raise BundleError(f"{path} lacks {name}", fix=_fresh(path)) from error
    with entry, target.open("wb") as file:
        while (chunk := entry.read(LONGEST_READ)) and size <= record.size:
            digest.update(chunk)
            size += file.write(chunk)
        # A crash of the machine must not leave a folder that looks whole.
        file.flush()
        os.fsync(file.fileno())
    target.chmod(_READ_ONLY)
    if size != record.size or digest.hexdigest() != record.sha256:
        raise BundleError(f"{path}: {name} is not what the manifest says", fix=_fresh(path))


def _replace(ready: Path, folder: Path, aside: Path) -> None:
    """Put `ready` in the place of `folder`, which may hold an incomplete bundle."""
    try:
        ready.rename(folder)
    except OSError:
        folder.rename(aside)
        ready.rename(folder)


def _fresh(archive: Path) -> str:
    return f"get a fresh copy of {archive}, or name another bundle"
