//! The command on hostile files: what it says, and that time and memory are bounded while it does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a run may take of address space, in KiB, and of time, in seconds.
pub const KIBIBYTES: u32 = 3 << 20;
const SECONDS: u32 = 30;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub stderr: String,
}

/// Runs the command in `folder` under limits of memory and time; `None` as its status is a signal, 124 too much time.
pub fn run(folder: &Path, arguments: &[&str]) -> Ended {
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -v {KIBIBYTES}; exec timeout {SECONDS} \"$0\" \"$@\"")])
        .arg(env!("CARGO_BIN_EXE_neural-cleanse"))
        .args(arguments)
        .current_dir(folder)
        .envs([("RAYON_NUM_THREADS", "2"), ("RTEN_NUM_THREADS", "2")])
        .output()
        .expect("a shell");
    Ended { status: output.status.code(), stderr: String::from_utf8(output.stderr).expect("text") }
}

/// Everything in `folder`, however deep, but what is in `out`.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.is_symlink() && !path.ends_with("out") {
            found.extend(files(&path));
        }
        if !path.ends_with("out") {
            found.insert(path);
        }
    }
    found
}

/// What is wrong with how a scan of hostile files ended, which should have been with status 2 and one sentence that has
/// `words` in it, without any file in `folder` but in `out`.
pub fn scan_complains(folder: &Path, model: &str, data: &str, more: &[&str], words: &str) -> Result<(), String> {
    let before = files(folder);
    let mut arguments = vec!["scan", model, "--data", data, "--out", "out", "--engine", "rten", "--threads", "2"];
    arguments.extend(["--steps", "2", "--batches-per-step", "1", "--quiet", "--max-memory", "1G"]);
    arguments.extend(more);
    let ended = run(folder, &arguments);
    let said: Vec<&str> = ended.stderr.lines().collect();
    let problem = if ended.status != Some(2) {
        "not status 2"
    } else if said.len() != 1 || !said[0].starts_with("error: ") || said[0].len() > 500 {
        "not one sentence"
    } else if !said[0].contains(words) {
        "not the words"
    } else if files(folder) != before || folder.join("out/scan.json").exists() {
        "files were written"
    } else {
        return Ok(());
    };
    Err(format!("{problem} `{words}`: {ended:?}"))
}
