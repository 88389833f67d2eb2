use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{ClassReport, ScanReport};
use crate::detection::Verdict;

/// Two scans side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The first scan.
    pub first: Compared,
    /// The second.
    pub second: Compared,
    /// In what the scans were not made alike: the parameters, the rule, and what runs the model, by their names.
    pub differences: Vec<String>,
    /// The classes of either scan, in ascending order.
    pub classes: Vec<ComparedClass>,
}

/// What one of two scans concludes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// The model's file, as it was given.
    pub model: String,
    /// Its hash.
    pub sha256: String,
    /// The conclusion.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
    /// The classes that are flagged.
    pub flagged_classes: Vec<usize>,
    /// The share of the clean samples that are classified as labelled; null without labels.
    pub clean_accuracy: Option<f64>,
}

/// One class in two scans; null where it was not scanned.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedClass {
    /// The class.
    pub target_class: usize,
    /// In the first scan.
    pub first: Option<ClassReport>,
    /// In the second.
    pub second: Option<ClassReport>,
}

impl Comparison {
    /// `first` beside `second`.
    pub fn new(first: &ScanReport, second: &ScanReport) -> Self {
        let mut classes = BTreeMap::new();
        for (i, report) in [first, second].into_iter().enumerate() {
            for class in &report.classes {
                classes.entry(class.target_class).or_insert([None, None])[i] = Some(class.clone());
            }
        }
        let compared = |(target_class, [first, second]): (usize, [Option<ClassReport>; 2])| ComparedClass {
            target_class,
            first,
            second,
        };
        Comparison {
            first: first.into(),
            second: second.into(),
            differences: differences(first, second),
            classes: classes.into_iter().map(compared).collect(),
        }
    }
}

impl From<&ScanReport> for Compared {
    fn from(report: &ScanReport) -> Self {
        Compared {
            model: report.model.path.clone(),
            sha256: report.model.sha256.clone(),
            verdict: report.verdict,
            reason: report.reason.clone(),
            flagged_classes: report.flagged_classes.clone(),
            clean_accuracy: report.clean_accuracy,
        }
    }
}

fn differences(first: &ScanReport, second: &ScanReport) -> Vec<String> {
    let [a, b] = [first, second].map(|report| serde_json::to_value(&report.parameters).unwrap_or(Value::Null));
    let mut names: Vec<String> = (a.as_object().into_iter().flatten())
        .filter(|(name, value)| b.get(name.as_str()) != Some(value))
        .map(|(name, _)| name.clone())
        .collect();
    let rest = [
        ("rule", first.rule != second.rule),
        ("engine", first.engine != second.engine),
        ("samples", first.samples != second.samples),
    ];
    names.extend(rest.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()));
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn classes_stand_beside_each_other_and_differences_are_named() {
        let first = fixture::backdoored(3, 1, "a");
        let mut second = fixture::backdoored(4, 2, "a");
        assert!(Comparison::new(&first, &first).differences.is_empty());
        second.parameters.steps += 1;
        second.engine.version.push('x');
        let comparison = Comparison::new(&first, &second);
        assert_eq!(comparison.differences, ["steps", "engine"]);
        assert_eq!((&*comparison.first.flagged_classes, &*comparison.second.flagged_classes), (&[1][..], &[2][..]));
        assert_eq!(comparison.classes.len(), 4);
        assert!(comparison.classes[3].first.is_none() && comparison.classes[3].second.is_some());
    }
}
