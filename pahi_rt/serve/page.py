"""The playground at `/`: the files of pahi_rt.playground, read once, and nothing else of the disk."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' blob: data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing comes from another host, and no page may frame this one."""
_PACKAGE = "pahi_rt.playground"
_INDEX_PATH = "/index.html"
_NOT_SERVED = (".py", ".pyc")
_NO_PAGE = b"pahi-rt serve: /openapi.json says what can be asked here\n"
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".webmanifest": "application/manifest+json"}


@dataclass(frozen=True)
class PageFile:
    """A file of the page."""

    content: bytes
    type: str

    @property
    def etag(self) -> str:
        """Changes with the content."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'

    async def page(self, request: Request) -> Response:
        """The file, or 304 where the browser has it already."""
        headers = {
            "Content-Security-Policy": POLICY,
            "Cache-Control": "no-cache",
            "ETag": self.etag,
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Embedder-Policy": "require-corp",
        }
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers, media_type=self.type)


def page_routes() -> list[Route]:
    """A route for each file of the page, and `/` for its index. Without a page, `/` says what else there is."""
    found = {f"/{name}": PageFile(path.read_bytes(), _type(path)) for name, path in _files()}
    if _INDEX_PATH not in found:
        found[_INDEX_PATH] = PageFile(_NO_PAGE, "text/plain")
    found["/"] = found[_INDEX_PATH]
    return [Route(path, file.page, methods=["GET"], name="page") for path, file in found.items()]


def _files() -> Iterator[tuple[str, Path]]:
    try:
        folder = Path(str(resources.files(_PACKAGE)))
    except ModuleNotFoundError:
        return
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in _NOT_SERVED:
            yield path.relative_to(folder).as_posix(), path


def _type(path: Path) -> str:
    return _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
