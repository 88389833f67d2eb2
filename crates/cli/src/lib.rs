//! The `neural-cleanse` command.

mod compare;
mod csv;
mod demo;
mod inspect;
mod invocation;
mod limits;
mod log;
mod manual;
mod mitigate;
mod options;
mod panics;
mod predict;
mod progress;
mod scan;
mod scan_all;
mod schema;
mod table;
mod trigger_files;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

pub use invocation::Invocation;

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

/// The exit status of a command, as the operating system gets it.
type Status = u8;

const SUCCESS: Status = 0;

/// The exit status of a command that could not do its work.
const ERROR: Status = 2;

/// Runs the command and gives its exit status. What is printed goes to this process's standard output and error; how
/// messages are written is decided by the first call in a process.
pub fn run(invocation: &Invocation) -> Status {
    panics::caught(|| attempt(invocation)).unwrap_or_else(|error| match error.downcast_ref::<clap::Error>() {
        Some(usage) => {
            // Nothing is left to say where the message itself cannot be printed.
            let _ = usage.print();
            usage.exit_code() as Status
        }
        // Who reads the output has enough of it, as `head` does.
        None if is_broken_pipe(&error) => ERROR,
        None => {
            tracing::error!("{error:#}");
            ERROR
        }
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let of_io = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    let of_json = error.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
    of_io.or(of_json) == Some(std::io::ErrorKind::BrokenPipe)
}

fn attempt(invocation: &Invocation) -> anyhow::Result<Status> {
    let arguments = Arguments::try_parse_from(invocation.words())?;
    arguments.log.install();
    match &arguments.command {
        Command::Scan(arguments) => scan::run(arguments, invocation),
        Command::ScanAll(arguments) => scan_all::run(arguments, invocation),
        Command::Compare(arguments) => compare::run(arguments),
        Command::Mitigate(arguments) => mitigate::run(arguments, invocation),
        Command::Predict(arguments) => predict::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Demo(arguments) => demo::run(arguments, invocation),
        Command::Schema(arguments) => schema::run(arguments),
        Command::Completions(arguments) => manual::completions(arguments),
        Command::Man(arguments) => manual::man(arguments),
    }
}

/// Whether `words` are a command line of this program; the error is that of a wrong option.
fn check(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<(), clap::Error> {
    Arguments::try_parse_from(words).map(|_| ())
}
