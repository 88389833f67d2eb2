//! Any bytes as `preprocessor_config.json`, or as the `config.json`, beside a model.
#![no_main]

use libfuzzer_sys::fuzz_target;
use neural_cleanse::ModelCard;

fuzz_target!(|bytes: &[u8]| {
    let Some((role, bytes)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let name = if role % 2 == 1 { "config.json" } else { "preprocessor_config.json" };
    std::fs::write(folder.path().join(name), bytes).expect("room for it");
    let _ = ModelCard::read(folder.path());
});
