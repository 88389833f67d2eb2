//! Engine libraries that are missing, are something else, are too old, or break: what the command says.
#![cfg(unix)]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What begins every stand-in for ONNX Runtime: the one function that the library exports, to which `base` is to be added.
const ONNX_RUNTIME: &str = "
    struct base { const void *(*api)(unsigned); const char *(*version)(void); };
    const void *none(unsigned wanted) { return 0; }
    const char *old(void) { return \"1.16.3\"; }
    const char *unknown(void) { return 0; }";

/// What begins every stand-in for OpenVINO, to which `tell` is to be added.
const OPENVINO: &str = "
    struct version { const char *build, *description; };
    void ov_version_free(struct version *told) {}
    void ov_core_read_model_from_memory_buffer(void) {}";

/// Compiles a shared library of C at `path`; `false`, with a word about it, where there is no compiler.
fn compile(path: &Path, source: &str) -> bool {
    let file = path.with_extension("c");
    fs::write(&file, source).unwrap();
    match Command::new("cc").args(["-w", "-shared", "-fPIC", "-o"]).arg(path).arg(&file).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(error) => {
            eprintln!("skipped: no C compiler: cc: {error}");
            false
        }
    }
}

/// Classifies the samples of the fixtures with an engine, as its options say.
fn predict(engine: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_neural-cleanse"));
    command.args(["predict", "fixtures/fmnist_clean.onnx", "--data", "fixtures/fashion-mnist-400.npz"]);
    command.args(engine).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Checks that the command refuses the `library` in one sentence, which names it and has `words` in it and a remedy, however the library
/// is named.
fn refused(engine: &str, library: &Path, words: &str) {
    let variable = if engine == "openvino" { "OPENVINO_LIBRARY" } else { "ORT_DYLIB_PATH" };
    let named = predict(&["--engine", engine, "--engine-library", library.to_str().unwrap()]).output().unwrap();
    let by_variable = predict(&["--engine", engine]).env(variable, library).output().unwrap();
    for output in [named, by_variable] {
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
        let remedy = format!("`pip install --upgrade {engine}`");
        for words in [library.to_str().unwrap(), words, &remedy] {
            assert!(said.contains(words), "`{words}` is not in: {said}");
        }
        assert!(!said.contains("internal error"), "{said}");
    }
}

#[test]
fn a_library_that_is_missing_or_something_else_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (missing, text) = (folder.path().join("missing.so"), folder.path().join("text.so"));
    fs::write(&text, "not a library").unwrap();
    for engine in ["onnxruntime", "openvino"] {
        refused(engine, &missing, "No such file");
        refused(engine, &text, "cannot be used");
        refused(engine, folder.path(), "cannot be used");
    }
    let other = folder.path().join("other.so");
    if compile(&other, "int other(void) { return 0; }") {
        refused("onnxruntime", &other, "OrtGetApiBase");
        refused("openvino", &other, "ov_core_read_model_from_memory_buffer");
    }
}

#[test]
fn a_library_of_another_version_is_refused_with_the_version_that_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let base = |base: &str| format!("{ONNX_RUNTIME} const struct base *OrtGetApiBase(void) {{ {base} }}");
    let tell = |tell: &str| format!("{OPENVINO} int ov_get_openvino_version(struct version *told) {{ {tell} }}");
    let cases = [
        ("onnxruntime", base("return 0;"), "its OrtGetApiBase returns nothing"),
        (
            "onnxruntime",
            base("static struct base old_one = { none, old }; return &old_one;"),
            "its version is 1.16.3, and 1.17 or newer is needed",
        ),
        (
            "onnxruntime",
            base("static struct base silent = { none, unknown }; return &silent;"),
            "it does not tell its version",
        ),
        (
            "openvino",
            tell("told->build = \"2024.6.0-17404-4c0f47d2335\"; return 0;"),
            "its version is 2024.6.0, and 2025.1 or newer is needed",
        ),
        (
            "openvino",
            tell("told->build = \"custom\"; return 0;"),
            "its version is custom, and 2025.1 or newer is needed",
        ),
        ("openvino", tell("return 0;"), "it does not tell its version"),
        ("openvino", tell("return -1;"), "it does not tell its version"),
        ("openvino", OPENVINO.to_owned(), "ov_get_openvino_version"),
    ];
    for (i, (engine, source, words)) in cases.iter().enumerate() {
        let library = folder.path().join(format!("library_{i}.so"));
        if !compile(&library, source) {
            return;
        }
        refused(engine, &library, words);
    }
}

/// A folder of Python packages, as a virtual environment has it, with this library of ONNX Runtime.
fn package(folder: &Path) -> PathBuf {
    let capi = folder.join("lib/python3.13/site-packages/onnxruntime/capi");
    fs::create_dir_all(&capi).unwrap();
    capi.join("libonnxruntime.so.1.16.3")
}

#[test]
fn an_installed_library_that_cannot_be_used_does_not_keep_the_command_from_working() {
    let folder = tempfile::tempdir().unwrap();
    let library = package(folder.path());
    if !compile(&library, "int other(void) { return 0; }") {
        return;
    }
    let output = predict(&[]).env("VIRTUAL_ENV", folder.path()).env("PATH", "").output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    // Another one may be installed for the whole system.
    assert!(
        said.contains("engine rten") && said.contains("cannot be used") || said.contains("dist-packages"),
        "{said}"
    );
}

#[test]
fn a_library_that_breaks_while_it_is_loaded_has_been_named_before() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("broken.so");
    let source = "void abort(void); __attribute__((constructor)) static void load(void) { abort(); }";
    if !compile(&library, source) {
        return;
    }
    for (engine, title) in [("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO")] {
        let arguments = ["--engine", engine, "--engine-library", library.to_str().unwrap(), "--verbose"];
        let output = predict(&arguments).output().unwrap();
        assert_eq!(output.status.signal(), Some(6));
        let words = format!("loading {title} from {} (named explicitly)", library.display());
        assert!(stderr(&output).contains(&words), "{}", stderr(&output));
    }
}
