use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use anyhow::Context;
use clap::{ArgAction, Args, ValueEnum};
use neural_cleanse::data::Picked;
use neural_cleanse::report::{Evidence, ScanPage, ScanReport, write_sarif};
use neural_cleanse::{
    Classifier, CleanSet, Config, Error, Fingerprint, Mode, Norm, Rule, ScanOptions, Store, TriggerKind, Verdict,
    remove_unfinished, scan_in_mode,
};
use sha2::{Digest, Sha256};

use crate::limits::TimeArguments;
use crate::options::{DataArguments, ModelArguments};
use crate::progress::{INTERRUPTED, Interrupt, Progress};
use crate::trigger_files;
use crate::{ERROR, Invocation, Status, table};

/// Say whether a model hides a backdoor, for which class, and show the trigger.
///
/// Exit status: 0 clean, 1 backdoored, 2 error, 3 inconclusive, 130 interrupted; the same command then goes on.
#[derive(Args)]
pub struct ScanArguments {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    data: DataArguments,

    /// Use this many samples, chosen by the seed and spread evenly over the classes
    #[arg(long, value_name = "N", default_value_t = 1000, help_heading = "Samples")]
    samples: usize,

    /// Where report.html, scan.json and the triggers go [default: the model's name with -scan, in the current folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Print scan.json instead of the table
    #[arg(long)]
    json: bool,

    /// Write the findings as SARIF 2.1.0, too, for code-scanning pages
    #[arg(long, value_name = "FILE")]
    sarif: Option<PathBuf>,

    /// Go on where the clean accuracy is near chance
    #[arg(long)]
    force: bool,

    /// What to look for: targets (triggers for all classes), pairs (for each source and target), margin (needs no samples) or
    /// thorough (all of these) [default: targets, or margin without --data]
    #[arg(long, value_name = "MODE")]
    mode: Option<Mode>,

    /// Only these classes, with commas between
    #[arg(long, value_delimiter = ',', value_name = "CLASS")]
    classes: Option<Vec<usize>>,

    /// Run every class to its end, also those that can no longer be flagged
    #[arg(long)]
    exhaustive: bool,

    /// Begin anew, and let go what an interrupted scan has left in --out
    #[arg(long)]
    restart: bool,

    #[command(flatten)]
    time: TimeArguments,

    #[command(flatten)]
    inversion: InversionArguments,

    #[command(flatten)]
    detection: DetectionArguments,
}

/// Where the parameters that no option sets come from.
#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    /// One minibatch of 16 a step, 60 steps; classes that cannot be flagged are dropped
    Fast,
    /// The documented defaults of NeuralCleanse: passes over all samples, up to 1000 steps
    Seed,
}

#[derive(Args)]
#[command(next_help_heading = "Trigger inversion")]
struct InversionArguments {
    /// Where the parameters that no option sets come from
    #[arg(long, value_enum, default_value = "fast")]
    preset: Preset,

    /// The norm of the mask that is made small: 1, 2 or inf
    #[arg(long, default_value = "2")]
    norm: Norm,

    /// The largest number of steps for a class
    #[arg(long, value_name = "N")]
    steps: Option<usize>,

    /// The first weight of the norm that is not 0
    #[arg(long, value_name = "WEIGHT")]
    init_cost: Option<f64>,

    /// The learning rate of Adam
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,

    /// The attack success rate, 0 to 1, from which on a step is a success
    #[arg(long, value_name = "RATE")]
    attack_success_threshold: Option<f64>,

    /// The successes (failures) in a row after which the cost rises (falls)
    #[arg(long, value_name = "N")]
    patience: Option<usize>,

    /// Stop before --steps when the norm no longer falls
    #[arg(long, overrides_with = "no_early_stop", action = ArgAction::SetTrue)]
    early_stop: bool,

    /// Always take all steps
    #[arg(long, overrides_with = "early_stop", action = ArgAction::SetTrue)]
    no_early_stop: bool,

