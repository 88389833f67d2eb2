//! Repair on the command line: what is written, what is refused, and what `predict` makes of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use neural_cleanse::data::{self, Wanted};
use neural_cleanse::{Model, Trigger};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

const MODEL: &str = "fixtures/fmnist_badnets.onnx";
const DATA: &str = "fixtures/fashion-mnist-400.npz";
const TRUE_TRIGGER: &str = "fixtures/triggers/fmnist_badnets.npz";

/// Runs a command on the backdoored fixture, with the embedded engine.
fn run(command: &str, model: &str, data: &str, more: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_neural-cleanse"))
        .args([command, model, "--data", data, "--engine", "rten"])
        .args(["--scale", "0.00392157", "--mean", "0.2860", "--std", "0.3530"])
        .args(more)
        .current_dir(root())
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!words.contains("panicked"), "{words}");
    output
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A scan of the target class alone; `--target 7` repairs it without a verdict.
fn scanned(folder: &Path) -> String {
    let scan = folder.join("scan").to_str().unwrap().to_owned();
    assert_eq!(run("scan", MODEL, DATA, &["--out", &scan, "--classes", "7"]).status.code(), Some(3));
    scan
}

fn mitigate(folder: &Path, scan: &str, more: &[&str]) -> (Output, PathBuf) {
    let out = folder.join("repaired.onnx");
    let mut arguments = vec!["--scan", scan, "--target", "7", "--true-trigger", TRUE_TRIGGER];
    arguments.extend(["--out", out.to_str().unwrap()]);
    if !more.contains(&"--max-accuracy-drop") {
        arguments.extend(["--max-accuracy-drop", "20"]);
    }
    arguments.extend(more);
    (run("mitigate", MODEL, DATA, &arguments), out)
}

fn report(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("mitigation.json")).unwrap()).unwrap()
}

#[test]
fn unlearning_and_pruning_remove_the_backdoor_and_change_weights_alone() {
    let folder = tempfile::tempdir().unwrap();
    let scan = scanned(folder.path());
    for method in ["unlearning", "pruning", "unlearning,pruning"] {
        let (output, repaired) = mitigate(folder.path(), &scan, &["--method", method]);
        assert_eq!(output.status.code(), Some(0), "{}", words(&output));
        let report = report(folder.path());
        assert_eq!(report["working"].as_u64().unwrap() + report["measured_on"].as_u64().unwrap(), 400);
        assert!(report["before"]["true_attack_success_rate"].as_f64().unwrap() > 0.98, "{report}");
        let outcomes = report["outcomes"].as_array().unwrap();
        assert_eq!(outcomes.len(), method.split(',').count());
        let after = &outcomes.last().unwrap()["after"];
        assert!(after["true_attack_success_rate"].as_f64().unwrap() < 0.15, "{method}: {after}");
        let lost = report["before"]["clean_accuracy"].as_f64().unwrap() - after["clean_accuracy"].as_f64().unwrap();
        assert!(lost < 0.1, "{method}: {after}");

        let (before, after) = (Model::read(root().join(MODEL)).unwrap(), Model::read(repaired).unwrap());
        assert_eq!(before.initializers(), after.initializers());
        assert_eq!((before.inputs(), before.outputs()), (after.inputs(), after.outputs()));
        assert_eq!((before.opsets(), before.metadata()), (after.opsets(), after.metadata()));
        assert_eq!(before.operators(), after.operators());
    }
}

#[test]
fn a_repair_that_costs_too_much_is_refused_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let scan = scanned(folder.path());
    let spoil = ["--method", "unlearning", "--learning-rate", "0.5", "--max-accuracy-drop", "5"];
    let (output, out) = mitigate(folder.path(), &scan, &spoil);
    assert_eq!(output.status.code(), Some(4), "{}", words(&output));
    assert!(words(&output).contains("--max-accuracy-drop"), "{}", words(&output));
    assert!(!out.exists() && !folder.path().join("mitigation.json").exists());
}

