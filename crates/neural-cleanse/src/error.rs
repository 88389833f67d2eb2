use std::io;
use std::path::PathBuf;

use crate::data::DataError;
use crate::engine::EngineError;

/// Why an operation of this crate could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model cannot be read, or cannot be differentiated.
    #[error(transparent)]
    Model(#[from] onnx_grad::Error),

    /// The model is sound, but is not a classifier of images as it stands.
    #[error("{0}")]
    Classifier(String),

    /// The inference engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),

    /// The samples cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),

    /// A parameter is out of its range.
    #[error("{0}")]
    Config(String),

    /// A trigger is malformed or does not fit.
    #[error("{0}")]
    Trigger(String),

    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },

    /// The operating system starts no further thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),

    /// Searches that are kept on disk cannot be used.
    #[error("{0}")]
    Store(String),

    /// The observer asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// The result of the operations of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
