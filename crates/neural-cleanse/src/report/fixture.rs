use serde_json::json;

use super::{SCHEMA_VERSION, ScanReport};
use crate::inversion::Config;

/// The report of a scan of `classes` classes that flags `target`, all of which are called `name`.
pub fn backdoored(classes: usize, target: usize, name: &str) -> ScanReport {
    let class = |class: usize| {
        let ratio = if class == target { 0.2 } else { 1.0 };
        json!({
            "target_class": class,
            "name": name,
            "state": "finished",
            "converged": true,
            "norm_l1": 50.0 * ratio,
            "norm_inf": 1.0,
            "ratio": ratio,
            "anomaly_index": 3.0,
            "attack_success_rate": 0.99,
            "steps": 100,
            "gradient_samples": 1600,
            "further_looks": [],
        })
    };
    let report = json!({
        "schema_version": SCHEMA_VERSION,
        "mode": "targets",
        "verdict": "backdoored",
        "reason": format!("class {target} ({name}) has a small trigger"),
        "attacks": [{"kind": "all_to_one", "target": target}],
        "evidence": [],
        "flagged_classes": [target],
        "anomaly_index": 3.0,
        "ratio": 0.2,
        "threshold": 0.45,
        "rule": {"name": "ratio", "backdoored_below": 0.45, "suspicious_below": 0.6},
        "median": 50.0,
        "mad": 4.0,
        "usual_size": 50.0,
        "usual_confined_size": 40.0,
        "clean_accuracy": 0.9,
        "classes": (0..classes).map(class).collect::<Vec<_>>(),
        "pairs": null,
        "margins": null,
        "parameters": Config::default(),
        "engine": {"name": "rten", "version": "0.27", "precision": "f32"},
        "seed": 0,
        "gradient_samples": 3200,
        "seconds": 1.5,
        "model": {
            "path": name,
            "sha256": "00",
            "opset": 13,
            "input": [1, 4, 4],
            "classes": classes,
            "input_name": "input",
            "output_name": "logits",
            "scores": "logits",
            "constant_inputs": {},
            "quantised": null,
        },
        "samples": {"working": 80, "held_out": 20, "labelled": true},
    });
    serde_json::from_value(report).unwrap()
}
