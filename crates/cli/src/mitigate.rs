use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use neural_cleanse::data::{Picked, Samples};
use neural_cleanse::mitigation::{
    Backdoor, Filtering, Layers, Mitigation, Optimiser, Pruning, Repair, Unlearning, embed_filter, mitigate,
};
use neural_cleanse::report::{MitigationPage, MitigationReport, ScanReport, Verification};
use neural_cleanse::scan::HELD_OUT_PART;
use neural_cleanse::{Classifier, CleanSet, Config, Norm, ScanOptions, Trigger};

use crate::options::{DataArguments, ModelArguments};
use crate::progress::{Interrupt, Progress};
use crate::trigger_files::trigger_paths;
use crate::{Invocation, SUCCESS, Status, log, table};

/// Repair a backdoored model: by unlearning, pruning or filtering, or several in the order given.
///
/// Exit status: 0 repaired, 2 error, 4 refused because clean accuracy would fall too far.
#[derive(Args)]
pub struct MitigateArguments {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    data: DataArguments,

    /// Use this many samples, chosen by the seed and spread evenly over the classes
    #[arg(long, value_name = "N", default_value_t = 1000, help_heading = "Samples")]
    samples: usize,

    /// What to do, with commas between; in this order
    #[arg(long, value_enum, value_delimiter = ',', required = true)]
    method: Vec<Method>,

    /// Where the repaired model goes; mitigation.json and mitigation.html are written beside it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// The folder that a scan of this model has written [default: scan first]
    #[arg(long, value_name = "DIR")]
    scan: Option<PathBuf>,

    /// The target classes to repair, with commas between [default: those that the scan flagged]
    #[arg(long, value_delimiter = ',', value_name = "CLASS")]
    target: Option<Vec<usize>>,

    /// The true trigger, if you know it, to measure with: .npz (mask, pattern) or PNG, whose alpha is the mask
    #[arg(long, value_name = "FILE")]
    true_trigger: Option<PathBuf>,

    /// Samples, beyond --samples, on which the result is measured; with fewer at hand, a fifth of all
    #[arg(long, value_name = "N", default_value_t = 1000, help_heading = "Samples")]
    test_samples: usize,

    /// The most clean accuracy, in percentage points, that the repair may cost
    #[arg(long, value_name = "POINTS", default_value_t = 5.0)]
    max_accuracy_drop: f64,

    /// Build the filter into the model, as a further boolean output `abstain`
    #[arg(long)]
    embed_filter: bool,

    /// Scan the repaired model, too
    #[arg(long)]
    verify: bool,

    /// The seed of everything that is random
    #[arg(long, default_value_t = 0)]
    seed: u64,

    #[command(flatten)]
    unlearning: UnlearningArguments,

    #[command(flatten)]
    pruning: PruningArguments,

    #[command(flatten)]
    filtering: FilteringArguments,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    /// Fine-tune on stamped images under their true labels
    Unlearning,
    /// Take away the neurons that respond to the trigger
    Pruning,
    /// Abstain on inputs whose neurons respond as to the trigger
    Filtering,
}

#[derive(Clone, Copy, ValueEnum)]
enum OptimiserName {
    Adam,
    Sgd,
}

#[derive(Args)]
#[command(next_help_heading = "Unlearning")]
struct UnlearningArguments {
    /// Passes over the samples
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,

    /// The share of the samples that carry the trigger, 0 to 1
    #[arg(long, value_name = "SHARE")]
    stamped_share: Option<f64>,

    /// How much of what is asked of a sample is the model's own answer before, and not its label, 0 to 1; without it, the share of samples
    /// that the model answers rightly, 0.9 at the most
    #[arg(long, value_name = "SHARE")]
    distillation: Option<f64>,

    /// The temperature of the model's answers; without it, the one at which they have half the entropy that they could have
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,

    /// The share of the samples without a trigger that are mixed with another sample, 0 to 1
    #[arg(long, value_name = "SHARE")]
    mixing: Option<f64>,

    /// The share of the samples, 0 to 1, that are shifted by up to a sixteenth of their sides
    #[arg(long, value_name = "SHARE")]
    shifting: Option<f64>,

