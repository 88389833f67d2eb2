use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::library::OPENVINO;
use super::{Engine, EngineError, OnnxRuntime, OpenVino, Rten};

/// Which engine to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EngineChoice {
    /// The fastest one that is installed.
    #[default]
    Auto,
    /// The embedded engine.
    Rten,
    /// ONNX Runtime, from its shared library.
    OnnxRuntime,
    /// OpenVINO, from its shared library.
    OpenVino,
}

impl EngineChoice {
    /// Every choice, in the order in which to list them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Rten, Self::OnnxRuntime, Self::OpenVino];

    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Rten => "rten",
            Self::OnnxRuntime => "onnxruntime",
            Self::OpenVino => "openvino",
        }
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for EngineChoice {
    type Err = EngineError;

    fn from_str(name: &str) -> Result<Self, EngineError> {
        let named = Self::ALL.into_iter().find(|choice| choice.name() == name);
        named.ok_or_else(|| EngineError::UnknownEngine { name: name.to_owned() })
    }
}

/// An engine, and why it is this one.
#[derive(Clone)]
pub struct Selected {
    /// The engine to use.
    pub engine: Arc<dyn Engine>,
    /// One line for the user: `engine rten 0.27: no ONNX Runtime library was found`.
    pub reason: String,
}

impl fmt::Debug for Selected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Selected").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// Loads the engine of `choice`.
///
/// `library` names the engine's library; without it the places of [`OpenVino::load`] and [`OnnxRuntime::load`] are
/// searched. [`EngineChoice::Auto`] tells from the name of the file whose it is.
///
/// ```
/// use neural_cleanse::engine::{EngineChoice, select};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let selected = select(EngineChoice::Rten, None)?;
/// println!("{}", selected.reason);
/// assert_eq!(selected.engine.name(), "rten");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of [`OpenVino::load`] and [`OnnxRuntime::load`], if the engine was chosen or its `library` named;
/// [`EngineChoice::Auto`] without a `library` always finds an engine.
pub fn select(choice: EngineChoice, library: Option<&Path>) -> Result<Selected, EngineError> {
    match (choice, library) {
        (EngineChoice::Rten, _) => Ok(rten("as asked")),
        (EngineChoice::OnnxRuntime, _) => Ok(onnxruntime(OnnxRuntime::load(library)?, "as asked")),
        (EngineChoice::OpenVino, _) => Ok(openvino(OpenVino::load(library)?, "as asked")),
        (EngineChoice::Auto, Some(path)) if is_openvino(path) => {
            Ok(openvino(OpenVino::load(library)?, "its library was named"))
        }
        (EngineChoice::Auto, Some(_)) => Ok(onnxruntime(OnnxRuntime::load(library)?, "its library was named")),
        (EngineChoice::Auto, None) => Ok(fastest()),
    }
}

/// The first that can be loaded, the fastest first; says of those that are installed but unusable what is wrong.
fn fastest() -> Selected {
    let mut unusable = Vec::new();
    let mut note = |error: EngineError| {
        if !matches!(error, EngineError::LibraryNotFound { .. }) {
            unusable.push(error.to_string());
        }
    };
    match OpenVino::load(None) {
        Ok(engine) => return openvino(engine, "installed and the fastest"),
        Err(error) => note(error),
    }
    match OnnxRuntime::load(None) {
        Ok(engine) => {
            unusable.insert(0, "installed and faster than rten".to_owned());
            return onnxruntime(engine, &unusable.join("; "));
        }
        Err(error) => note(error),
    }
    match unusable[..] {
        [] => rten("neither OpenVINO nor ONNX Runtime was found"),
        _ => rten(&unusable.join("; ")),
    }
}

fn is_openvino(library: &Path) -> bool {
    library.file_name().and_then(|name| name.to_str()).is_some_and(|name| OPENVINO.is_library(name))
}

fn rten(why: &str) -> Selected {
    Selected { reason: format!("engine rten {}: {why}", Rten.version()), engine: Arc::new(Rten) }
}

fn onnxruntime(engine: OnnxRuntime, why: &str) -> Selected {
    let reason = format!("engine onnxruntime {} ({}): {why}", engine.version(), engine.library().display());
    Selected { engine: Arc::new(engine), reason }
}

fn openvino(engine: OpenVino, why: &str) -> Selected {
    let reason = format!("engine openvino {} ({}): {why}", engine.version(), engine.library().display());
    Selected { engine: Arc::new(engine), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_they_are_written() {
        for choice in EngineChoice::ALL {
            assert_eq!(choice.to_string().parse::<EngineChoice>().ok(), Some(choice));
        }
        let error = "tensorrt".parse::<EngineChoice>().expect_err("an unknown name").to_string();
        assert_eq!(error, "there is no engine `tensorrt`; the engines are auto, rten, onnxruntime and openvino");
    }

    #[test]
    fn rten_is_always_there() {
        let selected = select(EngineChoice::Rten, None).expect("the embedded engine");
        assert_eq!(selected.engine.name(), "rten");
        assert_eq!(selected.reason, "engine rten 0.27: as asked");
    }

    #[test]
    fn a_named_library_that_is_none_is_an_error_even_for_auto() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let text = directory.path().join("libonnxruntime.so");
        let openvino = directory.path().join("libopenvino_c.so.2641");
        for path in [&text, &openvino] {
            std::fs::write(path, "not a library").expect("a file");
        }
        let missing = directory.path().join("missing.so");
        for path in [&text, &openvino, &missing] {
            for choice in [EngineChoice::Auto, EngineChoice::OnnxRuntime, EngineChoice::OpenVino] {
                let error = select(choice, Some(path)).expect_err("no library").to_string();
                assert!(error.contains(&path.display().to_string()), "{error}");
                assert!(error.contains("named explicitly"), "{error}");
            }
        }
    }
}
