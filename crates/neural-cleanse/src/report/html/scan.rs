use std::path::Path;

use askama::Template;
use base64::Engine as _;
use image::imageops;
use ndarray::ArrayView3;
use serde_json::Value;

use super::chart::{Curve, SizeChart, curves};
use super::{BASE64, Frame, percent, write_page};
use crate::detection::{Rule, Verdict};
use crate::error::Result;
use crate::inversion::Norm;
use crate::mode::Mode;
use crate::report::picture::{on_plain_ground, pattern_range, png, rgb};
use crate::report::{ClassReport, ClassState, Evidence, ScanReport};

/// The longest side, in pixels, of pictures of triggers that are shown at work.
const LARGE: u32 = 160;

/// The longest side of all others.
const SMALL: u32 = 64;

/// `report.html`: a scan for people to read.
#[derive(Template)]
#[template(path = "scan.html")]
pub struct ScanPage<'a> {
    frame: Frame,
    report: &'a ScanReport,
    smallest: Option<&'a ClassReport>,
    chart: SizeChart,
    at_work: Vec<Card>,
    pictured: Vec<Card>,
    rows: Vec<Row>,
    parameters: Vec<(String, String)>,
    command: &'a str,
}

/// One class with its pictures.
struct Card {
    class: usize,
    label: String,
    flagged: bool,
    summary: String,
    mask: Picture,
    pattern: Picture,
    trigger: Picture,
    samples: Vec<Sample>,
    effects: Vec<EffectBar>,
    curves: Vec<Curve>,
}

struct Picture {
    url: String,
    width: u32,
    height: u32,
}

struct Sample {
    clean: Picture,
    stamped: Picture,
    predictions: Option<[String; 2]>,
    /// Whether the trigger sends it to its target class.
    sent: bool,
}

/// Where the images of one class go, in percent of them.
struct EffectBar {
    label: String,
    images: usize,
    to_target: f64,
    kept: f64,
    elsewhere: f64,
}

struct Row {
    class: usize,
    name: String,
    norm: Option<f64>,
    ratio: Option<f64>,
    anomaly_index: Option<f64>,
    attack_success_rate: Option<f64>,
    steps: usize,
    state: &'static str,
    pictured: bool,
}

impl<'a> ScanPage<'a> {
    /// The page of `report`, with `evidence` of some of its classes, whose pixel values are in `range`. `command` is the
    /// command line that made it.
    ///
    /// # Errors
    /// If a trigger does not fit its samples.
    pub fn new(
        report: &'a ScanReport,
        evidence: &[Evidence],
        range: (f32, f32),
        command: &'a str,
    ) -> Result<ScanPage<'a>> {
        let mut at_work = Vec::new();
        let mut pictured = Vec::new();
        for evidence in evidence {
            let large = !evidence.effects.is_empty();
            let card = Card::new(report, evidence, range, if large { LARGE } else { SMALL })?;
            if large { at_work.push(card) } else { pictured.push(card) }
        }
        let converged = report.classes.iter().filter(|class| class.converged && class.ratio.is_some());
        Ok(ScanPage {
            frame: Frame::new(),
            report,
            smallest: converged.min_by(|a, b| a.ratio.unwrap_or(1.0).total_cmp(&b.ratio.unwrap_or(1.0))),
            chart: SizeChart::new(report),
            rows: report.classes.iter().map(|class| Row::new(report, class, evidence)).collect(),
            at_work,
            pictured,
            parameters: parameters(report),
            command,
        })
    }

    /// Writes the page, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_page(path, self)
    }

    fn has_pairs(&self) -> bool {
        self.report.pairs.is_some()
    }

    fn headline(&self) -> &'static str {
        match self.report.verdict {
            Verdict::Backdoored => "This model is backdoored",
            Verdict::Clean => "No backdoor was found",
            Verdict::Inconclusive => "No conclusion could be reached",
        }
    }

    fn rule(&self) -> String {
        match self.report.rule {
            Rule::Ratio { backdoored_below, suspicious_below } => {
                format!(
                    "ratio to the usual size: flagged below {backdoored_below:.2}, suspicious below {suspicious_below:.2}"
                )
            }
            Rule::Mad { threshold } => format!("anomaly index: flagged above {threshold} below the median"),
        }
    }

    fn limits(&self) -> &'static str {
        match self.report.mode {
            Mode::Targets => {
                "It finds backdoors that send images of every class to one target class by a patch or another small change. It does not see \
                 triggers that work on one source class only, all-to-all attacks, and triggers that are not a patch, such as warping or a faint overlay."
            }
            Mode::Pairs => {
                "It finds backdoors that send images of one class to another, and all-to-all attacks, by a patch or another small change. Triggers \
                 for images of all classes stand out less here than in a scan of the targets; triggers that are not a patch it does not see."
            }
            Mode::Margin => {
                "It finds classes whose margin over all others can be made larger than is usual, whatever the trigger is, and shows no trigger. It does \
                 not see triggers that work on one source class only, and all-to-all attacks; weak backdoors it often misses."
            }
            Mode::Thorough => {
                "It looks for small triggers for images of all classes and of each class by itself, and for margins that are too large. It does not see \
                 triggers that are not a patch where they leave the margins as they are, such as some that depend on the image."
            }
        }
    }

    fn drops_classes(&self) -> bool {
        self.report.classes.iter().any(|class| class.state == ClassState::Dropped)
    }

    /// What the chart's bars are.
    fn bars(&self) -> &'static str {
        match (self.report.parameters.norm, self.report.rule) {
            (Norm::Inf, _) => "largest mask values",
            (_, Rule::Mad { .. }) => "L1 norms of the masks",
            (_, Rule::Ratio { .. }) => {
                "sizes of the triggers, in pixels, each between the L1 norm of its mask and the extent of the part that it needs (of small ones, the mean of all looks)"
            }
        }
    }

    /// What the chart's upper line is.
    fn usual(&self) -> &'static str {
        match (self.report.parameters.norm, self.report.rule) {
            (Norm::L1 | Norm::L2, Rule::Ratio { .. }) => "usual size, the lower quartile:",
            _ => "median",
        }
    }
}