    /// A norm above this share of the best is no improvement
    #[arg(long, value_name = "SHARE")]
    early_stop_threshold: Option<f64>,

    /// The steps without an improvement after which a class is finished
    #[arg(long, value_name = "N")]
    early_stop_patience: Option<usize>,

    /// The factor by which the cost rises; it falls by its power of 1.5
    #[arg(long, value_name = "FACTOR")]
    cost_multiplier: Option<f64>,

    /// The number of images in a minibatch
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,

    /// The minibatches in a step; 0 is a pass over all samples
    #[arg(long, value_name = "N")]
    batches_per_step: Option<usize>,

    /// The classes that share a batch, each with --batch-size images, or auto: 1 on processors, and as many as make up 256 images on other providers
    #[arg(long, value_name = "N|auto", default_value = "auto")]
    classes_per_batch: ClassesPerBatch,

    /// The value of the whole mask at the start, between 0 and 1; in a window it is 0.5 at the least
    #[arg(long, value_name = "VALUE")]
    initial_mask: Option<f64>,

    /// Give each colour channel a mask of its own
    #[arg(long)]
    mask_per_channel: bool,

    /// How triggers change an image: blended (a mask shows a pattern) or additive (pixels are brightened and darkened)
    #[arg(long, value_name = "KIND", default_value = "blended")]
    trigger: TriggerKind,

    /// TABOR's regulariser of overly large triggers, by its weight beside the norm
    #[arg(long, value_name = "WEIGHT", default_value_t = 0.0)]
    overly_large: f64,

    /// TABOR's regulariser of scattered triggers, by its weight beside the norm
    #[arg(long, value_name = "WEIGHT", default_value_t = 0.0)]
    scattered: f64,

    /// TABOR's regulariser of triggers that block what an image shows, by its weight beside the cross-entropy
    #[arg(long, value_name = "WEIGHT", default_value_t = 0.0)]
    blocking: f64,

    /// The seed of everything that is random
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum RuleName {
    /// By the size as a share of what is usual
    Ratio,
    /// By the anomaly index, as the paper does
    Mad,
}

#[derive(Args)]
#[command(next_help_heading = "Detection")]
struct DetectionArguments {
    /// How norms are judged
    #[arg(long, value_enum, default_value = "ratio")]
    rule: RuleName,

