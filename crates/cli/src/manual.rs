use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{SUCCESS, Status};

/// Print a script that completes this command in a shell.
#[derive(Args)]
pub struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

/// Write the manual, a page for each command.
#[derive(Args)]
pub struct ManArguments {
    /// The folder for the pages, such as ~/.local/share/man/man1
    folder: PathBuf,
}

/// Prints completions.
pub fn completions(arguments: &CompletionsArguments) -> anyhow::Result<Status> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut crate::Arguments::command(), "neural-cleanse", &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script)?;
    Ok(SUCCESS)
}

/// Writes the manual.
pub fn man(arguments: &ManArguments) -> anyhow::Result<Status> {
    let folder = &arguments.folder;
    let attempt = || {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(crate::Arguments::command(), folder)
    };
    attempt().with_context(|| folder.display().to_string())?;
    Ok(SUCCESS)
}
