"""Hooks of MkDocs: they make of docs/, which GitHub shows as it is, a site that asks no other host for anything.

Pictures that lie outside docs/ come into the site. Links to other files of the checkout lead to the repository.
Formulas, written as GitHub reads them, become MathML, which browsers draw by themselves, in a font that comes along.
"""

from __future__ import annotations

import posixpath
import re
from html import escape
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/pahi-rt/pahi-rt"
FONT = ROOT / ".venv/npm/node_modules/@fontsource/noto-sans-math/files/noto-sans-math-latin-400-normal.woff2"
"""Fonts without a table for mathematics set subscripts on the line. Without npm, readers have their own."""
OUTSIDE = re.compile(r"\]\((\.\./[^)\s#]+)(#[^)\s]*)?\)")
"""A link that leaves docs/."""
DISPLAY = re.compile(r"^\$\$\n(.*?)\n\$\$$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"\$`([^`]+)`\$")
TAG = re.compile(r"\\tag\{(.+?)\}")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures that pages show from elsewhere in the checkout, and the font."""
    if FONT.exists():
        files.append(File.generated(config, "theme/math.woff2", abs_src_path=str(FONT)))
    for page in list(files.documentation_pages()):
        for link, _ in OUTSIDE.findall(page.content_string):
            source = _resolve(link)
            if source.suffix in (".png", ".svg") and not files.get_file_from_path(_inside(source)):
                files.append(File.generated(config, _inside(source), abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links that leave docs/, and formulas."""
    markdown = OUTSIDE.sub(_relink, markdown)
    markdown = DISPLAY.sub(lambda formula: _display(formula[1]), markdown)
    # Markdown takes a line that begins with <math> for a block.
    return INLINE.sub(lambda formula: f"<span>{convert(formula[1])}</span>", markdown)


def _resolve(link: str) -> Path:
    return ROOT / posixpath.normpath(f"docs/{link}")


def _inside(picture: Path) -> str:
    return f"pictures/{picture.name}"


def _relink(link: re.Match[str]) -> str:
    target = _resolve(link[1])
    if target.suffix in (".png", ".svg"):
        return f"]({_inside(target)})"
    kind = "tree" if target.is_dir() else "blob"
    return f"]({REPOSITORY}/{kind}/main/{target.relative_to(ROOT).as_posix()}{link[2] or ''})"


def _display(formula: str) -> str:
    tag = TAG.search(formula)
    number = f'<span class="number">({escape(tag[1])})</span>' if tag else ""
    math = convert(TAG.sub("", formula).strip(), display="block")
    return f'<div class="equation">{math}{number}</div>'
