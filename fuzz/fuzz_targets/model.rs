#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| neural_cleanse_fuzz_targets::model(bytes));
