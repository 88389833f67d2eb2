//! The `neural-cleanse` command.

use std::process::ExitCode;

use neural_cleanse_cli::{Invocation, run};

fn main() -> ExitCode {
    run(&Invocation::of_this_process()).into()
}
