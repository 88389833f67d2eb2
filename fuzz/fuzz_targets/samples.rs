#![no_main]

libfuzzer_sys::fuzz_target!(
    // The Parquet reader's own panics are caught and are errors; libFuzzer's hook would end the process before. What is not
    // caught still ends it.
    init: drop(std::panic::take_hook()),
    |bytes: &[u8]| neural_cleanse_fuzz_targets::samples(bytes)
);
