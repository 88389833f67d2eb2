//! Where the shared library of an engine may be. Nothing is run to find it, and nothing is
//! looked for in or under the current directory, which may be as untrusted as the model.

use std::collections::HashSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::EngineError;

/// An engine that is not built in but loaded.
pub(super) struct Runtime {
    /// Its own name: `ONNX Runtime`.
    pub(super) title: &'static str,
    /// The environment variable that may name the library.
    pub(super) variable: &'static str,
    /// The Python package that contains the library.
    pub(super) package: &'static str,
    /// The folder of the library in that package.
    folder: &'static str,
    /// What the library is called, before the extension and perhaps a version.
    stem: &'static str,
}

pub(super) const ONNX_RUNTIME: Runtime = Runtime {
    title: "ONNX Runtime",
    variable: "ORT_DYLIB_PATH",
    package: "onnxruntime",
    folder: "capi",
    stem: "onnxruntime",
};

pub(super) const OPENVINO: Runtime = Runtime {
    title: "OpenVINO",
    variable: "OPENVINO_LIBRARY",
    package: "openvino",
    folder: "libs",
    stem: "openvino_c",
};

impl Runtime {
    /// What `load` makes of the first of the `candidates` that it accepts; else its first error.
    pub(super) fn first_usable<T>(
        &self,
        candidates: Vec<Candidate>,
        load: impl Fn(&Candidate) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut first_error = None;
        for candidate in &candidates {
            // Before: a library runs code when it is loaded, and may take the process with it.
            tracing::debug!("loading {} from {} ({})", self.title, candidate.path.display(), candidate.origin);
            match load(candidate) {
                Ok(engine) => return Ok(engine),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| self.not_found(Vec::new())))
    }

    /// Whether a file of this name would be the engine's library.
    pub(super) fn is_library(&self, file_name: &str) -> bool {
        let library = format!("lib{}.", self.stem);
        match file_name.strip_prefix(&library) {
            Some(rest) => rest.starts_with("so") || rest.ends_with("dylib"),
            None => file_name.strip_suffix(".dll") == Some(self.stem),
        }
    }

    fn not_found(&self, looked_in: Vec<PathBuf>) -> EngineError {
        EngineError::LibraryNotFound { runtime: self.title, package: self.package, variable: self.variable, looked_in }
    }

    fn library_in(&self, packages: &Path) -> Option<Candidate> {
        let folder = packages.join(self.package).join(self.folder);
        let path = entries(&folder, |name| self.is_library(name)).into_iter().next()?;
        let origin = format!("of the Python package {} in {}", self.package, packages.display());
        Some(Candidate { path, origin })
    }
}

/// A file that should be an engine's library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    /// How it was found, as a phrase: `named by ORT_DYLIB_PATH`.
    pub(super) origin: String,
}

impl Candidate {
    pub(super) fn unusable(&self, runtime: &Runtime, reason: String) -> EngineError {
        EngineError::Library {
            runtime: runtime.title,
            path: self.path.clone(),
            origin: self.origin.clone(),
            reason,
            package: runtime.package,
        }
    }
}

/// The candidates in the order in which to try them, at least one.
///
/// A `named` library is the only candidate; so is one that the environment variable names; else
/// the Python package is looked for.
pub(super) fn candidates(runtime: &Runtime, named: Option<&Path>) -> Result<Vec<Candidate>, EngineError> {
    if let Some(path) = named {
        return Ok(vec![Candidate { path: path.to_owned(), origin: "named explicitly".to_owned() }]);
    }
    if let Some(path) = env::var_os(runtime.variable).filter(|path| !path.is_empty()) {
        return Ok(vec![Candidate { path: path.into(), origin: format!("named by {}", runtime.variable) }]);
    }
    let looked_in = package_directories(env::var_os("VIRTUAL_ENV").as_deref(), env::var_os("PATH").as_deref());
    let found: Vec<Candidate> = looked_in.iter().filter_map(|directory| runtime.library_in(directory)).collect();
    if found.is_empty() { Err(runtime.not_found(looked_in)) } else { Ok(found) }
}

static FIRST: OnceLock<Vec<PathBuf>> = OnceLock::new();

/// Has the libraries of engines looked for among the Python packages in `directories` before all others. This is for
/// programs that run within Python, whose own packages these are; only the first call in a process counts.
pub fn search_first(directories: Vec<PathBuf>) {
    // A program that has said it once has the same packages still.
    let _ = FIRST.set(directories);
}

/// The directories in which Python packages are installed: those of [`search_first`], the active virtual
/// environment's, those of every `python3` in `path`, and the system's.
fn package_directories(virtual_env: Option<&OsStr>, path: Option<&OsStr>) -> Vec<PathBuf> {
    let mut directories = FIRST.get().cloned().unwrap_or_default();
    directories.retain(|directory| directory.is_absolute());
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
            ("libonnxruntime.so", true, false),
            ("libonnxruntime.so.1.32.0", true, false),
            ("libonnxruntime.1.32.0.dylib", true, false),
            ("onnxruntime.dll", true, false),
            ("libonnxruntime_providers_shared.so", false, false),
            ("onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so", false, false),
            ("libopenvino_c.so.2641", false, true),
            ("libopenvino_c.2641.dylib", false, true),
            ("openvino_c.dll", false, true),
            ("libopenvino.so.2641", false, false),
            ("libopenvino_intel_cpu_plugin.so", false, false),
        ];
        for (name, onnx_runtime, openvino) in cases {
            assert_eq!(ONNX_RUNTIME.is_library(name), onnx_runtime, "{name}");
            assert_eq!(OPENVINO.is_library(name), openvino, "{name}");
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
        let found = ONNX_RUNTIME.library_in(&directories[0]).expect("the library");
        assert_eq!(found.path, capi.join("libonnxruntime.so.1.32.0"));
        assert_eq!(ONNX_RUNTIME.library_in(&directories[1]), None);
    }

    #[test]
    fn a_relative_virtual_environment_is_not_searched() {
        let directories = package_directories(Some(OsStr::new(".venv")), None);
        assert!(directories.iter().all(|directory| directory.is_absolute()), "{directories:?}");
    }
}
