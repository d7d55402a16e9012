#!/usr/bin/env bash
# What the C library is built with, into the folder $1: headers of Debian trixie's packages, unpacked without root.
# ONNX Runtime itself comes from the wheel that is installed.
set -euo pipefail
mkdir -p "$1/apt/lists/partial" "$1/apt/cache/archives/partial"
cd "$1"
mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} trixie main" > apt/sources.list
options=(-qq -o Dir::Etc::sourcelist="$PWD/apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::Lists="$PWD/apt/lists"
    -o Dir::Cache="$PWD/apt/cache" -o APT::Get::List-Cleanup=0 -o APT::Sandbox::User=root)
apt-get "${options[@]}" update
apt-get "${options[@]}" download libonnxruntime-dev nlohmann-json3-dev libutf8proc-dev libutf8proc3
for package in *.deb; do dpkg -x "$package" root; done
rm -rf apt ./*.deb
