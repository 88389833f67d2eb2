//! The whole defence for one model: invert a trigger for every class, compare their sizes, decide.

mod assessment;
mod measured;
mod observer;
mod survey;

use std::iter::zip;

use crate::attack::Attack;
use crate::classifier::Classifier;
use crate::clean_set::CleanSet;
use crate::data::Samples;
use crate::detection::{self, Detection, FurtherLooks, Rule, Statistics, Verdict};
use crate::elimination;
use crate::engine_check;
use crate::error::{Error, Result};
use crate::few_classes;
use crate::inversion::{Config, Inversion, Norm};
use crate::look::Look;
use crate::margin::MarginScan;
use crate::mode::Mode;
use crate::pairs::PairScan;
use crate::searches::Searches;
use crate::trigger::Backdoor;

use assessment::{Assessment, Progress, ROUNDS};
use measured::Measured;
pub use observer::Observer;
pub(crate) use survey::FURTHER_LOOKS;
use survey::{Finished, norm_of, statistic};
pub use survey::{Job, Survey};

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
    /// The [size](Inversion::size) / the usual size ([`Statistics::usual_size`]) or, where the maximum norm was optimised, the statistic / its median; `None`
    /// where the class did not converge.
    pub ratio: Option<f64>,
    /// What the ratio rule judges it by, from the ratio and those of the further looks ([`FurtherLooks::score`]).
    pub score: Option<f64>,
    /// The anomaly index; `None` where the class did not converge or the MAD is 0.
    pub anomaly_index: Option<f64>,
    /// How foreign to the class the triggers with the whole image to change are, by what the layers of the model see of them, as a multiple of what is usual
    /// ([`FurtherLooks::foreignness`]); `None` where it was not measured, as it is where no class is suspicious.
    pub foreignness: Option<f64>,
    /// The share of clean images outside the class that the trigger sends to it, in 0..=1: of held-out images
    /// if [`Scan::held_out`] is not 0.
    pub attack_success_rate: f64,
    /// How many images went forward and backward, but for the further looks.
    pub gradient_samples: u64,
    /// The statistics of the further looks that a suspicious class was given.
    pub further_looks: Vec<Option<f64>>,
    /// The statistics of those that were confined to a [window](crate::Window).
    pub confined_looks: Vec<Option<f64>>,
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
    /// What was looked for.
    pub mode: Mode,
    /// The conclusion.
    pub detection: Detection,
    /// What the backdoors that were found do.
    pub attacks: Vec<Attack>,
    /// The classes that were inverted to the end, in ascending order.
    pub classes: Vec<ClassScan>,
    /// The classes that were dropped before, in ascending order.
    pub dropped: Vec<DroppedClass>,
    /// What pairs of classes show, where they were looked at.
    pub pairs: Option<PairScan>,
    /// What margins show, where they were looked at.
    pub margins: Option<MarginScan>,
    /// The classes that are flagged: those that an attack which was found sends images to.
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

    /// The lowest [score](ClassScan::score) of a class.
    pub fn lowest_score(&self) -> Option<f64> {
        self.classes.iter().filter_map(|class| class.score).min_by(f64::total_cmp)
    }

    /// The class with the smallest trigger.
    pub fn smallest(&self) -> Option<&ClassScan> {
        self.statistics.smallest().map(|i| &self.classes[i])
    }
}

/// With fewer samples than this, all are worked on and none held out.
const FEWEST_TO_HOLD_OUT: usize = 64;

/// The part of the samples that is held out to measure the attack success rates.
pub const HELD_OUT_PART: usize = 5;

/// Scans `classifier` with clean `samples`.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
///
/// use neural_cleanse::data::{self, Wanted};
/// use neural_cleanse::engine::Rten;
/// use neural_cleanse::{Classifier, ClassifierOptions, Config, Model, Norm, Preprocessing, ScanOptions, Verdict, scan};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let fixtures = Path::new("../../fixtures");
/// let preprocessing = Preprocessing { scale: 1.0 / 255.0, mean: vec![0.286], std: vec![0.353] };
/// let options = ClassifierOptions { preprocessing, ..ClassifierOptions::default() };
/// let classifier = Classifier::new(Model::read(fixtures.join("fmnist_badnets.onnx"))?, options, Arc::new(Rten), 2)?;
/// let samples = data::load(&fixtures.join("fashion-mnist-400.npz"), None, &Wanted::new(1, 28, 28))?;
///
/// let scan = scan(&classifier, &samples, &ScanOptions::new(Config::fast(Norm::L2, 28, 28)), &())?;
/// assert_eq!(scan.detection.verdict, Verdict::Backdoored);
/// assert_eq!(scan.flagged_classes, [7]);
/// # Ok(())
/// # }
/// ```
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
    Plan::new(classifier, samples, options)?.search(observer)
}

