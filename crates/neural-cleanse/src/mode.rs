//! What a scan looks for, and how looks of several kinds come together.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attack::Attack;
use crate::classifier::Classifier;
use crate::data::Samples;
use crate::detection::{Detection, Statistics, Verdict};
use crate::error::{Error, Result};
use crate::look::{self, Look, Method};
use crate::margin;
use crate::pairs;
use crate::scan::{Observer, Plan, Scan, ScanOptions, scan};

/// What a scan looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// For each class, a trigger that sends images of all others to it.
    Targets,
    /// For each source and target, a trigger that sends images of the one to the other: finds attacks that concern one source class, and
    /// all-to-all ones.
    Pairs,
    /// Classes whose margins are too large. Needs no samples.
    Margin,
    /// All of these, the cheapest first.
    Thorough,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "targets" => Ok(Mode::Targets),
            "pairs" => Ok(Mode::Pairs),
            "margin" => Ok(Mode::Margin),
            "thorough" => Ok(Mode::Thorough),
            _ => Err(format!("`{text}` is not a mode: use targets, pairs, margin or thorough")),
        }
    }
}

/// Scans `classifier` in `mode`. Without samples nothing but the margins can be looked at, which is what is done then.
///
/// # Errors
/// As [`scan()`] has them.
pub fn scan_in_mode(
    mode: Mode,
    classifier: &Classifier,
    samples: Option<&Samples>,
    options: &ScanOptions,
    observer: &dyn Observer,
) -> Result<Scan> {
    let Some(samples) = samples else {
        options.config.validate().map_err(Error::Config)?;
        return margins_alone(classifier, options, observer);
    };
    match mode {
        Mode::Targets => scan(classifier, samples, options, observer),
        Mode::Pairs => pairs_alone(&Plan::new(classifier, samples, options)?, observer),
        Mode::Margin => {
            let plan = Plan::new(classifier, samples, options)?;
            Ok(Scan { clean_accuracy: plan.clean_accuracy, ..margins_alone(classifier, options, observer)? })
        }
        Mode::Thorough => thorough(&Plan::new(classifier, samples, options)?, observer),
    }
}

fn margins_alone(classifier: &Classifier, options: &ScanOptions, observer: &dyn Observer) -> Result<Scan> {
    let margins = margin::scan(classifier, options.config.seed, observer)?;
    Ok(Scan {
        gradient_samples: margins.gradient_samples,
        flagged_classes: margins.flagged_class.into_iter().collect(),
        attacks: margins.attacks.clone(),
        margins: Some(margins.clone()),
        ..of_looks(Mode::Margin, margins.looks, options)
    })
}

fn pairs_alone(plan: &Plan<'_>, observer: &dyn Observer) -> Result<Scan> {
    let pairs = pairs::scan(plan, observer)?;
    Ok(Scan {
        clean_accuracy: plan.clean_accuracy,
        working: plan.working.labels.len(),
        held_out: plan.unseen.as_ref().map_or(0, |unseen| unseen.labels.len()),
        gradient_samples: pairs.gradient_samples,
        flagged_classes: targets_of(&pairs.attacks),
        attacks: pairs.attacks.clone(),
        pairs: Some(pairs.clone()),
        ..of_looks(Mode::Pairs, pairs.looks, plan.options)
    })
}

/// A scan that has inverted no class.
fn of_looks(mode: Mode, looks: Vec<Look>, options: &ScanOptions) -> Scan {
    Scan {
        mode,
        detection: Detection {
            verdict: look::verdict(&looks),
            reason: look::reason(&looks),
            flagged: Vec::new(),
            looks,
        },
        attacks: Vec::new(),
        classes: Vec::new(),
        dropped: Vec::new(),
        pairs: None,
        margins: None,
        flagged_classes: Vec::new(),
        statistics: Statistics::of(&[]),
        rule: options.rule(),
        clean_accuracy: None,
        working: 0,
        held_out: 0,
        gradient_samples: 0,
    }
}