    /// How many further triggers each search inverts for each flagged class, to be unlearned, too
    #[arg(long, value_name = "N")]
    further_triggers: Option<usize>,

    /// How often further triggers are searched for: before the training, and in the model as it has become by then
    #[arg(long, value_name = "N")]
    searches: Option<usize>,

    /// The number of images in a minibatch
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,

    /// The optimiser's learning rate
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,

    /// The optimiser
    #[arg(long, value_enum)]
    optimiser: Option<OptimiserName>,

    /// Train only the last layers, as many as this; few are seldom enough to remove a backdoor
    #[arg(long, value_name = "N")]
    last_layers: Option<usize>,
}

#[derive(Args)]
#[command(next_help_heading = "Pruning")]
struct PruningArguments {
    /// The largest share of the neurons that is pruned, 0 to 1
    #[arg(long, value_name = "SHARE")]
    prune_at_most: Option<f64>,

    /// Stop when the reversed trigger's success rate is under this, 0 to 1
    #[arg(long, value_name = "RATE")]
    prune_asr_bound: Option<f64>,

    /// The most clean accuracy that may be lost on the samples that decide, 0 to 1
    #[arg(long, value_name = "SHARE")]
    prune_accuracy_bound: Option<f64>,
}

#[derive(Args)]
#[command(next_help_heading = "Filtering")]
struct FilteringArguments {
    /// The share of clean inputs that the filter may abstain on, 0 to 1
    #[arg(long, value_name = "RATE")]
    false_positive_rate: Option<f64>,
}

/// The exit status of a repair that would cost too much clean accuracy.
const REFUSED: Status = 4;

