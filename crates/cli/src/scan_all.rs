use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use neural_cleanse::Verdict;
use neural_cleanse::report::{IndexPage, ModelSummary, ScanReport, Summary};

use crate::progress::Interrupt;
use crate::{ERROR, Invocation, Status, csv, log, table};

/// Scan many models, each in a process of its own, and sum up: a failure is a row and the rest go on.
///
/// Exit status: 1 if any model is backdoored, otherwise 2 if any scan failed, otherwise 3 if any is inconclusive,
/// otherwise 0.
#[derive(Args)]
pub struct ScanAllArguments {
    /// A folder, which is searched for .onnx files with all its sub-folders, or a text file with one path a line,
    /// from that file's folder
    models: PathBuf,

    /// Where summary.json, summary.csv, index.html and a folder for each model go
    #[arg(long, value_name = "DIR", default_value = "scans")]
    out: PathBuf,

    /// How many models are scanned side by side; they share the processors
    #[arg(long, value_name = "N", default_value = "1")]
    jobs: NonZeroUsize,

    /// Print summary.json instead of the table
    #[arg(long)]
    json: bool,

    /// The options of `scan` that every model is scanned with, after `--`
    #[arg(last = true, value_name = "SCAN OPTIONS")]
    scan: Vec<String>,
}

/// A model to scan, and the folder for its scan from that of the summary.
struct Job {
    model: PathBuf,
    folder: PathBuf,
}

/// Runs the command.
pub fn run(arguments: &ScanAllArguments, invocation: &Invocation) -> anyhow::Result<Status> {
    let jobs = jobs(&arguments.models)?;
    anyhow::ensure!(!jobs.is_empty(), "there are no .onnx files in {}", arguments.models.display());
    arguments.check_scan_options()?;
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("cannot create {}", arguments.out.display()))?;
    let summary = Summary::new(arguments.scan_side_by_side(&jobs, invocation, &Interrupt::install()?)?);
    summary.write(&arguments.out.join("summary.json"))?;
    let index = arguments.out.join("index.html");
    IndexPage::new(&summary, &invocation.command_line()).write(&index)?;
    write_csv(&arguments.out.join("summary.csv"), &summary)?;
    let mut stdout = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut stdout, &summary)?;
        writeln!(stdout)?;
    } else {
        writeln!(stdout, "{}\nopen {}", table::of_models(&summary), index.display())?;
    }
    Ok(exit_status(&summary))
}

impl ScanAllArguments {
    /// An error that names the option at fault if `scan` would not take the options.
    fn check_scan_options(&self) -> Result<(), clap::Error> {
        crate::check(
            ["neural-cleanse", "scan", "MODEL", "--out", "DIR"].into_iter().chain(self.scan.iter().map(String::as_str)),
        )
    }

    fn scan_side_by_side(
        &self,
        jobs: &[Job],
        invocation: &Invocation,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Vec<ModelSummary>> {
        let workers = self.jobs.get().min(jobs.len());
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = (processors / workers).max(1);
        let style = ProgressStyle::with_template("{msg:<28} [{bar:30}] {pos}/{len} models, {elapsed}, {eta} left")?;
        let bar = ProgressBar::with_draw_target(Some(jobs.len() as u64), log::bars()).with_style(style);
        let next = AtomicUsize::new(0);
        let rows: Mutex<Vec<Option<ModelSummary>>> = Mutex::new(jobs.iter().map(|_| None).collect());
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some((i, job)) =
                        Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, jobs.get(i)?)))
                    {
                        let model = job.model.display().to_string();
                        bar.set_message(model.clone());
                        let scanned = if interrupt.is_set() {
                            Err(anyhow::anyhow!("not scanned: interrupted"))
                        } else {
                            self.scan(job, invocation, threads)
                        };
                        let row = scanned.unwrap_or_else(|error| ModelSummary::failed(model, format!("{error:#}")));
                        tracing::debug!(model = row.model, outcome = row.outcome(), "{}: {}", row.model, row.outcome());
                        rows.lock().unwrap_or_else(PoisonError::into_inner)[i] = Some(row);
                        bar.inc(1);
                    }
                });
            }
        });
        bar.finish_and_clear();
        Ok(rows.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect())
    }

    /// Scans a model in a process of its own, so that one that takes the process down is a failure like any other.
    fn scan(&self, job: &Job, invocation: &Invocation, threads: usize) -> anyhow::Result<ModelSummary> {
        let out = self.out.join(&job.folder);
        let mut scan = invocation.again()?;
        scan.arg("scan").arg("--out").arg(&out);
        if !self.scan.iter().any(|argument| argument.starts_with("--threads")) {
            scan.arg("--threads").arg(threads.to_string());
        }
        scan.args(&self.scan).arg("--").arg(&job.model);
        let output = scan.stdin(Stdio::null()).output().context("cannot start a process")?;
        if !matches!(output.status.code(), Some(0 | 1 | 3)) {
            let words = String::from_utf8_lossy(&output.stderr);
            let error = words.lines().rev().find_map(|line| line.strip_prefix("error: "));
            anyhow::bail!("{}", error.map_or_else(|| format!("the scan ended with {}", output.status), str::to_owned));
        }
        let page = job.folder.join("report.html").to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/");
        let report = ScanReport::read(&out.join("scan.json"))?;
        Ok(ModelSummary::scanned(job.model.display().to_string(), &report, page))
    }
}

