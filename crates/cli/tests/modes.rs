//! What is found in each mode, and what each asks for.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use neural_cleanse::data::{self, Wanted};
use neural_cleanse::engine::Rten;
use neural_cleanse::{Classifier, ClassifierOptions, CleanSet, Model, Preprocessing, Trigger};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// With the fastest engine that there is: what is found does not depend on it.
fn scan(model: &str, out: &Path, more: &[&str]) -> Output {
    let preprocessing = ["--scale", "0.00392157", "--mean", "0.2860", "--std", "0.3530"];
    Command::new(env!("CARGO_BIN_EXE_neural-cleanse"))
        .args(["scan", &format!("fixtures/{model}.onnx"), "--out"])
        .arg(out)
        .args(preprocessing)
        .args(more)
        .current_dir(root())
        .output()
        .unwrap()
}

fn report(out: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(out.join("scan.json")).unwrap()).unwrap()
}

const DATA: [&str; 2] = ["--data", "fixtures/fashion-mnist-400.npz"];

/// Its trigger sends images of class 8 to class 1, and leaves all others as they are.
#[test]
fn a_source_specific_backdoor_is_seen_by_its_pair_and_by_no_target() {
    let folder = tempfile::tempdir().unwrap();
    let output = scan("fmnist_source_specific", folder.path(), &[&DATA[..], &["--mode", "thorough"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains("attack: class 8 to 1"), "{printed}");

    let report = report(folder.path());
    assert_eq!(report["attacks"], json!([{"kind": "source_specific", "source": 8, "target": 1}]));
    assert_eq!(report["flagged_classes"], json!([1]));
    let evidence = report["evidence"].as_array().unwrap();
    let look = |method: &str| evidence.iter().find(|look| look["method"] == method).unwrap();
    assert_ne!(look("norm")["verdict"], "backdoored", "{evidence:?}");
    let pair = look("pair");
    assert_eq!((&pair["verdict"], &pair["source"], &pair["target"]), (&json!("backdoored"), &json!(8), &json!(1)));
    assert!(pair["figure"].as_f64().unwrap() < 0.4 && pair["further"].as_array().unwrap().len() == 2, "{pair}");
    let in_reason = |look: &&Value| report["reason"].as_str().unwrap().contains(look["words"].as_str().unwrap());
    assert!(evidence.iter().filter(|look| look["verdict"] != "clean").all(|look| in_reason(&look)));
    // Of what is no sign of a backdoor, pairs are not named where another is one.
    assert_eq!(evidence.iter().filter(|look| look["method"] == "pair").filter(in_reason).count(), 1, "{evidence:?}");
    assert_eq!(report["margins"]["margins"].as_array().unwrap().len(), 10);

    let pairs = report["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 90);
    let attacked: Vec<&Value> = pairs.iter().filter(|pair| pair["attacked"] == true).collect();
    assert_eq!(attacked.len(), 1);
    // Confined to a window, the patch is smaller.
    let share = attacked[0]["share"].as_f64();
    let confined: Vec<Option<f64>> = pair["confined"].as_array().unwrap().iter().map(Value::as_f64).collect();
    assert!(confined.len() == 4 && confined.iter().all(|confined| confined.is_some() && *confined < share), "{pair}");
    // It speaks for the target, as triggers do, and is no more than a few pixels.
    let figure = |name: &str| attacked[0][name].as_f64().unwrap();
    assert!(figure("aim") > 0.7 && figure("score_in_all") < 0.1, "{}", attacked[0]);
    // This model does not lean to the target on clean images; the trigger is enough.
    assert!(figure("margin_ratio") > 1.0 && figure("leaning") < 0.0, "{}", attacked[0]);
    assert!(pair["words"].as_str().is_some_and(|words| words.contains("times what is usual for the model")), "{pair}");
    let known = |name: &str| report["pair_calibration"][name].as_u64().unwrap();
    assert!(4 * known("source_specific_as_low") > known("source_specific") && known("clean_as_low") == 0);
    assert!(printed.contains("of models with a source-specific backdoor"), "{printed}");
    for (looks, many) in [("further_looks", 2), ("confined_looks", 4)] {
        assert_eq!(attacked[0][looks].as_array().unwrap().len(), many, "{looks}");
    }
    // The pairs with the lowest scores are looked at in a window before that; where a natural trigger does not fit in, it is no smaller.
    let in_window = |pair: &&Value| !pair["score_in_window"].is_null();
    assert_eq!(pairs.iter().filter(in_window).count(), 24);
    assert!(figure("score_in_window") < 0.1, "{}", attacked[0]);
    let others = pairs.iter().filter(|pair| pair["attacked"] == false).filter(in_window);
    assert!(others.filter(|pair| pair["score_in_window"].as_f64().unwrap() >= 0.8).count() > 12);
    assert!(attacked[0]["attack_success_rate"].as_f64().unwrap() > 0.5, "{}", attacked[0]);

    // The reversed mask is dense where the true patch is, rows and columns 2 to 5, and thin elsewhere.
    let mask = Trigger::read_npz(&folder.path().join("triggers/pair_008_001.npz")).unwrap().mask;
    let inside: f32 = mask.slice(ndarray::s![0, 2..6, 2..6]).sum();
    let outside = mask.sum() - inside;
    assert!(inside / 16.0 > 8.0 * outside / (784.0 - 16.0), "{inside} on the patch, {outside} elsewhere");
    assert!(folder.path().join("triggers/pair_008_001.png").exists());
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("class 8 to 1") && page.contains("How the verdict came about"));
}

/// Its patch sends images of every class to one, and is as small where each may change no more than the place of it.
#[test]
fn an_attack_on_all_classes_is_seen_by_the_pairs_of_its_target_in_one_place() {
    let folder = tempfile::tempdir().unwrap();
    let output = scan("fmnist_badnets", folder.path(), &[&DATA[..], &["--mode", "pairs"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report = report(folder.path());
    assert_eq!(report["attacks"], json!([{"kind": "all_to_one", "target": 7}]));
    let column = report["evidence"].as_array().unwrap().iter().find(|look| look["method"] == "column").unwrap();
    let confined: Vec<Option<f64>> = column["confined"].as_array().unwrap().iter().map(Value::as_f64).collect();
    assert_eq!((&column["target"], confined.len()), (&json!(7), 9));
    let small = |confined: &&Option<f64>| confined.is_some_and(|share| share < column["figure"].as_f64().unwrap());
    assert!(confined.iter().filter(small).count() > 4, "{column}");
    assert!(column["words"].as_str().unwrap().contains("confined to a fifth of each side"), "{column}");
}

#[test]
fn what_a_search_of_pairs_finds_is_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let (found, repaired) = (folder.path().join("scan"), folder.path().join("repaired.onnx"));
    let output = scan("fmnist_source_specific", &found, &[&DATA[..], &["--mode", "pairs"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!found.join("triggers/class_001.npz").exists(), "the pair's trigger is the only one");
    let output = Command::new(env!("CARGO_BIN_EXE_neural-cleanse"))
        .args(["mitigate", "fixtures/fmnist_source_specific.onnx", "--engine", "rten", "--method", "unlearning"])
        .args(["--scale", "0.00392157", "--mean", "0.2860", "--std", "0.3530"])
        .args(DATA)
        .args(["--scan", found.to_str().unwrap(), "--out", repaired.to_str().unwrap()])
        .current_dir(root())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));

    let success = |model: &Path| {
        let preprocessing = Preprocessing { scale: 1.0 / 255.0, mean: vec![0.286], std: vec![0.353] };
        let options = ClassifierOptions { preprocessing, ..ClassifierOptions::default() };
        let classifier = Classifier::new(Model::read(model).unwrap(), options, Arc::new(Rten), 1).unwrap();
        let samples = data::load(&root().join(DATA[1]), None, &Wanted::new(1, 28, 28)).unwrap();
        let samples = CleanSet::new(&classifier, samples).unwrap();
        let trigger = Trigger::read_npz(&root().join("fixtures/triggers/fmnist_source_specific.npz")).unwrap();
        samples.success_rate_from(&classifier, &trigger, Some(8), 1).unwrap()
    };
    assert!(success(&root().join("fixtures/fmnist_source_specific.onnx")) > 0.9);
    let left = success(&repaired);
    assert!(left < 0.1, "{left} of class 8 still go to class 1");
}

#[test]
fn margins_need_no_samples() {
    let folder = tempfile::tempdir().unwrap();
    let output = scan("resnet_badnets", folder.path(), &[]);
    let warning = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(warning.contains("no clean samples") && warning.contains("margin"), "{warning}");
    let found = report(folder.path());
    assert_eq!((output.status.code(), &found["mode"]), (Some(1), &json!("margin")), "{}", found["reason"]);
    assert_eq!((&found["attacks"], &found["flagged_classes"]), (&json!([{"kind": "unknown"}]), &json!([3])));
    assert!(found["margins"]["p_value"].as_f64().unwrap() < 1e-4);
    assert_eq!(found["samples"]["working"], 0);

    let output = scan("resnet_clean", folder.path(), &["--mode", "margin"]);
    assert_eq!(output.status.code(), Some(0), "{}", report(folder.path())["reason"]);
}

#[test]
fn a_mode_that_needs_samples_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for mode in ["targets", "pairs", "thorough"] {
        let output = scan("fmnist_clean", folder.path(), &["--mode", mode]);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(words.contains("--data"), "{words}");
    }
}