impl Card {
    fn new(report: &ScanReport, evidence: &Evidence, range: (f32, f32), side: u32) -> Result<Self> {
        let name = |class: usize| name_of(report, class);
        let picture = |values: ArrayView3<'_, f32>| Picture::new(values, range, side);
        let class = report.classes.iter().find(|class| class.target_class == evidence.target_class);
        let samples = evidence.samples.iter().map(|sample| Sample {
            clean: picture(sample.clean.view()),
            stamped: picture(sample.stamped.view()),
            predictions: sample.predictions.map(|classes| classes.map(name)),
            sent: sample.predictions.is_some_and(|[_, after]| after == evidence.target_class),
        });
        Ok(Card {
            class: evidence.target_class,
            label: name(evidence.target_class),
            flagged: report.flagged_classes.contains(&evidence.target_class),
            summary: class.map_or_else(String::new, summary),
            mask: Picture::new(evidence.trigger.mask.view(), (0.0, 1.0), side),
            pattern: Picture::new(evidence.trigger.pattern.view(), pattern_range(&evidence.trigger, range), side),
            trigger: picture(on_plain_ground(&evidence.trigger, range)?.view()),
            samples: samples.collect(),
            effects: (evidence.effects.iter())
                .map(|effect| {
                    let share = |count: usize| 100.0 * count as f64 / effect.images.max(1) as f64;
                    EffectBar {
                        label: name(effect.class),
                        images: effect.images,
                        to_target: share(effect.to_target),
                        kept: share(effect.kept),
                        elsewhere: share(effect.images - effect.to_target - effect.kept),
                    }
                })
                .collect(),
            curves: curves(&evidence.steps),
        })
    }
}

impl Picture {
    fn new(values: ArrayView3<'_, f32>, range: (f32, f32), side: u32) -> Self {
        let image = rgb(values, range);
        let (width, height) = image.dimensions();
        let longest = width.max(height);
        let image = if longest > side {
            let scaled = |length: u32| (length * side / longest).max(1);
            imageops::resize(&image, scaled(width), scaled(height), imageops::FilterType::Triangle)
        } else {
            image
        };
        // Writing to memory does not fail.
        let bytes = png(&image).unwrap_or_default();
        Picture {
            url: format!("data:image/png;base64,{}", BASE64.encode(bytes)),
            width: image.width(),
            height: image.height(),
        }
    }
}

impl Row {
    fn new(report: &ScanReport, class: &ClassReport, evidence: &[Evidence]) -> Self {
        let flagged = report.flagged_classes.contains(&class.target_class);
        Row {
            class: class.target_class,
            name: class.name.clone(),
            norm: class.norm_l1,
            ratio: class.ratio,
            anomaly_index: class.anomaly_index,
            attack_success_rate: class.attack_success_rate,
            steps: class.steps,
            state: match (class.state, class.converged) {
                _ if flagged => "flagged",
                (ClassState::Dropped, _) => "dropped",
                (ClassState::Finished, true) => "not flagged",
                (ClassState::Finished, false) => "not converged",
            },
            pictured: evidence.iter().any(|evidence| evidence.target_class == class.target_class),
        }
    }
}

fn name_of(report: &ScanReport, class: usize) -> String {
    let named = report.classes.iter().find(|entry| entry.target_class == class);
    named.map_or_else(|| class.to_string(), ClassReport::label)
}