    /// The bound beyond which a class is flagged [default: for ratio by the norm, for mad 2]
    #[arg(long, value_name = "BOUND", allow_negative_numbers = true)]
    threshold: Option<f64>,
}

/// Runs the command.
pub fn run(arguments: &ScanArguments, invocation: &Invocation) -> anyhow::Result<Status> {
    let started = Instant::now();
    let time = arguments.time.start();
    let classifier = arguments.model.classifier(&arguments.data)?;
    let config = arguments.inversion.config(&classifier)?;
    let mode = arguments.mode()?;
    let picked = Some(Picked { samples: arguments.samples, seed: config.seed });
    let mut samples = match mode {
        Mode::Margin if !arguments.data.is_given() => None,
        _ => Some(arguments.data.read(picked, &arguments.model, &classifier)?),
    };
    let classifier = match samples.as_mut().and_then(|samples| samples.class_names.take()) {
        Some(names) if !arguments.model.names_classes()? && names.len() == classifier.classes() => {
            classifier.with_class_names(names)?
        }
        _ => classifier,
    };
    let out = arguments.out_folder()?;
    trigger_files::create_folder(&out)?;
    let options = ScanOptions {
        config,
        classes: arguments.classes.clone(),
        rule: Some(arguments.detection.rule(arguments.inversion.norm)?),
        force: arguments.force,
        exhaustive: arguments.exhaustive,
    };
    // Without samples there is nothing that takes long enough to be kept.
    let store = match &samples {
        Some(samples) => Some(arguments.store(&out, &Fingerprint::new(mode, &classifier, samples, &options)?)?),
        None => None,
    };
    let progress = Progress::new(Interrupt::install()?, store, Some(time))?;
    let result = scan_in_mode(mode, &classifier, samples.as_ref(), &options, &progress);
    let (store, overrun) = progress.finish();
    let scan = match result {
        Err(Error::Interrupted) => {
            let status = if overrun.is_some() { ERROR } else { INTERRUPTED };
            say_how_to_go_on(overrun.as_deref().unwrap_or("interrupted"), store.as_ref(), &out);
            return Ok(status);
        }
        result => result?,
    };

    let model = &arguments.model.model;
    let report = ScanReport::new(
        &scan,
        &classifier,
        &options.config,
        &model.to_string_lossy(),
        &sha256(model)?,
        started.elapsed().as_secs_f64(),
    );
    let evidence = match samples {
        Some(samples) => {
            let clean = CleanSet::new(&classifier, samples)?;
            trigger_files::write(&out, &scan, &report, &clean, &classifier)?;
            Evidence::gather(&scan, &classifier, &clean)?
        }
        None => Vec::new(),
    };
    let command = invocation.command_line();
    ScanPage::new(&report, &evidence, classifier.value_range(), &command)?.write(&out.join("report.html"))?;
    report.write(&out.join("scan.json"))?;
    if let Some(path) = &arguments.sarif {
        write_sarif(path, &report)?;
    }
    store.map_or(Ok(()), Store::remove)?;
    print(&report, &out, arguments.json)?;
    Ok(match report.verdict {
        Verdict::Clean => 0,
        Verdict::Backdoored => 1,
        Verdict::Inconclusive => 3,
    })
}

impl ScanArguments {
    /// The mode that was asked for, or the one that goes with the samples.
    fn mode(&self) -> anyhow::Result<Mode> {
        match (self.mode, self.data.is_given()) {
            (Some(Mode::Margin), _) => Ok(Mode::Margin),
            (Some(_), false) => {
                anyhow::bail!("without clean samples there is --mode margin alone: give samples with --data")
            }
            (None, false) => {
                tracing::warn!(
                    "there are no clean samples (--data): only the margins are looked at, as by --mode margin"
                );
                Ok(Mode::Margin)
            }
            (mode, true) => Ok(mode.unwrap_or(Mode::Targets)),
        }
    }

    fn out_folder(&self) -> anyhow::Result<PathBuf> {
        if let Some(out) = &self.out {
            return Ok(out.clone());
        }
        let stem = self.model.model.file_stem().context("the model's path has no file name")?;
        Ok(PathBuf::from(format!("{}-scan", stem.to_string_lossy())))
    }

    /// The searches of this scan, perhaps begun by an earlier one; no other process gets them meanwhile. Its unfinished files go.
    fn store(&self, out: &Path, fingerprint: &Fingerprint) -> anyhow::Result<Store> {
        let store = Store::open(&out.join("state"), fingerprint, self.restart)?;
        remove_unfinished(out)?;
        remove_unfinished(&out.join("triggers"))?;
        if store.kept() > 0 {
            let kept = table::count(store.kept(), "search", "searches");
            tracing::info!("going on from {kept} of an interrupted scan, kept in {}", out.join("state").display());
        }
        Ok(store)
    }
}

/// How many classes share a batch.
#[derive(Clone, Copy)]
enum ClassesPerBatch {
    Auto,
    Exactly(usize),
}

impl FromStr for ClassesPerBatch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(ClassesPerBatch::Auto),
            _ => {
                text.parse().map(ClassesPerBatch::Exactly).map_err(|_| format!("`{text}` is neither a number nor auto"))
            }
        }
    }
}