/// Does `jobs` of a scan, wherever the others are done: what comes of a job depends on nothing but the job. The results
/// are in the order of the jobs.
///
/// # Errors
/// If samples do not go with the model, the engine fails, or the observer breaks off.
pub fn invert_jobs(
    classifier: &Classifier,
    samples: &Samples,
    config: &Config,
    jobs: &[Job],
    observer: &dyn Observer,
) -> Result<Vec<Inversion>> {
    let (working, _) = divide(samples, config.seed);
    let working = CleanSet::new(classifier, working)?;
    Searches::new(classifier, &working, config, observer, jobs.len())?.finish(jobs)
}

/// A scan that can be done: options and samples go with the model.
///
/// [`scan()`] goes through it in one process. Whoever spreads a scan over several machines does the first jobs with
/// [`invert_jobs`] where there is room, makes them a [`Survey`], does the next jobs likewise until there are none, and concludes: the result
/// is that of an exhaustive scan.
pub struct Plan<'a> {
    pub(crate) classifier: &'a Classifier,
    pub(crate) options: &'a ScanOptions,
    pub(crate) classes: Vec<usize>,
    pub(crate) clean_accuracy: Option<f64>,
    pub(crate) working: CleanSet,
    /// The images that are held out; `None` where there are too few.
    pub(crate) unseen: Option<CleanSet>,
}

impl<'a> Plan<'a> {
    /// Checks what can be checked before the first inversion, and divides the samples.
    ///
    /// # Errors
    /// If options or samples do not go with the model, the clean accuracy is near chance (unless forced), or the engine
    /// fails or computes something else than the embedded one.
    pub fn new(classifier: &'a Classifier, samples: &Samples, options: &'a ScanOptions) -> Result<Self> {
        options.config.validate().map_err(Error::Config)?;
        if samples.is_empty() {
            return Err(Error::Config("there are no samples: a scan needs clean images".into()));
        }
        let clean_accuracy = clean_accuracy(classifier, samples, options.force)?;
        let (working, unseen) = divide(samples, options.config.seed);
        let working = CleanSet::new(classifier, working)?;
        engine_check::agrees_with_rten(classifier, &working, &options.config)?;
        Ok(Plan {
            classifier,
            options,
            clean_accuracy,
            working,
            unseen: unseen.map(|unseen| CleanSet::new(classifier, unseen)).transpose()?,
            classes: classes_to_scan(classifier, options)?,
        })
    }

    /// Goes through the whole scan in this process.
    ///
    /// # Errors
    /// If the engine fails, the model gives numbers that are not finite, or the observer breaks off.
    pub(crate) fn search(&self, observer: &dyn Observer) -> Result<Scan> {
        let Plan { classifier, options, .. } = *self;
        let jobs = self.first_jobs();
        let mut searches = Searches::new(classifier, &self.working, &options.config, observer, jobs.len())?;
        let mut survey = if options.drops_classes(classifier, jobs.len()) {
            elimination::race(&mut searches, &jobs, &options.config)?
        } else {
            Survey::of(zip(jobs.iter().copied(), searches.finish(&jobs)?))
        };
        let mut measured = Measured::new(self);
        loop {
            match self.progress(&survey, &mut measured)? {
                Progress::Asks(jobs) => {
                    measured.rest();
                    survey.add(zip(jobs.iter().copied(), searches.finish(&jobs)?));
                }
                Progress::Complete(assessment) => return self.report(survey, assessment),
            }
        }
    }

    /// The inversions to begin with: one for each class, in ascending order.
    pub fn first_jobs(&self) -> Vec<Job> {
        self.classes.iter().map(|&class| Job::first(class)).collect()
    }

    /// The inversions that what came of those so far calls for: further looks at classes whose triggers are suspiciously small; none once the survey is complete.
    ///
    /// # Errors
    /// If `survey` is not of the first jobs of this scan and of further ones that these called for, or the engine fails.
    pub fn next_jobs(&self, survey: &Survey) -> Result<Vec<Job>> {
        match self.progress(survey, &mut Measured::new(self))? {
            Progress::Asks(jobs) => Ok(jobs),
            Progress::Complete(_) => Ok(Vec::new()),
        }
    }

