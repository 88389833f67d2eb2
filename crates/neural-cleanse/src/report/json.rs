use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document;
use crate::attack::Attack;
use crate::calibration::{Calibration, PairCalibration};
use crate::classifier::Classifier;
use crate::detection::{Rule, Verdict};
use crate::error::Result;
use crate::inversion::{Config, Inversion};
use crate::look::Look;
use crate::margin::MarginScan;
use crate::mode::Mode;
use crate::pairs::Pair;
use crate::scan::{ClassScan, DroppedClass, Scan};
use crate::scores::Scores;

/// The version of the form of `scan.json`; a change that breaks readers raises it.
pub const SCHEMA_VERSION: u32 = 2;

/// `scan.json`: all that a scan has found, and how it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScanReport {
    /// [`SCHEMA_VERSION`].
    #[schemars(extend("const" = SCHEMA_VERSION))]
    pub schema_version: u32,
    /// What was looked for.
    pub mode: Mode,
    /// The conclusion.
    pub verdict: Verdict,
    /// Why, in a sentence or two.
    pub reason: String,
    /// What the backdoors that were found do.
    pub attacks: Vec<Attack>,
    /// The way to the verdict.
    pub evidence: Vec<Look>,
    /// The classes that are flagged, in ascending order: those that an attack sends images to, and one whose margin is too large.
    pub flagged_classes: Vec<usize>,
    /// The anomaly index of the class with the smallest trigger; null if no class converged or the MAD is 0.
    pub anomaly_index: Option<f64>,
    /// The lowest ratio of a class; null if no class converged.
    pub ratio: Option<f64>,
    /// The lowest score of a class, which the ratio rule looks at; null if no class converged.
    #[serde(default)]
    pub score: Option<f64>,
    /// What that score is worth; null for scans that are unlike those of the zoo.
    #[serde(default)]
    pub calibration: Option<Calibration>,
    /// What the lowest score in all of a pair is worth; null where no pair was looked at again, and for scans that are unlike those of the zoo.
    #[serde(default)]
    pub pair_calibration: Option<PairCalibration>,
    /// The bound beyond which a class is flagged under `rule`.
    pub threshold: f64,
    /// How sizes or norms were judged.
    pub rule: Rule,
    /// The median of the norms of the classes that converged. Where classes were dropped, their norms count as if they had
    /// shrunk as those about the median did; of more than 64 classes, a random sample stands for all.
    pub median: Option<f64>,
    /// Their median absolute deviation, times 1.4826.
    pub mad: Option<f64>,
    /// What the ratios are ratios to: the lower quartile of the sizes (with norm `inf` the median of max|mask|). Classes without a trigger count as large; of a
    /// class that was dropped the size is estimated.
    #[serde(default)]
    pub usual_size: Option<f64>,
    /// What the sizes of triggers that are confined to a window are compared with: the median of those of up to three classes that are not suspicious, and at most
    /// `usual_size`, which it is where none was searched for.
    #[serde(default)]
    pub usual_confined_size: Option<f64>,
    /// The share of the clean samples that are classified as labelled; null without labels.
    pub clean_accuracy: Option<f64>,
    /// One entry for each class whose trigger was searched for, in ascending order; none in the modes `pairs` and `margin`.
    pub classes: Vec<ClassReport>,
    /// One entry for each source and target, by source and then by target; null where pairs were not looked at.
    pub pairs: Option<Vec<PairReport>>,
    /// The margins of the classes; null where they were not looked at.
    pub margins: Option<MarginsReport>,
    /// Every parameter of the inversion.
    pub parameters: Config,
    /// What ran the model.
    pub engine: EngineReport,
    /// The seed; the same as in `parameters`.
    pub seed: u64,
    /// How many images went forward and backward, in all.
    pub gradient_samples: u64,
    /// How long the scan took.
    pub seconds: f64,
    /// The model.
    pub model: ModelReport,
    /// The clean samples.
    pub samples: SamplesReport,
}