impl InversionArguments {
    fn config(&self, classifier: &Classifier) -> anyhow::Result<Config> {
        let [_, height, width] = classifier.image_shape();
        let preset = match self.preset {
            Preset::Fast => Config::fast(self.norm, height, width),
            Preset::Seed => Config { norm: self.norm, ..Config::default() },
        };
        let early_stop = match (self.early_stop, self.no_early_stop) {
            (true, _) => true,
            (_, true) => false,
            _ => preset.early_stop,
        };
        let batches_per_step = match self.batches_per_step {
            Some(0) => None,
            Some(n) => Some(n),
            None => preset.batches_per_step,
        };
        let batch_size = self.batch_size.unwrap_or(preset.batch_size);
        let config = Config {
            steps: self.steps.unwrap_or(preset.steps),
            init_cost: self.init_cost.unwrap_or(preset.init_cost),
            learning_rate: self.learning_rate.unwrap_or(preset.learning_rate),
            attack_success_threshold: self.attack_success_threshold.unwrap_or(preset.attack_success_threshold),
            patience: self.patience.unwrap_or(preset.patience),
            early_stop,
            early_stop_threshold: self.early_stop_threshold.unwrap_or(preset.early_stop_threshold),
            early_stop_patience: self.early_stop_patience.unwrap_or(preset.early_stop_patience),
            cost_multiplier: self.cost_multiplier.unwrap_or(preset.cost_multiplier),
            batch_size,
            batches_per_step,
            classes_per_batch: match self.classes_per_batch {
                ClassesPerBatch::Exactly(n) => n,
                ClassesPerBatch::Auto => {
                    Config::usual_classes_per_batch(classifier.engine().provider(), batch_size, classifier.classes())
                }
            },
            initial_mask: self.initial_mask.unwrap_or(preset.initial_mask),
            mask_per_channel: self.mask_per_channel,
            seed: self.seed,
            trigger: self.trigger,
            overly_large: self.overly_large,
            scattered: self.scattered,
            blocking: self.blocking,
            ..preset
        };
        config.validate().map_err(anyhow::Error::msg)?;
        Ok(config)
    }
}

impl DetectionArguments {
    fn rule(&self, norm: Norm) -> anyhow::Result<Rule> {
        let rule = match self.rule {
            RuleName::Ratio => Rule::ratio(norm),
            RuleName::Mad => Rule::mad(),
        };
        let Some(bound) = self.threshold else {
            return Ok(rule);
        };
        rule.with_threshold(bound).map_err(|problem| anyhow::anyhow!("--threshold: {problem}"))
    }
}

fn say_how_to_go_on(why: &str, store: Option<&Store>, out: &Path) {
    match store.map_or(0, Store::kept) {
        0 => tracing::error!("{why}; nothing was finished that could be kept: the same command begins anew"),
        kept => {
            let kept = table::count(kept, "search is", "searches are");
            tracing::error!(
                "{why}; {kept} kept in {}: the same command goes on from there",
                out.join("state").display()
            );
        }
    }
}

/// Of a file, in hexadecimal.
pub fn sha256(path: &Path) -> anyhow::Result<String> {
    let mut file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).with_context(|| path.display().to_string())? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn print(report: &ScanReport, out: &Path, json: bool) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut stdout, report)?;
        writeln!(stdout)?;
        return Ok(());
    }
    if !report.classes.is_empty() {
        writeln!(stdout, "{}", table::of_classes(report))?;
    }
    if let Some(pairs) = &report.pairs {
        writeln!(stdout, "{}", table::of_pairs(pairs))?;
    }
    if let Some(margins) = &report.margins {
        writeln!(stdout, "{}", table::of_margins(margins))?;
    }
    if let Some(accuracy) = report.clean_accuracy {
        writeln!(stdout, "clean accuracy {:.1} %", 100.0 * accuracy)?;
    }
    writeln!(stdout, "verdict: {}", report.verdict)?;
    for attack in &report.attacks {
        writeln!(stdout, "attack: {attack}")?;
    }
    writeln!(stdout, "reason: {}", report.reason)?;
    if let Some(calibration) = report.calibration {
        writeln!(stdout, "known models: {calibration}")?;
    }
    if let Some(calibration) = report.pair_calibration {
        writeln!(stdout, "known models: {calibration}")?;
    }
    writeln!(
        stdout,
        "{} gradient samples in {:.1} s; open {}",
        report.gradient_samples,
        report.seconds,
        out.join("report.html").display()
    )?;
    Ok(())
}
