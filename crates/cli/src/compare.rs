use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use neural_cleanse::report::{Comparison, ScanReport};

use crate::{SUCCESS, Status, table};

/// Show two scans side by side: before and after a repair, or two versions of a model.
///
/// Exit status: 0, or 2 if a scan cannot be read.
#[derive(Args)]
pub struct CompareArguments {
    /// The folder of a scan, or its scan.json
    first: PathBuf,

    /// The folder of another, or its scan.json
    second: PathBuf,

    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &CompareArguments) -> anyhow::Result<Status> {
    let comparison = Comparison::new(&read(&arguments.first)?, &read(&arguments.second)?);
    let mut stdout = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut stdout, &comparison)?;
        writeln!(stdout)?;
        return Ok(SUCCESS);
    }
    writeln!(stdout, "{}", table::of_comparison(&comparison))?;
    for (path, scan) in [(&arguments.first, &comparison.first), (&arguments.second, &comparison.second)] {
        writeln!(stdout, "{}: {}; {}", path.display(), scan.verdict, scan.reason)?;
    }
    if !comparison.differences.is_empty() {
        tracing::warn!("the scans were not made alike: they differ in {}", comparison.differences.join(", "));
    }
    Ok(SUCCESS)
}

fn read(path: &Path) -> anyhow::Result<ScanReport> {
    let file = if path.is_dir() { path.join("scan.json") } else { path.to_owned() };
    Ok(ScanReport::read(&file)?)
}
