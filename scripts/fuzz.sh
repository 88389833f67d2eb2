#!/usr/bin/env bash
# Fuzzes each target for so many seconds (60), beginning with fuzz/corpus.tar.zst, the files in fuzz/seeds and the models of the
# tests. Needs a nightly compiler, cargo-fuzz (cargo install cargo-fuzz) and zstd. What fails is left in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds="${1:-60}"
shift || true
targets=("${@:-}")
[ -n "${targets[0]}" ] || targets=(model gradient samples image card)

[ -d fuzz/corpus ] || tar --extract --zstd --file fuzz/corpus.tar.zst --directory fuzz
for target in "${targets[@]}"; do
    seeds=("fuzz/seeds/$target")
    case "$target" in model | gradient) seeds+=(crates/onnx-grad/tests/data) ;; esac
    mkdir -p "fuzz/corpus/$target"
    # A backtrace for each panic that the Parquet decoder's caller catches would take most of the time.
    RUST_BACKTRACE=0 cargo +nightly fuzz run "$target" "fuzz/corpus/$target" "${seeds[@]}" -- \
        -max_total_time="$seconds" -max_len=65536 -timeout=20 -rss_limit_mb=3072 -malloc_limit_mb=1024
done
