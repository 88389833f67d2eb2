//! The files that the triggers of a scan lie in.

use std::path::{Path, PathBuf};

use anyhow::Context;
use ndarray::Axis;
use neural_cleanse::report::{ScanReport, write_trigger_picture};
use neural_cleanse::{Classifier, CleanSet, Scan, Trigger};

/// The trigger of each class and of each pair that belongs to an attack, as arrays and pictures.
pub fn write(
    out: &Path,
    scan: &Scan,
    report: &ScanReport,
    clean: &CleanSet,
    classifier: &Classifier,
) -> anyhow::Result<()> {
    let write = |trigger: &Trigger, path: PathBuf, source: Option<usize>, target: usize| {
        let sample = clean.rows_to_send(source, target).first().copied().unwrap_or(0);
        let sample = clean.images.index_axis(Axis(0), sample);
        trigger.write_npz(&path.with_extension("npz"))?;
        write_trigger_picture(&path.with_extension("png"), trigger, sample, classifier.value_range())
    };
    for class in &scan.classes {
        let target = class.inversion.target_class;
        write(&class.inversion.trigger, trigger_path(out, report, target), None, target)?;
    }
    for (pair, inversion) in scan.pairs.iter().flat_map(|pairs| pairs.attacked()) {
        let path = pair_path(out, report, pair.source, pair.target);
        write(&inversion.trigger, path, Some(pair.source), pair.target)?;
    }
    Ok(())
}

/// Makes the folder for them, and `out` where that is not there.
pub fn create_folder(out: &Path) -> anyhow::Result<()> {
    let triggers = out.join("triggers");
    std::fs::create_dir_all(&triggers).with_context(|| format!("cannot create {}", triggers.display()))
}

/// Where the trigger of `class` lies in a scan's folder `out`, but for the extension. All numbers have as many digits.
fn trigger_path(out: &Path, report: &ScanReport, class: usize) -> PathBuf {
    let digits = digits(report);
    out.join("triggers").join(format!("class_{class:0digits$}"))
}

/// The same for the trigger that sends images of class `source` to class `target`.
fn pair_path(out: &Path, report: &ScanReport, source: usize, target: usize) -> PathBuf {
    let digits = digits(report);
    out.join("triggers").join(format!("pair_{source:0digits$}_{target:0digits$}"))
}

/// Where the triggers that lead to class `target` lie: that for images of all classes or, where it was not searched for, those of the pairs that
/// belong to an attack.
pub fn trigger_paths(out: &Path, report: &ScanReport, target: usize) -> Vec<PathBuf> {
    if report.classes.iter().any(|class| class.target_class == target) {
        return vec![trigger_path(out, report, target)];
    }
    let pairs = report.pairs.iter().flatten().filter(|pair| pair.attacked && pair.target == target);
    pairs.map(|pair| pair_path(out, report, pair.source, pair.target)).collect()
}

fn digits(report: &ScanReport) -> usize {
    report.model.classes.saturating_sub(1).to_string().len().max(3)
}
