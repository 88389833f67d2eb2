//! What the Python package `neural_cleanse` is made of: the library and the command, with NumPy arrays in and out.
//!
//! No thread but the caller's ever touches Python, and none holds the interpreter while it computes.

mod arrays;
mod classifier;
mod errors;
mod mitigation;
mod scan;
mod supervision;

/// The compiled part of `neural_cleanse`.
#[pyo3::pymodule]
mod _native {
    use std::ffi::OsString;
    use std::path::PathBuf;

    use neural_cleanse_cli::Invocation;
    use pyo3::{Python, pyfunction};

    #[pymodule_export]
    use crate::classifier::Classifier;
    #[pymodule_export]
    use crate::mitigation::{Filter, mitigate, mitigation_page};
    #[pymodule_export]
    use crate::scan::{check_parameters, conclude, first_classes, generate_backdoor, invert, next_jobs, sarif, scan};

    /// Looks for the libraries of engines among the Python packages in `directories` before all others.
    #[pyfunction]
    fn search_engines_in(directories: Vec<PathBuf>) {
        neural_cleanse::engine::search_first(directories);
    }

    /// Runs the command, which others start by the words `program`, and gives its exit status.
    #[pyfunction]
    fn run_command(py: Python<'_>, program: Vec<OsString>, arguments: Vec<OsString>) -> u8 {
        py.detach(|| neural_cleanse_cli::run(&Invocation::new(program, arguments)))
    }
}
