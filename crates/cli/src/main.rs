//! The `neural-cleanse` command.

mod command_line;
mod compare;
mod csv;
mod demo;
mod inspect;
mod log;
mod manual;
mod mitigate;
mod options;
mod predict;
mod progress;
mod scan;
mod scan_all;
mod schema;
mod table;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Find and remove backdoors in image classifiers (Neural Cleanse, Wang et al., IEEE S&P 2019).
///
/// Models are ONNX files, from any framework. The model is run in memory-safe code unless another engine is chosen.
#[derive(Parser)]
#[command(name = "neural-cleanse", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    log: log::LogArguments,
}

#[derive(Subcommand)]
enum Command {
    Scan(Box<scan::ScanArguments>),
    ScanAll(scan_all::ScanAllArguments),
    Compare(compare::CompareArguments),
    Mitigate(Box<mitigate::MitigateArguments>),
    Predict(predict::PredictArguments),
    Inspect(inspect::InspectArguments),
    Demo(demo::DemoArguments),
    Schema(schema::SchemaArguments),
    Completions(manual::CompletionsArguments),
    Man(manual::ManArguments),
}

/// The exit status of a command that could not do its work.
const ERROR: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    arguments.log.install();
    let result = match arguments.command {
        Command::Scan(arguments) => scan::run(&arguments),
        Command::ScanAll(arguments) => scan_all::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Mitigate(arguments) => mitigate::run(&arguments),
        Command::Predict(arguments) => predict::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Completions(arguments) => manual::completions(&arguments),
        Command::Man(arguments) => manual::man(&arguments),
    };
    match result {
        Ok(status) => status,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(ERROR)
        }
    }
}

/// Ends the process as for a wrong option if `words` is no command line of this program.
fn check(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) {
    if let Err(error) = Arguments::try_parse_from(words) {
        error.exit();
    }
}
