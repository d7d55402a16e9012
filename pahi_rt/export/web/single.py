"""A whole site in one HTML file: every other file is base64 in it, and modules name each other by blob: URLs."""

from __future__ import annotations

import base64
import hashlib
import posixpath
import re
from collections.abc import Iterator, Mapping

_IMPORT = re.compile(r'((?:from|import)\s*)"(\.{1,2}/[^"]+\.js)"')
_BOOT = """
const link = (contents, order) => {
  const urls = {};
  for (const name of order) {
    const text = new TextDecoder().decode(contents[name]);
    const linked = text.replace(/"pahi:([^"]+)"/g, (_, other) => JSON.stringify(urls[other]));
    urls[name] = URL.createObjectURL(new Blob([linked], { type: "text/javascript" }));
  }
  globalThis.pahiHeld = { contents, urls };
};

const beginWorker = () => {
  const waiting = [];
  const wait = ({ data }) => waiting.push(data);
  const begin = async ({ data: { contents, order } }) => {
    self.addEventListener("message", wait);
    link(contents, order);
    await import(pahiHeld.urls["browser/worker.js"]);
    self.removeEventListener("message", wait);
    for (const data of waiting) self.dispatchEvent(new MessageEvent("message", { data }));
  };
  self.addEventListener("message", begin, { once: true });
};

const contents = {}, order = [];
for (const element of document.querySelectorAll("script[data-file]")) {
  const bytes = await (await fetch(`data:;base64,${element.textContent}`)).arrayBuffer();
  contents[element.dataset.file] = new Uint8Array(bytes);
  if (element.dataset.module !== undefined) order.push(element.dataset.file);
  element.remove();
}
link(contents, order);
// A page from a disk has an origin of its own, and its Worker another: each makes its own blob: URLs.
pahiHeld.startWorker = () => {
  const text = `const link = ${link};\n(${beginWorker})();`;
  const worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
  worker.postMessage({ contents, order });
  return worker;
};
await import(pahiHeld.urls["app.js"]);
"""


def single_page(files: Mapping[str, bytes], site: str) -> bytes:
    """One HTML file of a site's `files`. `site` is the name of its description."""
    page = files["index.html"].decode()
    style = files["style.css"].decode()
    modules = [name for name in files if name.endswith(".js")]
    order = [*(name for name in files if name not in {*modules, "index.html", "style.css", site}), site]
    blocks = [_block(name, files[name]) for name in order]
    blocks += [_block(name, _rewrite(name, files[name]), " data-module") for name in _in_order(modules, files)]
    boot = f'<script type="module">{_BOOT}</script>'
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', lambda _: _policy(style), page)
    page = page.replace('<link rel="stylesheet" href="style.css">', f"<style>{style}</style>")
    page = page.replace('<script type="module" src="app.js"></script>', "")
    return page.replace("</body>", "\n".join([*blocks, boot, "</body>"])).encode()


def _policy(style: str) -> str:
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (_BOOT, style)]
    policy = (
        f"default-src 'none'; script-src 'sha256-{digests[0]}' blob: 'wasm-unsafe-eval'; "
        f"style-src 'sha256-{digests[1]}'; worker-src blob:; connect-src blob: data:; "
        "img-src blob: data:; base-uri 'none'; form-action 'none'"
    )
    return f'<meta http-equiv="Content-Security-Policy" content="{policy}">'


def _block(name: str, content: bytes, mark: str = "") -> str:
    return f'<script type="text/plain" data-file="{name}"{mark}>{base64.b64encode(content).decode()}</script>'


def _rewrite(name: str, content: bytes) -> bytes:
    return _IMPORT.sub(lambda found: f'{found[1]}"pahi:{_target(name, found[2])}"', content.decode()).encode()


def _in_order(modules: list[str], files: Mapping[str, bytes]) -> list[str]:
    """Modules after those that they import, which must not go in a circle."""
    done: dict[str, None] = {}

    def visit(name: str) -> None:
        for other in _imports(name, files[name]):
            if other not in done:
                visit(other)
        done[name] = None

    for module in modules:
        if module not in done:
            visit(module)
    return list(done)


def _imports(name: str, content: bytes) -> Iterator[str]:
    for found in _IMPORT.finditer(content.decode()):
        yield _target(name, found[2])


def _target(name: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