/// Margins, then targets, then pairs.
fn thorough(plan: &Plan<'_>, observer: &dyn Observer) -> Result<Scan> {
    let margins = margin::scan(plan.classifier, plan.options.config.seed, observer)?;
    let targets = plan.search(observer)?;
    let pairs = pairs::scan(plan, observer)?;

    let mut attacks = [&targets.attacks[..], &pairs.attacks[..]].concat();
    attacks.sort_unstable();
    attacks.dedup();
    let mut looks = targets.detection.looks.clone();
    looks.extend(pairs.looks.iter().filter(|look| !is_answered(look)).cloned());
    looks.extend(margins.looks.iter().map(|look| beside_others(look, &attacks)));
    let verdict = look::verdict(&looks);
    if verdict != Verdict::Clean && attacks.is_empty() {
        attacks.extend(&margins.attacks);
    }
    Ok(Scan {
        mode: Mode::Thorough,
        flagged_classes: targets_of(&attacks),
        detection: Detection { verdict, reason: look::reason(&looks), looks, ..targets.detection },
        gradient_samples: margins.gradient_samples + targets.gradient_samples + pairs.gradient_samples,
        attacks,
        pairs: Some(pairs),
        margins: Some(margins),
        ..targets
    })
}

/// Whether the triggers for all classes have answered what the pairs leave open about one target.
fn is_answered(look: &Look) -> bool {
    look.method == Method::Column && look.verdict == Verdict::Inconclusive
}

/// A look at margins, where triggers were searched for, too: a large margin to which no trigger was found is open to
/// either explanation.
fn beside_others(look: &Look, attacks: &[Attack]) -> Look {
    if look.verdict != Verdict::Backdoored || !attacks.is_empty() {
        return look.clone();
    }
    Look {
        verdict: Verdict::Inconclusive,
        words: format!("{}; no trigger was found that would explain it", look.words),
        ..look.clone()
    }
}

/// The classes that `attacks` send images to, in ascending order.
fn targets_of(attacks: &[Attack]) -> Vec<usize> {
    let mut targets: Vec<usize> = attacks.iter().filter_map(|attack| attack.target()).collect();
    targets.sort_unstable();
    targets.dedup();
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(method: Method, verdict: Verdict) -> Look {
        Look { target: Some(3), words: "words".into(), ..Look::by(method, verdict, Some(0.01)) }
    }

    #[test]
    fn modes_are_read_as_they_are_written() {
        for mode in [Mode::Targets, Mode::Pairs, Mode::Margin, Mode::Thorough] {
            let name = serde_json::to_value(mode).unwrap();
            assert_eq!(name.as_str().unwrap().parse(), Ok(mode));
        }
        assert!("all".parse::<Mode>().unwrap_err().contains("thorough"));
    }

    #[test]
    fn a_large_margin_without_a_trigger_is_no_verdict() {
        let margin = look(Method::Margin, Verdict::Backdoored);
        assert_eq!(beside_others(&margin, &[]).verdict, Verdict::Inconclusive);
        assert_eq!(beside_others(&margin, &[Attack::AllToOne { target: 1 }]).verdict, Verdict::Backdoored);
        assert_eq!(beside_others(&look(Method::Margin, Verdict::Clean), &[]).verdict, Verdict::Clean);
    }

    #[test]
    fn targets_answer_what_a_column_leaves_open() {
        assert!(is_answered(&look(Method::Column, Verdict::Inconclusive)));
        assert!(!is_answered(&look(Method::Column, Verdict::Backdoored)));
        assert!(!is_answered(&look(Method::Pair, Verdict::Inconclusive)));
    }

    #[test]
    fn each_target_is_flagged_once() {
        let attacks = [
            Attack::SourceSpecific { source: 2, target: 7 },
            Attack::AllToOne { target: 1 },
            Attack::SourceSpecific { source: 3, target: 7 },
            Attack::AllToAll { shift: 1 },
        ];
        assert_eq!(targets_of(&attacks), [1, 7]);
    }
}