fn summary(class: &ClassReport) -> String {
    let parts = [
        (!class.converged).then(|| "not converged".to_owned()),
        class.norm_l1.map(|norm| format!("norm {norm:.2}")),
        class.ratio.map(|ratio| format!("ratio {ratio:.2}")),
        class.attack_success_rate.map(|rate| format!("success {}", percent(rate))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// Every parameter of the inversion under its own name.
fn parameters(report: &ScanReport) -> Vec<(String, String)> {
    let Ok(Value::Object(parameters)) = serde_json::to_value(&report.parameters) else {
        return Vec::new();
    };
    let text = |value: Value| match value {
        Value::String(text) => text,
        Value::Null => "–".to_owned(),
        other => other.to_string(),
    };
    parameters.into_iter().map(|(name, value)| (name, text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inversion::Step;
    use crate::report::{Effect, StampedSample, fixture};
    use crate::trigger::Trigger;
    use ndarray::Array3;

    fn evidence(target_class: usize, side: usize, samples: usize) -> Evidence {
        // Noise, which does not compress.
        let noise = |c, y, x| ((c * 7919 + y * 104_729 + x * 1_299_709) % 251) as f32;
        let image = Array3::from_shape_fn((3, side, side), |(c, y, x)| noise(c, y, x * x + y));
        let sample =
            StampedSample { clean: image.clone(), stamped: image.clone(), predictions: Some([0, target_class]) };
        let step = |step| Step { step, cross_entropy: 1.0, attack_success_rate: 0.5, norm: 9.0, cost: 0.1 };
        let effect = Effect { class: 0, images: 9, to_target: 8, kept: 1 };
        Evidence {
            target_class,
            trigger: Trigger::new(Array3::from_elem((1, side, side), 0.5), image).unwrap(),
            steps: (1..=1000).map(step).collect(),
            samples: vec![sample; samples],
            effects: if samples > 1 { vec![effect] } else { Vec::new() },
        }
    }

    #[test]
    fn a_hostile_name_is_only_text() {
        let name = "</title></style></svg><script>alert(1)</script><img src=x onerror='alert(2)'>\" onload=\"alert(3)";
        let report = fixture::backdoored(4, 2, name);
        let evidence = [evidence(2, 4, 2), evidence(0, 4, 1)];
        let command = format!("neural-cleanse scan '{name}'");
        let page = ScanPage::new(&report, &evidence, (0.0, 255.0), &command).unwrap().render().unwrap();
        for (tag, count) in
            [("<script", 1), ("</script", 1), ("</style", 1), ("</title", 2 + report.classes.len()), ("<img src=x", 0)]
        {
            assert_eq!(page.matches(tag).count(), count, "{tag}");
        }
        assert!(!page.contains("\" onload"), "an attribute was left");
        assert!(page.contains("&#60;script&#62;alert(1)"), "the name is shown as it is");
    }

    #[test]
    fn the_page_says_what_its_mode_does_not_see() {
        let mut report = fixture::backdoored(4, 2, "bag");
        let page = |report: &ScanReport| ScanPage::new(report, &[], (0.0, 255.0), "").unwrap().render().unwrap();
        let hint = "<code>--mode pairs</code>";
        assert!(page(&report).contains("warping") && page(&report).contains(hint));
        report.pairs = Some(Vec::new());
        assert!(page(&report).contains("warping") && !page(&report).contains(hint));
    }

    #[test]
    fn the_policy_allows_the_pages_own_style_and_script_and_no_others() {
        let report = fixture::backdoored(4, 2, "bag");
        let page = ScanPage::new(&report, &[], (0.0, 255.0), "").unwrap().render().unwrap();
        let between = |from: &str, to: &str| page.split(from).nth(1).unwrap().split(to).next().unwrap();
        let policy = between("Content-Security-Policy\" content=\"", "\"").replace("&#39;", "'");
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(
            policy.contains(&format!("style-src {};", crate::report::html::source(between("<style>", "</style>"))))
        );
        assert!(
            policy.contains(&format!("script-src {};", crate::report::html::source(between("<script>", "</script>"))))
        );
        assert!(!page.contains(" style=") && !page.contains(" onclick="), "the policy would block it");
    }

    #[test]
    fn the_size_is_bounded_for_a_thousand_classes_and_large_images() {
        let report = fixture::backdoored(1000, 2, "a class");
        let evidence: Vec<Evidence> =
            (0..crate::report::MOST_PICTURED).map(|i| evidence(i, 224, if i < 6 { 6 } else { 1 })).collect();
        let page = ScanPage::new(&report, &evidence, (0.0, 255.0), "").unwrap().render().unwrap();
        assert!(page.len() < 16_000_000, "{} bytes", page.len());
        assert!(page.contains("The 48 smallest of 1000 are pictured"));
    }
}
