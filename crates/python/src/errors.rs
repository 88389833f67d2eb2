use std::fmt::Display;

use neural_cleanse::Error;
use neural_cleanse::engine::EngineError;
use pyo3::prelude::*;

/// The Python exception for `error`.
pub fn exception(error: Error) -> PyErr {
    let kind = match &error {
        Error::Model(_) | Error::Classifier(_) => "ModelError",
        Error::Engine(_) => "EngineError",
        Error::Data(_) => "DataError",
        Error::Io { .. } => "FileError",
        _ => "ParameterError",
    };
    raise(kind, error)
}

/// The same for an error of an engine.
pub fn engine_exception(error: EngineError) -> PyErr {
    exception(Error::Engine(error))
}

/// A parameter that is out of its range.
pub fn parameter_error(message: impl Display) -> PyErr {
    raise("ParameterError", message)
}

/// Arrays that cannot be used.
pub fn data_error(message: impl Display) -> PyErr {
    raise("DataError", message)
}

/// `kind` is the name of a class in `neural_cleanse.errors`, where the exceptions are defined because they have several bases.
pub fn raise(kind: &str, message: impl Display) -> PyErr {
    let message = message.to_string();
    Python::attach(|py| {
        let exception = py.import("neural_cleanse.errors")?.getattr(kind)?.call1((message,))?;
        Ok(PyErr::from_value(exception))
    })
    .unwrap_or_else(|error: PyErr| error)
}
