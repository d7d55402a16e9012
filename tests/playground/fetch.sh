#!/usr/bin/env bash
# Packages of npm, into the folder $1: what sites are built with, and what looks at them in Chromium. What `embed web`
# reads stays packed.
set -euo pipefail
mkdir -p "$1"
cd "$1"
npm pack --silent onnxruntime-web@1.30.0 @huggingface/tokenizers@0.2.0 playwright-core@1.65.1 axe-core@4.14.1 \
    @fontsource/noto-sans-math@5.3.0 > /dev/null
for package in playwright-core axe-core; do
    mkdir -p "node_modules/$package"
    tar -xzf "$package"-*.tgz --strip-components 1 -C "node_modules/$package"
done
mkdir -p node_modules/@fontsource/noto-sans-math
tar -xzf fontsource-noto-sans-math-*.tgz --strip-components 1 -C node_modules/@fontsource/noto-sans-math