/// Runs the command.
pub fn run(arguments: &MitigateArguments, invocation: &Invocation) -> anyhow::Result<Status> {
    let methods = arguments.methods()?;
    let classifier = arguments.model.classifier(&arguments.data)?;
    let true_trigger = arguments.true_trigger.as_ref();
    let true_trigger = true_trigger.map(|path| Trigger::read(path, classifier.image_shape())).transpose()?;
    let folder = arguments.out_folder();
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let interrupt = Interrupt::install()?;
    let at_most =
        Some(Picked { samples: arguments.samples.saturating_add(arguments.test_samples), seed: arguments.seed });
    let samples = arguments.data.read(at_most, &arguments.model, &classifier)?;
    anyhow::ensure!(samples.labels.is_some(), "a repair needs labels: give --labels, or samples that come with them");
    let (working, unseen) = arguments.split(samples)?;
    let (backdoors, scanned) = arguments.backdoors(&classifier, &working, &interrupt)?;
    let true_backdoor = true_trigger.map(|trigger| true_backdoor(trigger, &backdoors)).transpose()?;

    let working_set = CleanSet::new(&classifier, working.clone())?;
    let unseen = CleanSet::new(&classifier, unseen)?;
    let bar = ProgressBar::with_draw_target(Some(100), log::bars())
        .with_style(ProgressStyle::with_template("{msg:<28} [{bar:30}] {percent} %")?);
    let repair = mitigate(
        &classifier,
        &backdoors,
        true_backdoor.as_ref(),
        &working_set,
        &unseen,
        &methods,
        &mut |method, share| {
            bar.set_message(method.name());
            bar.set_position((100.0 * share) as u64);
            if interrupt.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    )?;
    bar.finish_and_clear();

    let targets: Vec<usize> = backdoors.iter().map(|backdoor| backdoor.target_class).collect();
    println!("{}", table::of_repair(&repair, &targets));
    let drop = 100.0 * repair.accuracy_drop();
    if exceeds(drop, arguments.max_accuracy_drop) {
        tracing::error!(
            "refused: clean accuracy would fall by {drop:.1} points, more than the {} that --max-accuracy-drop allows; nothing is written",
            arguments.max_accuracy_drop
        );
        return Ok(REFUSED);
    }
    let verification = arguments.verify(&classifier, &repair, &working, &scanned, &interrupt)?;
    let (working, unseen) = (working_set.labels.len(), unseen.labels.len());
    let report = MitigationReport::new(&repair, targets, working, unseen, verification);
    arguments.write(&classifier, &repair, &report, invocation)?;
    Ok(SUCCESS)
}

impl MitigateArguments {
    fn out_folder(&self) -> &Path {
        self.out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    fn split(&self, samples: Samples) -> anyhow::Result<(Samples, Samples)> {
        let count = samples.len();
        let held_out = if count > self.samples { count - self.samples } else { count / HELD_OUT_PART };
        anyhow::ensure!(
            held_out > 0,
            "{count} samples are too few to repair a model with and to measure the result on"
        );
        Ok(samples.split(held_out, self.seed))
    }

    /// The triggers of the former scan or of a new one, and the report of that scan.
    fn backdoors(
        &self,
        classifier: &Classifier,
        samples: &Samples,
        interrupt: &Interrupt,
    ) -> anyhow::Result<(Vec<Backdoor>, ScanReport)> {
        let Some(folder) = &self.scan else {
            let options = self.scan_options(classifier);
            let scan = scan(classifier, samples, &options, interrupt)?;
            println!("verdict: {}; {}", scan.detection.verdict, scan.detection.reason);
            let report = ScanReport::new(&scan, classifier, &options.config, "", "", 0.0);
            let targets = self.targets(&report)?;
            let of_target = |class: &neural_cleanse::scan::ClassScan| targets.contains(&class.inversion.target_class);
            let backdoors = (scan.classes.iter().filter(|class| of_target(class)))
                .map(|class| Backdoor {
                    target_class: class.inversion.target_class,
                    trigger: class.inversion.trigger.clone(),
                })
                .collect();
            return Ok((backdoors, report));
        };
        let report = ScanReport::read(&folder.join("scan.json"))?;
        anyhow::ensure!(
            report.model.sha256 == crate::scan::sha256(&self.model.model)?,
            "{} is the scan of another model ({}): scan this one",
            folder.display(),
            report.model.path
        );
        let read = |(target_class, path): (usize, PathBuf)| {
            anyhow::Ok(Backdoor { target_class, trigger: Trigger::read_npz(&path.with_extension("npz"))? })
        };
        let paths = self
            .targets(&report)?
            .into_iter()
            .flat_map(|target| trigger_paths(folder, &report, target).into_iter().map(move |path| (target, path)));
        let backdoors = paths.map(read).collect::<anyhow::Result<Vec<_>>>()?;
        Ok((backdoors, report))
    }

    fn targets(&self, report: &ScanReport) -> anyhow::Result<Vec<usize>> {
        let targets = self.target.clone().unwrap_or_else(|| report.flagged_classes.clone());
        anyhow::ensure!(
            !targets.is_empty(),
            "the scan flags no class ({}): nothing to repair; --target CLASS repairs a class all the same",
            report.verdict
        );
        let scanned = |target: &&usize| trigger_paths(Path::new(""), report, **target).is_empty();
        if let Some(target) = targets.iter().find(scanned) {
            anyhow::bail!("class {target} was not scanned");
        }
        Ok(targets)
    }

    fn methods(&self) -> anyhow::Result<Vec<Mitigation>> {
        anyhow::ensure!(
            !self.embed_filter || self.method.contains(&Method::Filtering),
            "--embed-filter goes with --method filtering"
        );
        let methods: Vec<Mitigation> = (self.method.iter())
            .map(|method| match method {
                Method::Unlearning => Mitigation::Unlearning(self.unlearning.options(self.seed)),
                Method::Pruning => Mitigation::Pruning(self.pruning.options()),
                Method::Filtering => Mitigation::Filtering(self.filtering.options()),
            })
            .collect();
        methods.iter().try_for_each(Mitigation::validate).map_err(anyhow::Error::msg)?;
        Ok(methods)
    }

    fn scan_options(&self, classifier: &Classifier) -> ScanOptions {
        let [_, height, width] = classifier.image_shape();
        ScanOptions::new(Config { seed: self.seed, ..Config::fast(Norm::L2, height, width) })
    }

    fn verify(
        &self,
        classifier: &Classifier,
        repair: &Repair,
        samples: &Samples,
        before: &ScanReport,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Option<Verification>> {
        if !self.verify {
            return Ok(None);
        }
        let repaired = classifier.with_model(repair.model.clone())?;
        let options = ScanOptions { rule: Some(before.rule), ..ScanOptions::new(before.parameters.clone()) };
        let scan = scan(&repaired, samples, &options, interrupt)?;
        let report = ScanReport::new(&scan, &repaired, &options.config, "", "", 0.0);
        println!("verified: {}; {}", report.verdict, report.reason);
        Ok(Some(Verification { before: before.into(), after: (&report).into() }))
    }

    fn write(
        &self,
        classifier: &Classifier,
        repair: &Repair,
        report: &MitigationReport,
        invocation: &Invocation,
    ) -> anyhow::Result<()> {
        match &repair.filter {
            Some(filter) if self.embed_filter => {
                let repaired = classifier.with_model(repair.model.clone())?;
                embed_filter(repaired.network(), filter)?.write(&self.out)?;
            }
            _ => repair.model.write(&self.out)?,
        }
        let path = self.out_folder().join("mitigation.json");
        report.write(&path)?;
        let page = path.with_extension("html");
        let (given, repaired) = (self.model.model.to_string_lossy(), self.out.to_string_lossy());
        MitigationPage::new(report, &given, &repaired, &invocation.command_line()).write(&page)?;
        writeln!(std::io::stdout(), "written: {repaired}, {} and {}", path.display(), page.display())?;
        Ok(())
    }
}

/// The backdoor with the true trigger in place of the reversed one.
fn true_backdoor(trigger: Trigger, backdoors: &[Backdoor]) -> anyhow::Result<Backdoor> {
    match backdoors {
        [backdoor] => Ok(Backdoor { target_class: backdoor.target_class, trigger }),
        _ => anyhow::bail!(
            "--true-trigger goes with one backdoor, and there are {}: choose one with --target",
            backdoors.len()
        ),
    }
}

/// Whether a loss of accuracy is beyond a bound, both in percentage points; rounding is not.
fn exceeds(drop: f64, bound: f64) -> bool {
    drop > bound + 1e-9
}

impl UnlearningArguments {
    fn options(&self, seed: u64) -> Unlearning {
        let default = Unlearning::default();
        Unlearning {
            epochs: self.epochs.unwrap_or(default.epochs),
            stamped_share: self.stamped_share.unwrap_or(default.stamped_share),
            distillation: self.distillation,
            temperature: self.temperature,
            mixing: self.mixing.unwrap_or(default.mixing),
            shifting: self.shifting.unwrap_or(default.shifting),
            further_triggers: self.further_triggers.unwrap_or(default.further_triggers),
            searches: self.searches.unwrap_or(default.searches),
            batch_size: self.batch_size.unwrap_or(default.batch_size),
            learning_rate: self.learning_rate.unwrap_or(default.learning_rate),
            optimiser: match self.optimiser {
                Some(OptimiserName::Adam) => Optimiser::ADAM,
                Some(OptimiserName::Sgd) => Optimiser::SGD,
                None => default.optimiser,
            },
            layers: self.last_layers.map_or(default.layers, Layers::Last),
            seed,
        }
    }
}

impl PruningArguments {
    fn options(&self) -> Pruning {
        let default = Pruning::default();
        Pruning {
            most: self.prune_at_most.unwrap_or(default.most),
            asr_bound: self.prune_asr_bound.unwrap_or(default.asr_bound),
            accuracy_bound: self.prune_accuracy_bound.unwrap_or(default.accuracy_bound),
        }
    }
}

impl FilteringArguments {
    fn options(&self) -> Filtering {
        let default = Filtering::default();
        Filtering { false_positive_rate: self.false_positive_rate.unwrap_or(default.false_positive_rate), ..default }
    }
}

fn scan(
    classifier: &Classifier,
    samples: &Samples,
    options: &ScanOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<neural_cleanse::Scan> {
    let progress = Progress::new(interrupt.clone(), None, None)?;
    let scan = neural_cleanse::scan(classifier, samples, options, &progress);
    progress.finish();
    Ok(scan?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_of_just_the_bound_is_allowed() {
        assert!(!exceeds(100.0 * (0.925 - 0.875), 5.0));
        assert!(exceeds(5.1, 5.0));
    }
}