/// The models of a folder or a list. Each scan has a folder that is named as the model, or by its number if others have
/// that name.
fn jobs(path: &Path) -> anyhow::Result<Vec<Job>> {
    let (models, root) = if path.is_dir() {
        let mut models = Vec::new();
        collect(path, &mut models)?;
        models.sort();
        (models, path)
    } else {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        (lines.map(|line| folder.join(line)).collect(), folder)
    };
    let mut jobs: Vec<Job> = Vec::with_capacity(models.len());
    for (i, model) in models.into_iter().enumerate() {
        let inner = model.strip_prefix(root).unwrap_or(&model).with_extension("");
        let plain = inner.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let taken = |folder: &Path| jobs.iter().any(|job| job.folder == folder);
        let folder = if plain && !taken(&inner) { inner } else { PathBuf::from(format!("model_{i:03}")) };
        jobs.push(Job { model, folder });
    }
    Ok(jobs)
}

fn collect(folder: &Path, models: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry.with_context(|| folder.display().to_string())?;
        let path = entry.path();
        // A link to a folder may lead back here.
        if entry.file_type().with_context(|| path.display().to_string())?.is_dir() {
            collect(&path, models)?;
        } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")) {
            models.push(path);
        }
    }
    Ok(())
}

fn write_csv(path: &Path, summary: &Summary) -> anyhow::Result<()> {
    let mut out = Vec::new();
    let header =
        ["model", "verdict", "flagged_classes", "ratio", "anomaly_index", "clean_accuracy", "seconds", "reason"];
    csv::write_line(&mut out, header)?;
    let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    for model in &summary.models {
        let flagged: Vec<String> = model.flagged_classes.iter().map(usize::to_string).collect();
        let fields = [
            model.model.clone(),
            model.outcome(),
            flagged.join(" "),
            number(model.ratio),
            number(model.anomaly_index),
            number(model.clean_accuracy),
            number(model.seconds),
            model.reason.clone(),
        ];
        csv::write_line(&mut out, fields.iter().map(String::as_str))?;
    }
    std::fs::write(path, out).with_context(|| path.display().to_string())
}

fn exit_status(summary: &Summary) -> Status {
    let any = |verdict| summary.count(verdict) > 0;
    match () {
        () if any(Some(Verdict::Backdoored)) => 1,
        () if any(None) => ERROR,
        () if any(Some(Verdict::Inconclusive)) => 3,
        () => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_one_name_have_folders_of_their_own() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        for file in ["a.onnx", "a/b/c.ONNX", "a/b/c.onnx", "a/notes.txt"] {
            std::fs::write(root.path().join(file), "").unwrap();
        }
        let folders = |path: &Path| jobs(path).unwrap().into_iter().map(|job| job.folder).collect::<Vec<_>>();
        assert_eq!(folders(root.path()), ["a/b/c", "model_001", "a"].map(PathBuf::from));

        let list = root.path().join("list.txt");
        std::fs::write(&list, "a.onnx\n\n../elsewhere.onnx\n").unwrap();
        assert_eq!(folders(&list), ["a", "model_001"].map(PathBuf::from));
    }

    #[test]
    fn the_exit_status_tells_the_worst() {
        let model = |verdict| ModelSummary { verdict, ..ModelSummary::failed(String::new(), String::new()) };
        let status =
            |verdicts: &[Option<Verdict>]| exit_status(&Summary::new(verdicts.iter().copied().map(model).collect()));
        let (clean, backdoored) = (Some(Verdict::Clean), Some(Verdict::Backdoored));
        assert_eq!(status(&[clean, clean]), 0);
        assert_eq!(status(&[clean, None, backdoored]), 1);
        assert_eq!(status(&[clean, None, Some(Verdict::Inconclusive)]), 2);
        assert_eq!(status(&[clean, Some(Verdict::Inconclusive)]), 3);
    }
}
