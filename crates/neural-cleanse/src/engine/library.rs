//! Where the ONNX Runtime library may be. Nothing is run to find it, and nothing is
//! looked for in or under the current directory, which may be as untrusted as the model.

use std::collections::HashSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::EngineError;

/// A file that should be the ONNX Runtime library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    /// How it was found, as a phrase: `named by ORT_DYLIB_PATH`.
    pub(super) origin: String,
}

/// The candidates in the order in which to try them, at least one.
///
/// A `named` library is the only candidate; so is one that ORT_DYLIB_PATH names; else
/// the Python package `onnxruntime` is looked for.
pub(super) fn candidates(named: Option<&Path>) -> Result<Vec<Candidate>, EngineError> {
    if let Some(path) = named {
        return Ok(vec![Candidate { path: path.to_owned(), origin: "named explicitly".to_owned() }]);
    }
    if let Some(path) = env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return Ok(vec![Candidate { path: path.into(), origin: "named by ORT_DYLIB_PATH".to_owned() }]);
    }
    let looked_in = package_directories(env::var_os("VIRTUAL_ENV").as_deref(), env::var_os("PATH").as_deref());
    let found: Vec<Candidate> = looked_in.iter().filter_map(|directory| library_in(directory)).collect();
    if found.is_empty() { Err(EngineError::LibraryNotFound { looked_in }) } else { Ok(found) }
}

/// The directories in which Python packages are installed: the active virtual
/// environment's, those of every `python3` in `path`, and the system's.
fn package_directories(virtual_env: Option<&OsStr>, path: Option<&OsStr>) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    for prefix in virtual_env.map(PathBuf::from).into_iter().chain(python_prefixes(path)) {
        if prefix.is_absolute() {
            directories.extend(site_packages(&prefix));
        }
    }
    let system = PathBuf::from("/usr/lib/python3/dist-packages");
    directories.extend(system.is_dir().then_some(system));
    // On a merged system /lib is a link to /usr/lib.
    let mut seen = HashSet::new();
    directories.retain(|directory| seen.insert(fs::canonicalize(directory).ok()));
    directories
}

/// The installation prefixes of the Pythons in `path`, first as the path has them
/// (a virtual environment's `bin/python3` is a link) and then as the links resolve.
fn python_prefixes(path: Option<&OsStr>) -> Vec<PathBuf> {
    let executable = if cfg!(windows) { "python.exe" } else { "python3" };
    let mut prefixes = Vec::new();
    for directory in path.map(env::split_paths).into_iter().flatten() {
        let python = directory.join(executable);
        if !python.is_file() {
            continue;
        }
        let resolved = fs::canonicalize(&python).ok();
        for python in [Some(python), resolved].into_iter().flatten() {
            // Windows has python.exe in the prefix itself, and a virtual environment's in `Scripts`.
            let levels = if cfg!(windows) { 1..=2 } else { 2..=2 };
            prefixes.extend(levels.filter_map(|level| python.ancestors().nth(level)).map(Path::to_owned));
        }
    }
    prefixes
}

/// `<prefix>/lib/python3*/site-packages` and Debian's `dist-packages` beside it; on Windows `<prefix>/Lib/site-packages`.
fn site_packages(prefix: &Path) -> Vec<PathBuf> {
    if cfg!(windows) {
        return vec![prefix.join("Lib").join("site-packages")];
    }
    let versions = entries(&prefix.join("lib"), |name| name.starts_with("python3"));
    let packages = versions.iter().flat_map(|version| [version.join("site-packages"), version.join("dist-packages")]);
    packages.filter(|directory| directory.is_dir()).collect()
}

fn library_in(packages: &Path) -> Option<Candidate> {
    let capi = packages.join("onnxruntime").join("capi");
    let path = entries(&capi, is_library).into_iter().next()?;
    let origin = format!("of the Python package onnxruntime in {}", packages.display());
    Some(Candidate { path, origin })
}

fn is_library(file_name: &str) -> bool {
    file_name.starts_with("libonnxruntime.so")
        || (file_name.starts_with("libonnxruntime.") && file_name.ends_with(".dylib"))
        || file_name == "onnxruntime.dll"
}

/// The entries of a directory whose names are `wanted`, sorted; none if it cannot be read.
fn entries(directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(listing) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = listing
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(&wanted))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_runtime_itself_is_taken_for_it() {
        let cases = [
            ("libonnxruntime.so", true),
            ("libonnxruntime.so.1.32.0", true),
            ("libonnxruntime.1.32.0.dylib", true),
            ("onnxruntime.dll", true),
            ("libonnxruntime_providers_shared.so", false),
            ("onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so", false),
        ];
        for (name, expected) in cases {
            assert_eq!(is_library(name), expected, "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_virtual_environment_in_the_path_is_searched_before_the_python_it_links_to() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let system = root.path().join("usr");
        let environment = root.path().join("venv");
        for prefix in [&system, &environment] {
            fs::create_dir_all(prefix.join("bin")).expect("a directory");
            fs::create_dir_all(prefix.join("lib/python3.11/site-packages/onnxruntime/capi")).expect("a directory");
        }
        fs::write(system.join("bin/python3.11"), "").expect("a file");
        std::os::unix::fs::symlink(system.join("bin/python3.11"), environment.join("bin/python3")).expect("a link");
        let capi = environment.join("lib/python3.11/site-packages/onnxruntime/capi");
        fs::write(capi.join("libonnxruntime.so.1.32.0"), "").expect("a file");

        let path = env::join_paths([environment.join("bin"), PathBuf::from("relative/bin")]).expect("a search path");
        let system = fs::canonicalize(system).expect("the system prefix");
        let directories = package_directories(None, Some(&path));
        assert_eq!(directories[0], environment.join("lib/python3.11/site-packages"));
        assert_eq!(directories[1], system.join("lib/python3.11/site-packages"));
        let found = library_in(&directories[0]).expect("the library");
        assert_eq!(found.path, capi.join("libonnxruntime.so.1.32.0"));
        assert_eq!(library_in(&directories[1]), None);
    }

    #[test]
    fn a_relative_virtual_environment_is_not_searched() {
        let directories = package_directories(Some(OsStr::new(".venv")), None);
        assert!(directories.iter().all(|directory| directory.is_absolute()), "{directories:?}");
    }
}
