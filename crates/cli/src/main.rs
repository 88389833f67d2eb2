//! The `neural-cleanse` command.

mod inspect;
mod mitigate;
mod options;
mod predict;
mod progress;
mod scan;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Find and remove backdoors in image classifiers (Neural Cleanse, Wang et al., IEEE S&P 2019).
///
/// Models are ONNX files, from any framework. The model is run in memory-safe code unless another engine is chosen.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Scan(Box<scan::ScanArguments>),
    Mitigate(Box<mitigate::MitigateArguments>),
    Predict(predict::PredictArguments),
    Inspect(inspect::InspectArguments),
}

/// The exit status of a command that could not do its work.
const ERROR: u8 = 2;

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Scan(arguments) => scan::run(&arguments),
        Command::Mitigate(arguments) => mitigate::run(&arguments),
        Command::Predict(arguments) => predict::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
    };
    match result {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(ERROR)
        }
    }
}
