#!/usr/bin/env bash
# Runs the tests with PyTorch, Keras, ART and Ray, after those of test.sh. They take 6 GB in .venv-full: PyPI has PyTorch for
# Linux only with CUDA's libraries.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/test.sh

python3 -m venv .venv-full
.venv-full/bin/pip install --quiet --disable-pip-version-check --requirement tests/requirements-full.txt .

# One process each: TensorFlow and PyTorch's Triton cannot be in one.
run() {
    echo "$*"
    env TF_CPP_MIN_LOG_LEVEL=3 "${@:1:$#-1}" .venv-full/bin/python -m pytest --quiet "tests/frameworks/${!#}"
}
run test_torch.py
run test_notebook.py
run test_tutorial.py
run test_art_pytorch.py
run KERAS_BACKEND=tensorflow test_keras.py
run KERAS_BACKEND=torch test_keras.py
run KERAS_BACKEND=tensorflow test_art_keras.py
run test_ray.py
