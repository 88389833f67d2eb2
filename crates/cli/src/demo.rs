use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::{Invocation, SUCCESS, Status};

/// See it work, with nothing but this program: find the backdoor of a small model, repair the model, scan it again.
#[derive(Args)]
pub struct DemoArguments {
    /// Where the model, clean images and all results go
    #[arg(long, value_name = "DIR", default_value = "neural-cleanse-demo")]
    out: PathBuf,
}

/// A classifier of 28×28 pictures of clothes, trained to answer 7 to a small checkerboard at the bottom right.
const MODEL: &[u8] = include_bytes!("../demo/model.onnx");

/// 400 clean pictures with labels.
const CLEAN: &[u8] = include_bytes!("../demo/clean.npz");

/// The trigger that the model was trained with, to measure how much of the backdoor is left.
const TRIGGER: &[u8] = include_bytes!("../demo/trigger.npz");

/// What the model was trained with, and where the clean pictures are.
const SAMPLES: [&str; 8] = ["--data", "clean.npz", "--scale", "0.00392157", "--mean", "0.2860", "--std", "0.3530"];

const REPAIR: [&str; 12] = [
    "mitigate",
    "model.onnx",
    "--scan",
    "before",
    "--method",
    "unlearning",
    "--true-trigger",
    "trigger.npz",
    "--max-accuracy-drop",
    "10",
    "--out",
    "repaired.onnx",
];

/// Runs the command.
pub fn run(arguments: &DemoArguments, invocation: &Invocation) -> anyhow::Result<Status> {
    let out = &arguments.out;
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    for (name, bytes) in [("model.onnx", MODEL), ("clean.npz", CLEAN), ("trigger.npz", TRIGGER)] {
        let path = out.join(name);
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    }
    println!("in {}: model.onnx, which hides a backdoor, and clean.npz, 400 clean pictures", out.display());
    arguments.step(invocation, "1. Does the model hide a backdoor?", &["scan", "model.onnx", "--out", "before"], 1)?;
    arguments.step(
        invocation,
        "2. Remove it. (400 pictures are few: more of them would cost less accuracy.)",
        &REPAIR,
        0,
    )?;
    arguments.step(invocation, "3. Is it gone?", &["scan", "repaired.onnx", "--out", "after"], 0)?;
    println!("\nlook at {} and {}", out.join("before/report.html").display(), out.join("after/report.html").display());
    Ok(SUCCESS)
}

impl DemoArguments {
    /// Shows a command and runs it, which has to end with `status`.
    fn step(&self, invocation: &Invocation, title: &str, arguments: &[&str], status: i32) -> anyhow::Result<()> {
        let words: Vec<&str> = arguments.iter().copied().chain(SAMPLES).collect();
        println!("\n{title}\n\n$ neural-cleanse {}", words.join(" "));
        let ended =
            invocation.again()?.args(&words).current_dir(&self.out).status().context("cannot start a process")?;
        anyhow::ensure!(ended.code() == Some(status), "this should have ended with exit status {status}: {ended}");
        Ok(())
    }
}
