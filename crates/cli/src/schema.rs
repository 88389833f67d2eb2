use std::io::Write;

use clap::Args;
use neural_cleanse::report::scan_schema;

use crate::{SUCCESS, Status};

/// Print the JSON Schema of scan.json.
#[derive(Args)]
pub struct SchemaArguments {}

/// Runs the command.
pub fn run(_: &SchemaArguments) -> anyhow::Result<Status> {
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, &scan_schema())?;
    writeln!(stdout)?;
    Ok(SUCCESS)
}