/// One class in `scan.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassReport {
    /// The class.
    pub target_class: usize,
    /// Its name.
    pub name: String,
    /// How far the class was run.
    pub state: ClassState,
    /// Whether a trigger was found. The other figures of a class without one are those of its last step.
    pub converged: bool,
    /// Σ|mask|; null where a class was dropped before there was a trigger.
    pub norm_l1: Option<f64>,
    /// max|mask|; null where the class was dropped.
    pub norm_inf: Option<f64>,
    /// Σm²/Σm of the mask, its mean opacity weighed by itself: 1 for an opaque patch, little for a faint overlay; null where the class was dropped.
    #[serde(default)]
    pub opacity: Option<f64>,
    /// How many opaque pixels what matters of the trigger comes to: √(Σm · (Σm)²/Σm²) of the mask without its faintest pixels, as far as nine tenths of the
    /// trigger's success are left; null where the class was dropped or did not converge.
    #[serde(default)]
    pub extent: Option<f64>,
    /// √(Σ|mask| · extent), which is compared with `usual_size`; null where there is no extent.
    #[serde(default)]
    pub size: Option<f64>,
    /// Size / `usual_size` (with norm `inf`, max|mask| / its median); null where the class was dropped or did not converge.
    pub ratio: Option<f64>,
    /// What the ratio rule judges by: √(whole · confined), the geometric means of the ratios that the looks at the whole image came to and of those, to
    /// `usual_confined_size`, that were confined to a part of it (where no trigger counts as 1), but where the latter is larger, the former counts as that,
    /// and at most as twice what it is; divided by the root of `foreignness`, where there is one; the ratio, where there were no further looks. Null where that is.
    #[serde(default)]
    pub score: Option<f64>,
    /// |norm − median| / (1.4826·MAD); null where the class was dropped or did not converge, or the MAD is 0.
    pub anomaly_index: Option<f64>,
    /// The share of clean images outside the class that the trigger sends to it, on images which the
    /// inversion did not see if `samples.held_out` is not 0; null where the class was dropped.
    pub attack_success_rate: Option<f64>,
    /// How many steps were taken.
    pub steps: usize,
    /// How many images went forward and backward, but for the further looks.
    pub gradient_samples: u64,
    /// How foreign to the class the triggers with the whole image to change are, by what the layers of the model see of them, as a multiple of what is usual: less than 1 is
    /// natural. Null where it was not measured.
    #[serde(default)]
    pub foreignness: Option<f64>,
    /// The norms that further looks at a suspicious class gave; null for one that did not converge.
    pub further_looks: Vec<Option<f64>>,
    /// The norms that such looks gave which were confined to a third of each side of the image.
    #[serde(default)]
    pub confined_looks: Vec<Option<f64>>,
}

/// One source and target in `scan.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PairReport {
    /// The class of the images.
    pub source: usize,
    /// The class that they are to be sent to.
    pub target: usize,
    /// Whether it belongs to one of `attacks` and its trigger was searched for to the end.
    pub attacked: bool,
    /// Σ|mask| of the smallest trigger; where the pair was dropped, that by then. Null where there was none.
    pub norm_l1: Option<f64>,
    /// Σm²/Σm of the mask; null where the pair was dropped.
    #[serde(default)]
    pub opacity: Option<f64>,
    /// As that of a class; null where the pair was dropped or did not converge.
    #[serde(default)]
    pub extent: Option<f64>,
    /// The size, √(Σ|mask| · extent), as a share of what source and target lead to expect; of a pair that was dropped, it is estimated from the norm. Null where
    /// there was no trigger.
    pub share: Option<f64>,
    /// How much more like the images of the target the trigger makes those of the source, in raw pixel values, as a share of what is usual for this
    /// model; null where there is no trigger, or pixels tell nothing.
    pub likeness: Option<f64>,
    /// The mean margin by which the model tells clean images of the source from the target, as a share of that of the way back; null where images of either are taken for the other on average, or there are none.
    #[serde(default)]
    pub margin_ratio: Option<f64>,
    /// How far the model leans to the target on clean images of the source: by how much the logarithm of the margin ratio is below 0, as a multiple of the spread of all pairs (1.4826 times
    /// the median of the absolute logarithms, and 0.2 at the least); null where there is no margin ratio.
    #[serde(default)]
    pub leaning: Option<f64>,
    /// What makes a pair suspicious: the share divided by that of the way back, where this is under 1, times the likeness (0.1 at the least) as a multiple
    /// of 0.5, where there is one.
    pub score: Option<f64>,
    /// How many steps were taken.
    pub steps: usize,
    /// How many images went forward and backward, but for the further looks.
    pub gradient_samples: u64,
    /// The sizes that further looks at a suspicious pair gave, as multiples of what is typical for norm 1; null for one that did not converge.
    pub further_looks: Vec<Option<f64>>,
    /// The same of such looks that were confined, half of them to a fifth of each side of the image and half to a seventh.
    #[serde(default)]
    pub confined_looks: Vec<Option<f64>>,
    /// How directly the confined triggers make images of the source more like those of the target: the likeness for how far they move them, as a share of what is usual for this
    /// model; null where none was found, or pixels tell nothing.
    #[serde(default)]
    pub directness: Option<f64>,
    /// How much of what the confined triggers do to the scores speaks for the target (the cosine between the change and a rise of that score alone), as a share of what is usual for this
    /// model, 1 at the most; null where none was found.
    #[serde(default)]
    pub aim: Option<f64>,
    /// What the size in a window, a seventh of each side of the image, where one of the pairs with the lowest scores is looked at first, comes to with likeness, directness and aim; null
    /// where there was no such look.
    #[serde(default)]
    pub score_in_window: Option<f64>,
    /// What all looks come to, by which a suspicious pair is judged; null where there were no further ones.
    #[serde(default)]
    pub score_in_all: Option<f64>,
    /// The share of the clean images of the source that the trigger sends to the target, measured where `attacked`.
    pub attack_success_rate: Option<f64>,
}

