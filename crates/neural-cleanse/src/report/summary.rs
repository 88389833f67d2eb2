use std::path::Path;

use serde::Serialize;

use super::{ScanReport, document};
use crate::detection::Verdict;
use crate::error::Result;

/// The version of the form of `summary.json`; a change that breaks readers raises it.
pub const SUMMARY_SCHEMA_VERSION: u32 = 1;

/// `summary.json`: the scans of several models.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// [`SUMMARY_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// One for each model, in the order in which they were given.
    pub models: Vec<ModelSummary>,
}

/// What came of the scan of one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelSummary {
    /// The model's file, as it was given.
    pub model: String,
    /// The conclusion; null where the scan failed.
    pub verdict: Option<Verdict>,
    /// Why it is so or, where the scan failed, what went wrong.
    pub reason: String,
    /// The classes that are flagged.
    pub flagged_classes: Vec<usize>,
    /// The lowest ratio of a class.
    pub ratio: Option<f64>,
    /// Its anomaly index.
    pub anomaly_index: Option<f64>,
    /// The share of the clean samples that are classified as labelled; null without labels.
    pub clean_accuracy: Option<f64>,
    /// How long the scan took; null where it failed.
    pub seconds: Option<f64>,
    /// The page of the scan, from the folder of the summary; null where the scan failed.
    pub report: Option<String>,
}

impl Summary {
    /// The summary of `models`.
    pub fn new(models: Vec<ModelSummary>) -> Self {
        Summary { schema_version: SUMMARY_SCHEMA_VERSION, models }
    }

    /// How many models have `verdict`; `None` counts the scans that failed.
    pub fn count(&self, verdict: Option<Verdict>) -> usize {
        self.models.iter().filter(|model| model.verdict == verdict).count()
    }

    /// Writes the summary, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        document::write(path, self)
    }
}

impl ModelSummary {
    /// The scan of `model` that gave `scan`, whose page is at `page`.
    pub fn scanned(model: String, scan: &ScanReport, page: String) -> Self {
        ModelSummary {
            model,
            verdict: Some(scan.verdict),
            reason: scan.reason.clone(),
            flagged_classes: scan.flagged_classes.clone(),
            ratio: scan.ratio,
            anomaly_index: scan.anomaly_index,
            clean_accuracy: scan.clean_accuracy,
            seconds: Some(scan.seconds),
            report: Some(page),
        }
    }

    /// The scan of `model` that failed.
    pub fn failed(model: String, reason: String) -> Self {
        ModelSummary {
            model,
            verdict: None,
            reason,
            flagged_classes: Vec::new(),
            ratio: None,
            anomaly_index: None,
            clean_accuracy: None,
            seconds: None,
            report: None,
        }
    }

    /// The verdict, or `failed`.
    pub fn outcome(&self) -> String {
        self.verdict.map_or("failed".to_owned(), |verdict| verdict.to_string())
    }
}
