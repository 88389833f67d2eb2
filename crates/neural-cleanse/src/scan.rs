//! The whole defence for one model: invert a trigger for every class, compare their sizes, decide.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::classifier::Classifier;
use crate::clean_set::CleanSet;
use crate::data::Samples;
use crate::detection::{self, Detection, FurtherLooks, Rule, Statistics, Verdict};
use crate::error::{Error, Result};
use crate::inversion::{Config, Inversion, Norm, Objective, Step, invert};
use crate::trigger::{Backdoor, Trigger};

/// What to scan for.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanOptions {
    /// How triggers are inverted.
    pub config: Config,
    /// The classes to invert; `None` is all.
    pub classes: Option<Vec<usize>>,
    /// How norms are judged; `None` is the ratio rule for the norm that is optimised.
    pub rule: Option<Rule>,
    /// Whether to go on where the clean accuracy is near chance.
    pub force: bool,
}

impl ScanOptions {
    /// All classes, judged by the ratio rule.
    pub fn new(config: Config) -> Self {
        ScanOptions { config, classes: None, rule: None, force: false }
    }

    /// How norms are judged.
    pub fn rule(&self) -> Rule {
        self.rule.unwrap_or(Rule::ratio(self.config.norm))
    }
}

/// What was found out about one class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassScan {
    /// The inversion: trigger, convergence, steps.
    pub inversion: Inversion,
    /// Σ|mask| of the trigger.
    pub norm_l1: f64,
    /// What the rule looks at: the L1 norm or, where the maximum norm was optimised, max|mask|.
    pub statistic: f64,
    /// Statistic / median of the statistics; `None` where the class did not converge.
    pub ratio: Option<f64>,
    /// The anomaly index; `None` where the class did not converge or the MAD is 0.
    pub anomaly_index: Option<f64>,
    /// The share of clean images outside the class that the trigger sends to it, in 0..=1: of held-out images
    /// if [`Scan::held_out`] is not 0.
    pub attack_success_rate: f64,
    /// The statistics of the further looks that a suspicious class was given.
    pub further_looks: Vec<Option<f64>>,
}

/// The result of a scan.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    /// The conclusion.
    pub detection: Detection,
    /// The classes that were inverted, in ascending order.
    pub classes: Vec<ClassScan>,
    /// The classes that are flagged.
    pub flagged_classes: Vec<usize>,
    /// Median and spread of the statistic.
    pub statistics: Statistics,
    /// How the norms were judged.
    pub rule: Rule,
    /// The share of the samples that are classified as labelled; `None` without labels.
    pub clean_accuracy: Option<f64>,
    /// How many images the inversion worked on.
    pub working: usize,
    /// How many images it did not see, on which the attack success rates are measured; where this is 0 there were too
    /// few images and the rates are those on the working set.
    pub held_out: usize,
    /// How many images went forward and backward, in all.
    pub gradient_samples: u64,
}

impl Scan {
    /// The backdoors that were found: the flagged classes with their triggers.
    pub fn backdoors(&self) -> Vec<Backdoor> {
        let flagged = |class: &&ClassScan| self.flagged_classes.contains(&class.inversion.target_class);
        let backdoor = |class: &ClassScan| Backdoor {
            target_class: class.inversion.target_class,
            trigger: class.inversion.trigger.clone(),
        };
        self.classes.iter().filter(flagged).map(backdoor).collect()
    }

    /// The class with the smallest trigger.
    pub fn smallest(&self) -> Option<&ClassScan> {
        self.statistics.smallest().map(|i| &self.classes[i])
    }
}

/// Is told how a scan gets on. Calls come from several threads.
pub trait Observer: Sync {
    /// The inversion of a class begins; `look` is 0, or the number of the further look.
    fn class_started(&self, _class: usize, _look: u64) {}

    /// A class has taken a step. Breaking off ends the scan with [`Error::Interrupted`].
    fn step(&self, _class: usize, _look: u64, _step: &Step) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// The inversion of a class is done.
    fn class_finished(&self, _inversion: &Inversion, _look: u64) {}
}

/// Watches nothing.
impl Observer for () {}

/// How many further inversions a suspicious class is given.
const FURTHER_LOOKS: u64 = 2;

/// With fewer samples than this, all are worked on and none held out.
const FEWEST_TO_HOLD_OUT: usize = 64;