/// The margins in `scan.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MarginsReport {
    /// For each class the largest logit(class) − largest other logit that was found over all inputs in the range of pixel values.
    pub margins: Vec<f64>,
    /// The probability that the largest of them is as large as it is, if it is drawn as the others are; null where the others are too
    /// few or do not vary.
    pub p_value: Option<f64>,
}

/// How far a class was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassState {
    /// To the end of its search.
    Finished,
    /// Until it was clear that it cannot be flagged.
    Dropped,
}

/// The engine in `scan.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EngineReport {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What triggers were searched for in: `f32` or `bf16`.
    pub precision: String,
}

/// The model in `scan.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelReport {
    /// As it was given.
    pub path: String,
    /// Of the file, in hexadecimal.
    pub sha256: String,
    /// The version of the default operator set.
    pub opset: i64,
    /// The shape of an image, `[C, H, W]`.
    pub input: [usize; 3],
    /// The number of classes.
    pub classes: usize,
    /// The input that takes the images.
    pub input_name: String,
    /// The value that has the scores of the classes.
    pub output_name: String,
    /// What these scores are.
    pub scores: Scores,
    /// Other inputs, and what they were taken to be.
    pub constant_inputs: BTreeMap<String, f64>,
    /// How a quantised model was differentiated; null for one that is not quantised.
    pub quantised: Option<Quantised>,
}

/// How a quantised model was differentiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Quantised {
    /// As if it did not round.
    StraightThrough,
}

/// The samples in `scan.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SamplesReport {
    /// How many images the inversion worked on.
    pub working: usize,
    /// How many it did not see.
    pub held_out: usize,
    /// Whether they came with labels.
    pub labelled: bool,
}

impl ScanReport {
    /// The report of a scan of `classifier`, whose model came from `path` and has the hash `sha256`.
    pub fn new(scan: &Scan, classifier: &Classifier, config: &Config, path: &str, sha256: &str, seconds: f64) -> Self {
        let smallest = scan.smallest();
        let (engine, network) = (classifier.engine(), classifier.network());
        ScanReport {
            schema_version: SCHEMA_VERSION,
            mode: scan.mode,
            verdict: scan.detection.verdict,
            reason: scan.detection.reason.clone(),
            attacks: scan.attacks.clone(),
            evidence: scan.detection.looks.clone(),
            flagged_classes: scan.flagged_classes.clone(),
            anomaly_index: smallest.and_then(|class| class.anomaly_index),
            ratio: smallest.and_then(|class| class.ratio),
            score: scan.lowest_score(),
            calibration: scan.lowest_score().and_then(|score| {
                Calibration::of(
                    score,
                    scan.rule,
                    config,
                    classifier.image_shape(),
                    scan.classes.len() + scan.dropped.len(),
                )
            }),
            pair_calibration: scan.pairs.as_ref().and_then(|scan| {
                PairCalibration::of(scan.lowest_score_in_all()?, config, classifier.image_shape(), scan.pairs.len())
            }),
            threshold: scan.rule.threshold(),
            rule: scan.rule,
            median: scan.statistics.median,
            mad: scan.statistics.mad,
            usual_size: scan.statistics.usual_size,
            usual_confined_size: scan.statistics.usual_confined_size,
            clean_accuracy: scan.clean_accuracy,
            classes: classes(scan, classifier),
            pairs: scan.pairs.as_ref().map(|scan| scan.pairs.iter().map(PairReport::new).collect()),
            margins: scan.margins.as_ref().map(MarginsReport::new),
            parameters: config.clone(),
            engine: EngineReport {
                name: engine.name().to_owned(),
                version: engine.version(),
                precision: classifier.precision().to_string(),
            },
            seed: config.seed,
            gradient_samples: scan.gradient_samples,
            seconds,
            model: ModelReport {
                path: path.to_owned(),
                sha256: sha256.to_owned(),
                opset: default_opset(network.model()),
                input: classifier.image_shape(),
                classes: classifier.classes(),
                input_name: network.input().to_owned(),
                output_name: network.output().to_owned(),
                scores: network.scores(),
                constant_inputs: network.constant_inputs().iter().cloned().collect(),
                quantised: network.is_quantised().then_some(Quantised::StraightThrough),
            },
            samples: SamplesReport {
                working: scan.working,
                held_out: scan.held_out,
                labelled: scan.clean_accuracy.is_some(),
            },
        }
    }

