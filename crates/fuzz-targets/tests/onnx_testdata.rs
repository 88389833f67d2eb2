//! The models of ONNX's own conformance tests, where they are installed: Debian has them in the package `libonnx-testdata`.

use std::fs;
use std::path::{Path, PathBuf};

use neural_cleanse_fuzz_targets as targets;
use onnx_grad::Model;

/// Where the package puts them; the environment variable `ONNX_TESTDATA` names another folder.
const INSTALLED: &str = "/usr/share/libonnx-testdata";

/// All ONNX files in a folder, however deep.
fn models(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(models(&path));
        } else if path.extension().is_some_and(|extension| extension == "onnx") {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_model_of_the_conformance_tests_is_read_and_none_panics() {
    let folder = std::env::var_os("ONNX_TESTDATA").map_or_else(|| PathBuf::from(INSTALLED), PathBuf::from);
    if !folder.is_dir() {
        eprintln!("skipped: no models in {} (Debian: libonnx-testdata, or set ONNX_TESTDATA)", folder.display());
        return;
    }
    let paths = models(&folder);
    assert!(!paths.is_empty(), "no models in {}", folder.display());
    for path in &paths {
        eprintln!("{}", path.display());
        let bytes = fs::read(path).expect("a model");
        Model::from_bytes(&bytes).expect("a sound model");
        targets::model(&bytes);
        targets::gradient(&bytes);
    }
    eprintln!("{} models", paths.len());
}
