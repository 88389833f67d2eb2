//! The whole defence for one model: invert a trigger for every class, compare their sizes, decide.

use std::ops::ControlFlow;

use crate::classifier::Classifier;
use crate::clean_set::CleanSet;
use crate::data::Samples;
use crate::detection::{self, Detection, FurtherLooks, Rule, Statistics, Verdict};
use crate::elimination::{self, Outcome};
use crate::error::{Error, Result};
use crate::inversion::{Config, Inversion, Norm, Step};
use crate::searches::{Contender, Searches};
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
    /// Whether to take every class to its end. Otherwise classes that cannot be flagged are dropped, if there are at least
    /// eight, `config` is [`Config::fast`] for norm 1 or 2, and the rule is the ratio rule with its usual bounds:
    /// this is what dropping was measured for.
    pub exhaustive: bool,
}

impl ScanOptions {
    /// All classes, judged by the ratio rule.
    pub fn new(config: Config) -> Self {
        ScanOptions { config, classes: None, rule: None, force: false, exhaustive: false }
    }

    /// How norms are judged.
    pub fn rule(&self) -> Rule {
        self.rule.unwrap_or(Rule::ratio(self.config.norm))
    }

    fn drops_classes(&self, classifier: &Classifier, classes: usize) -> bool {
        let [_, height, width] = classifier.image_shape();
        !self.exhaustive
            && classes >= elimination::FEWEST_CLASSES
            && elimination::applies(&self.config, height, width)
            && self.rule().suspects_no_more_than(Rule::ratio(self.config.norm))
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
    /// How many images went forward and backward, but for the further looks.
    pub gradient_samples: u64,
    /// The statistics of the further looks that a suspicious class was given.
    pub further_looks: Vec<Option<f64>>,
}

/// A class that was dropped because its trigger could not become small enough.
#[derive(Debug, Clone, PartialEq)]
pub struct DroppedClass {
    /// The class.
    pub target_class: usize,
    /// How many steps it was given.
    pub steps: usize,
    /// How many images went forward and backward.
    pub gradient_samples: u64,
    /// Σ|mask| of its best trigger by then; `None` where there was none yet.
    pub norm_l1: Option<f64>,
}

/// The result of a scan.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    /// The conclusion.
    pub detection: Detection,
    /// The classes that were inverted to the end, in ascending order.
    pub classes: Vec<ClassScan>,
    /// The classes that were dropped before, in ascending order.
    pub dropped: Vec<DroppedClass>,
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
    /// A round begins: so many classes are taken to this step.
    fn round_started(&self, _classes: usize, _steps: usize) {}

    /// The inversion of a class begins or goes on; `look` is 0, or the number of the further look.
    fn class_started(&self, _class: usize, _look: u64) {}

    /// A class has taken a step. Breaking off ends the scan with [`Error::Interrupted`].
    fn step(&self, _class: usize, _look: u64, _step: &Step) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// A class has come to the end of the round.
    fn class_paused(&self, _class: usize, _look: u64) {}
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
    let mut searches = Searches::new(classifier, &working, config, observer, classes.len())?;
    let outcome = if options.drops_classes(classifier, classes.len()) {
        elimination::race(&mut searches, &classes, config)?
    } else {
        elimination::finish_all(&mut searches, &classes, config)?
    };
    let mut gradient_samples: u64 = outcome.contenders.iter().map(|contender| contender.gradient_samples).sum();
    let Outcome { contenders, typical } = outcome;
    let (finished, dropped) = sort_out(contenders);
    let norms: Vec<Option<f64>> = finished.iter().map(|(inversion, _)| statistic(config.norm, inversion)).collect();
    let statistics = Statistics::among(&norms, typical.as_deref().unwrap_or(&norms));

    let rule = options.rule();
    let suspects = detection::suspicious(&statistics, rule);
    let classes: Vec<usize> = finished.iter().map(|(inversion, _)| inversion.target_class).collect();
    let mut further: Vec<Contender> = (suspects.iter())
        .flat_map(|&i| (1..=FURTHER_LOOKS).map(move |look| (i, look)))
        .map(|(i, look)| Contender::new(classes[i], look))
        .collect();
    if !further.is_empty() {
        searches.advance(further.iter_mut().collect(), config.steps)?;
    }
    gradient_samples += further.iter().map(|contender| contender.gradient_samples).sum::<u64>();
    let (second, _) = sort_out(further);
    let seen_again: Vec<Option<f64>> = second.iter().map(|(inversion, _)| statistic(config.norm, inversion)).collect();
    let looks: Vec<FurtherLooks> = (suspects.iter().zip(seen_again.chunks(FURTHER_LOOKS as usize)))
        .map(|(&position, norms)| FurtherLooks {
            position,
            ratios: norms.iter().map(|norm| norm.zip(statistics.median).map(|(norm, median)| norm / median)).collect(),
        })
        .collect();

    let names: Vec<String> = classes.iter().map(|&class| class_label(classifier, class)).collect();
    let detection = within_sight(detection::judge(&statistics, &names, rule, &looks), config.norm);
    let mut scanned = Vec::with_capacity(classes.len());
    for (i, (inversion, gradient_samples)) in finished.into_iter().enumerate() {
        let looks = suspects.iter().position(|&suspect| suspect == i);
        scanned.push(ClassScan {
            norm_l1: inversion.trigger.norm_l1(),
            statistic: size(config.norm, &inversion.trigger),
            ratio: statistics.standings[i].ratio,
            anomaly_index: statistics.standings[i].anomaly_index,
            attack_success_rate: unseen.attack_success_rate(classifier, &inversion.trigger, inversion.target_class)?,
            gradient_samples,
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
        dropped,
        statistics,
        rule,
        clean_accuracy,
        working: working.labels.len(),
        held_out,
        gradient_samples,
    })
}

/// What became of `contenders`: the inversions that were finished, with the gradient samples they took, and the classes
/// that were dropped.
fn sort_out(contenders: Vec<Contender>) -> (Vec<(Inversion, u64)>, Vec<DroppedClass>) {
    let (mut finished, mut dropped) = (Vec::new(), Vec::new());
    for contender in contenders {
        let (norm_l1, gradient_samples) = (contender.norm(), contender.gradient_samples);
        match contender.inversion {
            Some(inversion) => finished.push((inversion, gradient_samples)),
            None => dropped.push(DroppedClass {
                target_class: contender.class,
                steps: contender.steps,
                gradient_samples,
                norm_l1,
            }),
        }
    }
    (finished, dropped)
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
