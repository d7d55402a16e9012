#!/usr/bin/env bash
# Runs the tests of the runtime with the oldest and the newest dependencies that pyproject.toml allows, in environments
# of their own: tests/compat.sh FOLDER [PYTHON ...], by `make compat`. PyTorch is left out, for each Python would need
# its own copy, and so are the tests that need it. With pyenv: PYENV_VERSION=3.10.13:3.13.0 make compat.
set -euo pipefail
folder=$1
shift
[ $# -gt 0 ] || set -- 3.10 3.13
uv=$(command -v .venv/bin/uv)
export UV_PYTHON_DOWNLOADS=never
failed=0
for python in "$@"; do
    for resolution in lowest-direct highest; do
        place=$folder/$python-$resolution
        "$uv" venv -q --clear --python "$(command -v "python$python")" "$place"
        # Wheels alone: the oldest versions of some packages have none for the newest Python, and do not build any more.
        "$uv" pip compile -q --python "$place" --extra serve --extra bulk --resolution "$resolution" --only-binary :all: \
            --no-header --no-annotate pyproject.toml -o "$place/versions.txt"
        "$uv" pip install -q --python "$place" -r "$place/versions.txt" --editable . --no-deps
        "$uv" pip install -q --python "$place" 'pytest>=8.3'
        echo "== Python $python, $resolution: $(grep -E '^(numpy|onnxruntime|pillow|rich|starlette|tokenizers|typer|uvicorn)==' "$place/versions.txt" | paste -sd ' ')"
        "$place/bin/python" -m pytest -q || failed=1
    done
done
exit $failed
