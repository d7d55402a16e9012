"""Whose work a site passes on, under which licences."""

from __future__ import annotations

from pahi_rt.bundle import Bundle
from pahi_rt.export.web.packages import PACKAGES

MIT = """MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def licences(bundle: Bundle) -> str:
    """The text of licences.txt."""
    manifest = bundle.manifest
    parts = {"generator": manifest.generator, "autoencoder": manifest.autoencoder}
    parts |= {f"prior {kind}": prior.component for kind, prior in manifest.priors.items()}
    lines = [f"{what}: {part.id}, {part.licence}" for what, part in parts.items()]
    trained_on = manifest.card.trained_on if manifest.card else ()
    libraries = [f"{package.name} {package.version}: {package.licence}" for package in PACKAGES]
    return "\n".join(
        [
            f"The model, {manifest.name}:",
            *lines,
            *(f"trained on: {source}" for source in trained_on),
            "",
            "The page is of pahi-rt, Apache-2.0 (https://www.apache.org/licenses/LICENSE-2.0).",
            "It uses:",
            *libraries,
            "",
            "The licence of onnxruntime-web:",
            "",
            MIT,
        ]
    )
