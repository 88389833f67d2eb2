use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{ScanReport, document};
use crate::detection::Verdict;
use crate::error::Result;
use crate::mitigation::{Filter, Measurement, Outcome, Repair};

/// The version of the form of `mitigation.json`; a change that breaks readers raises it.
pub const MITIGATION_SCHEMA_VERSION: u32 = 1;

/// `mitigation.json`: what a repair did and how the model does before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MitigationReport {
    /// [`MITIGATION_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The target classes of the backdoors, in the order of the attack success rates.
    pub target_classes: Vec<usize>,
    /// How many samples the methods worked on.
    pub working: usize,
    /// How many others everything here is measured on.
    pub measured_on: usize,
    /// Before the repair.
    pub before: Measurement,
    /// Each method in order, with how the model does after it.
    pub outcomes: Vec<Outcome>,
    /// The filter, if one was made.
    pub filter: Option<Filter>,
    /// What scans of the model before and after say, if that was asked for.
    pub verification: Option<Verification>,
}

impl MitigationReport {
    /// The report of `repair`, which removed backdoors towards `target_classes`.
    pub fn new(
        repair: &Repair,
        target_classes: Vec<usize>,
        working: usize,
        measured_on: usize,
        verification: Option<Verification>,
    ) -> Self {
        MitigationReport {
            schema_version: MITIGATION_SCHEMA_VERSION,
            target_classes,
            working,
            measured_on,
            before: repair.before.clone(),
            outcomes: repair.outcomes.clone(),
            filter: repair.filter.clone(),
            verification,
        }
    }

    /// Reads a report.
    ///
    /// # Errors
    /// If the file cannot be read, or is not a report of this [`MITIGATION_SCHEMA_VERSION`].
    pub fn read(path: &Path) -> Result<Self> {
        document::read(path, "the report of a repair", MITIGATION_SCHEMA_VERSION)
    }

    /// Writes the report, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        document::write(path, self)
    }
}

/// Two scans side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Of the model as it was given.
    pub before: ScanSummary,
    /// Of the repaired model.
    pub after: ScanSummary,
}

/// The figures of a scan that decide.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScanSummary {
    /// The conclusion.
    pub verdict: Verdict,
    /// The anomaly index of the class with the smallest trigger.
    pub anomaly_index: Option<f64>,
    /// Its ratio.
    pub ratio: Option<f64>,
    /// The classes that are flagged.
    pub flagged_classes: Vec<usize>,
}

impl From<&ScanReport> for ScanSummary {
    fn from(report: &ScanReport) -> Self {
        ScanSummary {
            verdict: report.verdict,
            anomaly_index: report.anomaly_index,
            ratio: report.ratio,
            flagged_classes: report.flagged_classes.clone(),
        }
    }
}