/// The part of the samples that is held out to measure the attack success rates.
pub const HELD_OUT_PART: usize = 5;

/// Scans `classifier` with clean `samples`.
///
/// # Errors
/// If options or samples do not go with the model, the clean accuracy is near chance (unless forced), or the
/// engine fails.
pub fn scan(
    classifier: &Classifier,
    samples: &Samples,
    options: &ScanOptions,
    observer: &dyn Observer,
) -> Result<Scan> {
    let config = &options.config;
    config.validate().map_err(Error::Config)?;
    if samples.is_empty() {
        return Err(Error::Config("there are no samples: a scan needs clean images".into()));
    }
    let clean_accuracy = clean_accuracy(classifier, samples, options.force)?;

    let held_out = if samples.len() < FEWEST_TO_HOLD_OUT { 0 } else { samples.len() / HELD_OUT_PART };
    let (working, unseen) = samples.split(held_out, config.seed);
    let working = CleanSet::new(classifier, working)?;
    let unseen = if held_out == 0 { working.clone() } else { CleanSet::new(classifier, unseen)? };

    let classes = classes_to_scan(classifier, options)?;
    let jobs: Vec<Job> = classes.iter().map(|&class| Job { class, look: 0 }).collect();
    let inversions = invert_all(classifier, &working, config, &jobs, observer)?;
    let norms: Vec<Option<f64>> = inversions.iter().map(|inversion| statistic(config.norm, inversion)).collect();
    let statistics = Statistics::of(&norms);

    let rule = options.rule();
    let suspects = detection::suspicious(&statistics, rule);
    let further: Vec<Job> = (suspects.iter())
        .flat_map(|&i| (1..=FURTHER_LOOKS).map(move |look| (i, look)))
        .map(|(i, look)| Job { class: classes[i], look })
        .collect();
    let second = invert_all(classifier, &working, config, &further, observer)?;
    let seen_again: Vec<Option<f64>> = second.iter().map(|inversion| statistic(config.norm, inversion)).collect();
    let looks: Vec<FurtherLooks> = (suspects.iter().zip(seen_again.chunks(FURTHER_LOOKS as usize)))
        .map(|(&position, norms)| FurtherLooks {
            position,
            ratios: norms.iter().map(|norm| norm.zip(statistics.median).map(|(norm, median)| norm / median)).collect(),
        })
        .collect();

    let names: Vec<String> = classes.iter().map(|&class| class_label(classifier, class)).collect();
    let detection = within_sight(detection::judge(&statistics, &names, rule, &looks), config.norm);
    let gradient_samples = inversions.iter().chain(&second).map(|inversion| inversion.gradient_samples).sum();
    let mut scanned = Vec::with_capacity(classes.len());
    for (i, inversion) in inversions.into_iter().enumerate() {
        let looks = suspects.iter().position(|&suspect| suspect == i);
        scanned.push(ClassScan {
            norm_l1: inversion.trigger.norm_l1(),
            statistic: size(config.norm, &inversion.trigger),
            ratio: statistics.standings[i].ratio,
            anomaly_index: statistics.standings[i].anomaly_index,
            attack_success_rate: unseen.attack_success_rate(classifier, &inversion.trigger, inversion.target_class)?,
            further_looks: looks.map_or(Vec::new(), |k| {
                seen_again[k * FURTHER_LOOKS as usize..(k + 1) * FURTHER_LOOKS as usize].to_vec()
            }),
            inversion,
        });
    }
    Ok(Scan {
        flagged_classes: detection.flagged.iter().map(|&i| classes[i]).collect(),
        detection,
        classes: scanned,
        statistics,
        rule,
        clean_accuracy,
        working: working.labels.len(),
        held_out,
        gradient_samples,
    })
}

/// The maximum norm makes triggers faint rather than small, so that under it a patch is no outlier: that none stands out
/// is no reason to call a model clean.
fn within_sight(detection: Detection, norm: Norm) -> Detection {
    if norm != Norm::Inf || detection.verdict != Verdict::Clean {
        return detection;
    }
    let reason =
        format!("{}; but patches do not stand out under norm inf: scan with norm 1 or 2, too", detection.reason);
    Detection { verdict: Verdict::Inconclusive, reason, ..detection }
}