    /// Reads a report.
    ///
    /// # Errors
    /// If the file cannot be read, or is not a report of this [`SCHEMA_VERSION`].
    ///
    /// ```no_run
    /// use std::path::Path;
    /// use neural_cleanse::report::ScanReport;
    ///
    /// # fn main() -> neural_cleanse::Result<()> {
    /// let report = ScanReport::read(Path::new("model-scan/scan.json"))?;
    /// for class in report.classes.iter().filter(|class| report.flagged_classes.contains(&class.target_class)) {
    ///     println!("{}: ratio {:?}", class.label(), class.ratio);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn read(path: &Path) -> Result<Self> {
        document::read(path, "the report of a scan", SCHEMA_VERSION)
    }

    /// Writes the report, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        document::write(path, self)
    }
}

fn default_opset(model: &onnx_grad::Model) -> i64 {
    let of_onnx = |(domain, _): &(&str, i64)| matches!(*domain, "" | "ai.onnx");
    model.opsets().into_iter().find(of_onnx).map_or(0, |(_, version)| version)
}

fn classes(scan: &Scan, classifier: &Classifier) -> Vec<ClassReport> {
    let finished = scan.classes.iter().map(|class| ClassReport::finished(class, classifier));
    let dropped = scan.dropped.iter().map(|class| ClassReport::dropped(class, classifier));
    let mut classes: Vec<ClassReport> = finished.chain(dropped).collect();
    classes.sort_by_key(|class| class.target_class);
    classes
}

fn pixels(inversion: &Inversion) -> Option<f64> {
    Some(inversion.extent?.pixels())
}

impl PairReport {
    fn new(pair: &Pair) -> Self {
        PairReport {
            source: pair.source,
            target: pair.target,
            attacked: pair.attack_success_rate.is_some(),
            norm_l1: pair.norm_l1,
            opacity: pair.inversion.as_ref().map(|inversion| inversion.trigger.opacity()),
            extent: pair.inversion.as_ref().and_then(pixels),
            share: pair.share,
            likeness: pair.likeness,
            margin_ratio: pair.margin_ratio,
            leaning: pair.leaning,
            score: pair.score,
            steps: pair.steps,
            gradient_samples: pair.gradient_samples,
            further_looks: pair.further_looks.clone(),
            confined_looks: pair.confined_looks.clone(),
            directness: pair.directness,
            aim: pair.aim,
            score_in_window: pair.score_in_window,
            score_in_all: pair.score_in_all,
            attack_success_rate: pair.attack_success_rate,
        }
    }
}

impl MarginsReport {
    fn new(scan: &MarginScan) -> Self {
        MarginsReport { margins: scan.margins.clone(), p_value: scan.p_value }
    }
}

impl ClassReport {
    /// The class by its number and, if it has one, its name.
    pub fn label(&self) -> String {
        let number = self.target_class.to_string();
        if self.name.is_empty() || self.name == number { number } else { format!("{number} · {}", self.name) }
    }

    fn finished(class: &ClassScan, classifier: &Classifier) -> Self {
        let target_class = class.inversion.target_class;
        ClassReport {
            target_class,
            name: classifier.class_names()[target_class].clone(),
            state: ClassState::Finished,
            converged: class.inversion.converged,
            norm_l1: Some(class.norm_l1),
            norm_inf: Some(class.inversion.trigger.norm_inf()),
            opacity: Some(class.inversion.trigger.opacity()),
            extent: pixels(&class.inversion),
            size: class.inversion.size(),
            ratio: class.ratio,
            score: class.score,
            anomaly_index: class.anomaly_index,
            attack_success_rate: Some(class.attack_success_rate),
            steps: class.inversion.steps.len(),
            gradient_samples: class.gradient_samples,
            foreignness: class.foreignness,
            further_looks: class.further_looks.clone(),
            confined_looks: class.confined_looks.clone(),
        }
    }

    fn dropped(class: &DroppedClass, classifier: &Classifier) -> Self {
        ClassReport {
            target_class: class.target_class,
            name: classifier.class_names()[class.target_class].clone(),
            state: ClassState::Dropped,
            converged: class.norm_l1.is_some(),
            norm_l1: class.norm_l1,
            norm_inf: None,
            opacity: None,
            extent: None,
            size: None,
            ratio: None,
            score: None,
            anomaly_index: None,
            attack_success_rate: None,
            steps: class.steps,
            gradient_samples: class.gradient_samples,
            foreignness: None,
            further_looks: Vec::new(),
            confined_looks: Vec::new(),
        }
    }
}
