use std::path::Path;

use askama::Template;

use super::{Frame, percent, write_page};
use crate::error::Result;
use crate::mitigation::Measurement;
use crate::report::{MitigationReport, ScanSummary};

/// `mitigation.html`: a repair for people to read.
#[derive(Template)]
#[template(path = "mitigation.html")]
pub struct MitigationPage<'a> {
    frame: Frame,
    report: &'a MitigationReport,
    model: &'a str,
    repaired: &'a str,
    stages: Vec<Stage<'a>>,
    command: &'a str,
}

struct Stage<'a> {
    name: &'a str,
    summary: &'a str,
    figures: Vec<Figure>,
}

struct Figure {
    name: String,
    text: String,
    /// In percent.
    share: f64,
    kind: &'static str,
}

impl<'a> MitigationPage<'a> {
    /// The page of `report` on the repair of the file `model`, whose outcome is the file `repaired`. `command` is the
    /// command line that made it.
    pub fn new(report: &'a MitigationReport, model: &'a str, repaired: &'a str, command: &'a str) -> Self {
        let stage = |name, summary, measurement| Stage { name, summary, figures: figures(report, measurement) };
        let outcomes = report.outcomes.iter().map(|outcome| stage(&outcome.method, &outcome.summary, &outcome.after));
        let stages = std::iter::once(stage("before", "", &report.before)).chain(outcomes).collect();
        MitigationPage { frame: Frame::new(), report, model, repaired, stages, command }
    }

    /// Writes the page, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_page(path, self)
    }

    /// Clean accuracy before and after, and the success of the worst trigger, the true one where it is known.
    fn headline(&self) -> String {
        let after = self.report.outcomes.last().map_or(&self.report.before, |outcome| &outcome.after);
        let success = |measurement: &Measurement| {
            let reversed = measurement.attack_success_rates.iter().copied().fold(0.0, f64::max);
            percent(measurement.true_attack_success_rate.unwrap_or(reversed))
        };
        format!(
            "The trigger's success went from {} to {}, clean accuracy from {} to {}.",
            success(&self.report.before),
            success(after),
            percent(self.report.before.clean_accuracy),
            percent(after.clean_accuracy)
        )
    }

    fn scans(&self) -> Vec<(&'static str, &'a ScanSummary)> {
        let verification = self.report.verification.as_ref();
        verification.map_or(Vec::new(), |scans| vec![("before", &scans.before), ("after", &scans.after)])
    }
}

fn figures(report: &MitigationReport, measurement: &Measurement) -> Vec<Figure> {
    let figure = |name: String, share: f64, kind| Figure { name, text: percent(share), share: 100.0 * share, kind };
    let mut figures = vec![figure("clean accuracy".into(), measurement.clean_accuracy, "good")];
    for (target, recall) in report.target_classes.iter().zip(&measurement.target_recalls) {
        figures.extend(recall.map(|share| figure(format!("images of class {target} recognised"), share, "good")));
    }
    for (target, &rate) in report.target_classes.iter().zip(&measurement.natural_confusion_rates) {
        figures.push(figure(format!("clean images taken for class {target}"), rate, "bad"));
    }
    for (target, &rate) in report.target_classes.iter().zip(&measurement.attack_success_rates) {
        figures.push(figure(format!("success of the reversed trigger of class {target}"), rate, "bad"));
    }
    let rest = [
        ("success of the true trigger", measurement.true_attack_success_rate),
        ("clean images rejected", measurement.false_positive_rate),
        ("triggered images let through", measurement.false_negative_rate),
    ];
    for (name, share) in rest {
        figures.extend(share.map(|share| figure(name.to_owned(), share, "bad")));
    }
    figures
}
