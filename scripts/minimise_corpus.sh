#!/usr/bin/env bash
# Leaves of what the fuzzer has collected in fuzz/corpus what covers as much, and packs it into fuzz/corpus.tar.zst, which
# fuzz.sh begins with and the tests give to the same functions. Needs what fuzz.sh needs.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -d fuzz/corpus ] || tar --extract --zstd --file fuzz/corpus.tar.zst --directory fuzz
for target in model gradient samples image card; do
    RUST_BACKTRACE=0 cargo +nightly fuzz cmin "$target"
done
# The same files give the same archive. The window is as wide as the models that resemble each other lie apart.
tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --directory fuzz corpus |
    zstd -19 --long=24 --force -o fuzz/corpus.tar.zst.part
mv fuzz/corpus.tar.zst.part fuzz/corpus.tar.zst
