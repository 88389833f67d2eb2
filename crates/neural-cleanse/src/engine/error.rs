use std::path::PathBuf;

use super::{Precision, Provider};

/// What an engine, or the choice of one, can fail with.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine does not accept the model.
    #[error("{engine} cannot compile the graph: {reason}")]
    Compile {
        /// [`Engine::name`](super::Engine::name).
        engine: &'static str,
        /// The engine's own message.
        reason: String,
    },
    /// The engine failed in a run whose inputs were as declared.
    #[error("{engine} failed to run the graph: {reason}")]
    Run {
        /// [`Engine::name`](super::Engine::name).
        engine: &'static str,
        /// The engine's own message.
        reason: String,
    },
    /// An input was given that the graph does not have.
    #[error("the graph has no input `{name}`; its inputs are {}", list(.known))]
    UnknownInput {
        /// The name that was given.
        name: String,
        /// The names of the graph's inputs.
        known: Vec<String>,
    },
    /// An output was asked for that the graph does not have.
    #[error("the graph has no output `{name}`; its outputs are {}", list(.known))]
    UnknownOutput {
        /// The name that was asked for.
        name: String,
        /// The names of the graph's outputs.
        known: Vec<String>,
    },
    /// An input of the graph was not given.
    #[error("the graph's input `{name}` was not given")]
    MissingInput {
        /// The input's name.
        name: String,
    },
    /// An input was given, or an output asked for, more than once.
    #[error("`{name}` is named twice in one run")]
    NamedTwice {
        /// The repeated name.
        name: String,
    },
    /// An input does not have the declared shape.
    #[error("input `{name}` has shape {found:?} where the graph expects {expected}")]
    InputShape {
        /// The input's name.
        name: String,
        /// The declared shape, `?` for a size that is not fixed.
        expected: String,
        /// The shape that was given.
        found: Vec<usize>,
    },
    /// No shared library of the engine was found.
    #[error(
        "no {runtime} library was found; looked in {}. Install it with `pip install {package}`, or name the \
         library file or set {variable}",
        searched(.looked_in)
    )]
    LibraryNotFound {
        /// The engine's own name.
        runtime: &'static str,
        /// The Python package that contains the library.
        package: &'static str,
        /// The environment variable that may name the library.
        variable: &'static str,
        /// The directories that were searched.
        looked_in: Vec<PathBuf>,
    },
    /// A shared library was found and cannot be used.
    #[error(
        "the {runtime} library {} ({origin}) cannot be used: {reason}. `pip install --upgrade {package}` brings one that can",
        .path.display()
    )]
    Library {
        /// The engine's own name.
        runtime: &'static str,
        /// The library file.
        path: PathBuf,
        /// How the library was found.
        origin: String,
        /// Why it cannot be used.
        reason: String,
        /// The Python package that contains the library.
        package: &'static str,
    },
    /// The engine does not compute in this precision.
    #[error("{engine} cannot compute in {precision}: {reason}")]
    Precision {
        /// [`Engine::name`](super::Engine::name).
        engine: &'static str,
        /// What was asked for.
        precision: Precision,
        /// Why not, and what does.
        reason: &'static str,
    },
    /// The engine does not compute there.
    #[error("{engine} computes on the processor only: take --engine onnxruntime for the provider {provider}")]
    Provider {
        /// [`Engine::name`](super::Engine::name).
        engine: &'static str,
        /// What was asked for.
        provider: Provider,
    },
    /// A name that is no provider's.
    #[error("there is no provider `{name}`; the providers are cpu, cuda, tensorrt, coreml and directml")]
    UnknownProvider {
        /// The name that was given.
        name: String,
    },
    /// A name that is no precision's.
    #[error("there is no precision `{name}`; the precisions are f32 and bf16")]
    UnknownPrecision {
        /// The name that was given.
        name: String,
    },
    /// A name that is no engine's.
    #[error("there is no engine `{name}`; the engines are auto, rten, onnxruntime and openvino")]
    UnknownEngine {
        /// The name that was given.
        name: String,
    },
}

fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

fn searched(directories: &[PathBuf]) -> String {
    if directories.is_empty() {
        return "no directory: neither VIRTUAL_ENV nor a python3 in PATH has site-packages".to_owned();
    }
    let shown: Vec<String> = directories.iter().map(|directory| directory.display().to_string()).collect();
    shown.join(", ")
}
