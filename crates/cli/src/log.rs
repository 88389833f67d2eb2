use std::fmt;
use std::sync::OnceLock;

use clap::{Args, ValueEnum};
use indicatif::ProgressDrawTarget;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, time::SystemTime};
use tracing_subscriber::registry::LookupSpan;

/// What is said on standard error.
#[derive(Args)]
#[command(next_help_heading = "Messages")]
pub struct LogArguments {
    /// Nothing but errors on standard error
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,

    /// A line for each class that is finished, in place of progress bars
    #[arg(short, long, global = true)]
    verbose: bool,

    /// How messages are written to standard error
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT", global = true)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

static SHOWS_BARS: OnceLock<bool> = OnceLock::new();

impl LogArguments {
    /// Begins to write messages as these arguments want them. In a process the first do this for good.
    pub fn install(&self) {
        let level = match (self.quiet, self.verbose) {
            (true, _) => Level::ERROR,
            (false, true) => Level::DEBUG,
            (false, false) => Level::INFO,
        };
        let _ = SHOWS_BARS.set(level == Level::INFO && self.log_format == LogFormat::Text);
        let subscriber = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
        let _ = match self.log_format {
            LogFormat::Text => subscriber.event_format(Plain).fmt_fields(message_alone()).try_init(),
            LogFormat::Json => {
                subscriber.json().flatten_event(true).with_target(false).with_timer(SystemTime).try_init()
            }
        };
    }
}

/// Where progress bars go: to standard error if that is a terminal and nothing else is wanted there.
pub fn bars() -> ProgressDrawTarget {
    if SHOWS_BARS.get() == Some(&true) { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

/// A message, after what kind it is if it is not merely information.
struct Plain;

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static> FormatEvent<S, N> for Plain {
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        out.write_str(match *event.metadata().level() {
            Level::ERROR => "error: ",
            Level::WARN => "note: ",
            _ => "",
        })?;
        context.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

/// Leaves out the fields that are for programs, which the message says in words.
fn message_alone() -> impl for<'a> FormatFields<'a> + 'static {
    tracing_subscriber::fmt::format::debug_fn(|out, field, value| match field.name() {
        "message" => write!(out, "{value:?}"),
        _ => Ok(()),
    })
}
