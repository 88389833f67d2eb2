#!/usr/bin/env bash
# Fuzzes each reader for so many seconds (60), beginning with the files in fuzz/seeds and the models of the tests.
# Needs a nightly compiler and cargo-fuzz (cargo install cargo-fuzz). What crashes a reader is left in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds="${1:-60}"
shift || true
targets=("${@:-}")
[ -n "${targets[0]}" ] || targets=(model gradient samples card)

for target in "${targets[@]}"; do
    case "$target" in
        model | gradient) seeds=(crates/onnx-grad/tests/data) features=() ;;
        *) seeds=("fuzz/seeds/$target") features=(--features data) ;;
    esac
    mkdir -p "fuzz/corpus/$target"
    cargo +nightly fuzz run "${features[@]}" "$target" "fuzz/corpus/$target" "${seeds[@]}" -- \
        -max_total_time="$seconds" -max_len=65536 -timeout=20 -rss_limit_mb=3072
done
