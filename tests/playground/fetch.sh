#!/usr/bin/env bash
# Packages of npm, into the folder $1: what a site is built with, and what looks at it in Chromium. axe and Playwright
# are unpacked.
set -euo pipefail
mkdir -p "$1"
cd "$1"
npm pack --silent onnxruntime-web@1.30.0 @huggingface/tokenizers@0.2.0 playwright-core@1.65.1 axe-core@4.14.1 > /dev/null
for package in playwright-core axe-core; do
    mkdir -p "node_modules/$package"
    tar -xzf "$package"-*.tgz --strip-components 1 -C "node_modules/$package"
done