    /// The verdict, from a complete `survey`.
    ///
    /// # Errors
    /// If it is not complete, or the engine fails.
    pub fn conclude(&self, survey: Survey) -> Result<Scan> {
        match self.progress(&survey, &mut Measured::new(self))? {
            Progress::Asks(jobs) => Err(Error::Config(format!(
                "{} further looks are missing, the first at class {}",
                jobs.len(),
                jobs[0].class
            ))),
            Progress::Complete(assessment) => self.report(survey, assessment),
        }
    }

    fn report(&self, survey: Survey, assessment: Assessment) -> Result<Scan> {
        let Plan { classifier, options, .. } = *self;
        let (norm, rule) = (options.config.norm, options.rule());
        let Assessment { statistics, looks, foreignness } = assessment;
        let classes: Vec<usize> = (0..survey.finished.len()).map(|i| survey.class(i)).collect();
        let names: Vec<String> = classes.iter().map(|&class| class_label(classifier, class)).collect();
        let detection = if survey.is_of_few() {
            few_classes::judge(&self.shares_of_image(&survey), &names)
        } else {
            detection::judge(&statistics, &names, rule, &looks)
        };
        let detection = within_sight(detection, norm);
        let unseen = self.unseen.as_ref().unwrap_or(&self.working);
        let gradient_samples = survey.gradient_samples();
        let norms =
            |look: &FurtherLooks| survey.looks_at(look.position, norm, ROUNDS, |_, found| statistic(norm, found));
        let norms: Vec<FurtherLooks> = looks.iter().map(norms).collect();
        let mut scanned = Vec::with_capacity(classes.len());
        for (i, Finished { inversion, gradient_samples }) in survey.finished.into_iter().enumerate() {
            let look = looks.iter().position(|look| look.position == i);
            scanned.push(ClassScan {
                norm_l1: inversion.trigger.norm_l1(),
                statistic: norm_of(norm, &inversion.trigger),
                ratio: statistics.standings[i].ratio,
                score: statistics.standings[i].ratio.map(|ratio| look.map_or(ratio, |k| looks[k].score(ratio))),
                anomaly_index: statistics.standings[i].anomaly_index,
                foreignness: foreignness[i],
                attack_success_rate: unseen.attack_success_rate(
                    classifier,
                    &inversion.trigger,
                    inversion.target_class,
                )?,
                gradient_samples,
                further_looks: look.map_or(Vec::new(), |k| norms[k].whole.clone()),
                confined_looks: look.map_or(Vec::new(), |k| norms[k].confined.clone()),
                inversion,
            });
        }
        let flagged_classes: Vec<usize> = detection.flagged.iter().map(|&i| classes[i]).collect();
        let named = |look: &Look| Look { target: look.target.map(|position| classes[position]), ..look.clone() };
        Ok(Scan {
            mode: Mode::Targets,
            attacks: flagged_classes.iter().map(|&target| Attack::AllToOne { target }).collect(),
            flagged_classes,
            detection: Detection { looks: detection.looks.iter().map(named).collect(), ..detection },
            classes: scanned,
            dropped: survey.dropped,
            pairs: None,
            margins: None,
            statistics,
            rule,
            clean_accuracy: self.clean_accuracy,
            working: self.working.labels.len(),
            held_out: self.unseen.as_ref().map_or(0, |unseen| unseen.labels.len()),
            gradient_samples,
        })
    }
}

/// The samples to work on and those, if there are enough, to measure on.
fn divide(samples: &Samples, seed: u64) -> (Samples, Option<Samples>) {
    let held_out = if samples.len() < FEWEST_TO_HOLD_OUT { 0 } else { samples.len() / HELD_OUT_PART };
    let (working, unseen) = samples.split(held_out, seed);
    (working, (held_out > 0).then_some(unseen))
}

/// The maximum norm makes triggers faint rather than small, so that under it a patch is no outlier: that none stands out
/// is no reason to call a model clean.
fn within_sight(detection: Detection, norm: Norm) -> Detection {
    if norm != Norm::Inf || detection.verdict != Verdict::Clean {
        return detection;
    }
    let words = "patches do not stand out under norm inf: scan with norm 1 or 2, too".to_owned();
    let mut looks = detection.looks;
    looks.push(detection::norm_look(None, None, Verdict::Inconclusive, words));
    Detection::of(looks)
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

pub(crate) fn class_label(classifier: &Classifier, class: usize) -> String {
    let name = &classifier.class_names()[class];
    if *name == class.to_string() { name.clone() } else { format!("{class} ({name})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norm_inf_can_flag_a_class_but_call_no_model_clean() {
        let detection = |verdict| Detection::of(vec![detection::norm_look(Some(1), None, verdict, "why".into())]);
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