#[test]
fn a_filter_serves_inside_the_model_and_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let scan = scanned(folder.path());
    let stamped = folder.path().join("stamped.npz");
    let samples = data::load(&root().join(DATA), None, &Wanted::new(1, 28, 28)).unwrap();
    let trigger = Trigger::read(&root().join(TRUE_TRIGGER), [1, 28, 28]).unwrap();
    let mut archive = ndarray_npy::NpzWriter::new(std::fs::File::create(&stamped).unwrap());
    archive.add_array("x", &trigger.apply(samples.images.view()).unwrap()).unwrap();
    archive.finish().unwrap();
    let stamped = stamped.to_str().unwrap();

    let (output, _) = mitigate(folder.path(), &scan, &["--method", "filtering"]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let after = &report(folder.path())["outcomes"][0]["after"];
    assert!(after["false_positive_rate"].as_f64().unwrap() < 0.15, "{after}");
    assert!(after["false_negative_rate"].as_f64().unwrap() < 0.05, "{after}");
    let filter = folder.path().join("mitigation.json");
    let filter = ["--filter", filter.to_str().unwrap()];

    let (output, embedded) = mitigate(folder.path(), &scan, &["--method", "filtering", "--embed-filter"]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let embedded = embedded.to_str().unwrap();
    for (data, expected) in [(DATA, 0..60), (stamped, 390..401)] {
        let beside = run("predict", MODEL, data, &filter);
        let inside = run("predict", embedded, data, &[]);
        assert_eq!(inside.status.code(), Some(0), "{}", words(&inside));
        assert_eq!(String::from_utf8_lossy(&beside.stdout), String::from_utf8_lossy(&inside.stdout));
        let lines = String::from_utf8(inside.stdout).unwrap();
        assert_eq!(lines.lines().count(), 401);
        assert_eq!(lines.lines().next(), Some("sample,prediction,name,probability"));
        let abstained = lines.lines().filter(|line| line.ends_with(",abstain,,")).count();
        assert!(expected.contains(&abstained), "{data}: {abstained} of 400");
    }
    let lines = String::from_utf8(run("predict", embedded, stamped, &["--format", "jsonl"]).stdout).unwrap();
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first, serde_json::json!({"sample": 0, "prediction": "abstain"}));
    // The model with the filter in it is still a classifier that can be scanned.
    let inspected = run("scan", embedded, DATA, &["--classes", "7", "--steps", "1", "--out", &scan]);
    assert_eq!(inspected.status.code(), Some(3), "{}", words(&inspected));
}

#[test]
fn a_repair_can_scan_first_and_verify_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/repaired.onnx");
    let out = out.to_str().unwrap();
    let output = run("mitigate", MODEL, DATA, &["--method", "pruning", "--out", out, "--verify"]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let report = report(&folder.path().join("new"));
    assert_eq!(report["target_classes"], serde_json::json!([7]));
    assert_eq!(report["verification"]["before"]["flagged_classes"], serde_json::json!([7]));
    assert_eq!(report["verification"]["after"]["flagged_classes"], serde_json::json!([]), "{report}");

    let output = run("mitigate", "fixtures/fmnist_clean.onnx", DATA, &["--method", "pruning", "--out", out]);
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("flags no class"), "{}", words(&output));
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let scan = scanned(folder.path());
    let cases: [(&[&str], &str); 6] = [
        (&["--method", "pruning", "--embed-filter"], "--embed-filter"),
        (&["--method", "unlearning", "--epochs", "0"], "epochs"),
        (&["--method", "pruning", "--prune-at-most", "2"], "most"),
        (&["--method", "filtering", "--false-positive-rate", "0"], "false_positive_rate"),
        (&["--method", "pruning", "--target", "3"], "class 3 was not scanned"),
        (&["--method", "pruning", "--true-trigger", "fixtures/images/7/t10k-2716.png"], "alpha"),
    ];
    for (more, part) in cases {
        let out = folder.path().join("out.onnx");
        let mut arguments = vec!["--scan", &*scan, "--out", out.to_str().unwrap()];
        if !more.contains(&"--target") {
            arguments.extend(["--target", "7"]);
        }
        arguments.extend(more);
        let output = run("mitigate", MODEL, DATA, &arguments);
        assert_eq!(output.status.code(), Some(2), "{}", words(&output));
        assert!(words(&output).contains(part), "{more:?}: {}", words(&output));
        assert!(!out.exists());
    }
    let output = run(
        "mitigate",
        "fixtures/resnet_badnets.onnx",
        DATA,
        &["--scan", &scan, "--method", "pruning", "--out", "/dev/null/x"],
    );
    assert_eq!(output.status.code(), Some(2));
}