fn clean_accuracy(classifier: &Classifier, samples: &Samples, force: bool) -> Result<Option<f64>> {
    let Some(labels) = &samples.labels else {
        return Ok(None);
    };
    let accuracy = classifier.accuracy(samples.images.view(), labels)?;
    let chance = 1.0 / classifier.classes() as f64;
    let near_chance = chance + 0.1 * (1.0 - chance);
    if accuracy < near_chance && !force {
        return Err(Error::Classifier(format!(
            "clean accuracy is {:.1} %, near the {:.1} % of chance: the preprocessing (scale, mean, std, layout) or the \
             labels are probably not what the model was trained with; correct them, or use --force to go on",
            100.0 * accuracy,
            100.0 * chance
        )));
    }
    Ok(Some(accuracy))
}

fn classes_to_scan(classifier: &Classifier, options: &ScanOptions) -> Result<Vec<usize>> {
    let Some(chosen) = &options.classes else {
        return Ok((0..classifier.classes()).collect());
    };
    if let Some(class) = chosen.iter().find(|&&class| class >= classifier.classes()) {
        return Err(Error::Config(format!(
            "class {class} is not one of the model's {} classes (0 to {})",
            classifier.classes(),
            classifier.classes() - 1
        )));
    }
    let mut classes = chosen.clone();
    classes.sort_unstable();
    classes.dedup();
    Ok(classes)
}

fn class_label(classifier: &Classifier, class: usize) -> String {
    let name = &classifier.class_names()[class];
    if *name == class.to_string() { name.clone() } else { format!("{class} ({name})") }
}

fn size(norm: Norm, trigger: &Trigger) -> f64 {
    match norm {
        Norm::L1 | Norm::L2 => trigger.norm_l1(),
        Norm::Inf => trigger.norm_inf(),
    }
}

fn statistic(norm: Norm, inversion: &Inversion) -> Option<f64> {
    inversion.converged.then(|| size(norm, &inversion.trigger))
}

#[derive(Clone, Copy)]
struct Job {
    class: usize,
    look: u64,
}

/// Inverts all `jobs`, as many side by side as the classifier has threads, each with an objective and threads of its
/// own. The results are in the order of the jobs.
fn invert_all(
    classifier: &Classifier,
    working: &CleanSet,
    config: &Config,
    jobs: &[Job],
    observer: &dyn Observer,
) -> Result<Vec<Inversion>> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let workers = classifier.threads().clamp(1, jobs.len());
    let threads = (classifier.threads() / workers).max(1);
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<Inversion>>>> = Mutex::new(jobs.iter().map(|_| None).collect());
    let work = || -> Result<()> {
        let mut objective = Objective::new(classifier, config, working.labels.len(), threads)?;
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(&Job { class, look }) = jobs.get(i) else {
                return Ok(());
            };
            observer.class_started(class, look);
            let mut observe = |step: &Step| observer.step(class, look, step);
            let range = classifier.value_range();
            let result = invert(&mut objective, working, config, range, class, look, &mut observe);
            match &result {
                Ok(inversion) => observer.class_finished(inversion, look),
                // The other workers finish what they have begun and take up nothing more.
                Err(_) => next.store(jobs.len(), Ordering::Relaxed),
            }
            results.lock().unwrap_or_else(PoisonError::into_inner)[i] = Some(result);
        }
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        handles.into_iter().try_for_each(|handle| match handle.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut inversions = Vec::with_capacity(jobs.len());
    for result in results {
        match result {
            Some(result) => inversions.push(result?),
            None => continue,
        }
    }
    Ok(inversions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norm_inf_can_flag_a_class_but_call_no_model_clean() {
        let detection = |verdict| Detection { verdict, reason: "why".into(), flagged: Vec::new() };
        let cases = [
            (Norm::L2, Verdict::Clean, Verdict::Clean),
            (Norm::Inf, Verdict::Clean, Verdict::Inconclusive),
            (Norm::Inf, Verdict::Backdoored, Verdict::Backdoored),
        ];
        for (norm, before, after) in cases {
            assert_eq!(within_sight(detection(before), norm).verdict, after, "norm {norm}, {before}");
        }
        assert!(within_sight(detection(Verdict::Clean), Norm::Inf).reason.contains("norm 1 or 2"));
    }
}
