#!/usr/bin/env bash
# Runs every test but those with PyTorch, Keras, ART and Ray, which test-full.sh adds. Installs what they need of Python into
# .venv; nothing outside this folder changes.
set -euo pipefail
cd "$(dirname "$0")/.."

python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --requirement tests/requirements.txt
# Where the tests find the ONNX Runtime library.
export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH"

# Release builds: scans are slow without optimisation, and the command itself is built so anyway.
cargo build --release --workspace --lib --bins --examples
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --release --workspace --no-fail-fast
else
    cargo test --release --workspace --lib --bins --tests
fi
cargo test --release --workspace --doc
# The Python package, of what is compiled by now.
.venv/bin/pip install --quiet --disable-pip-version-check .
# -rs: what is skipped, such as pages where there is no Chromium, and why.
pytest --quiet -rs tests --ignore tests/frameworks
