//! The command on the fixtures: verdicts, files, exit status, and words for what is wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn command(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_neural-cleanse"))
        .args(arguments)
        .current_dir(root())
        .env_remove("ORT_DYLIB_PATH")
        .output()
        .unwrap()
}

const PREPROCESSING: [&str; 6] = ["--scale", "0.00392157", "--mean", "0.2860", "--std", "0.3530"];

/// Scans a fixture with the embedded engine; gives the exit status and `scan.json`.
fn scan(model: &str, out: &Path, more: &[&str]) -> (i32, Value) {
    let out = out.to_str().unwrap();
    let model = format!("fixtures/{model}.onnx");
    let mut arguments = vec!["scan", &model, "--data", "fixtures/fashion-mnist-400.npz", "--out", out];
    arguments.extend(["--engine", "rten"]);
    arguments.extend(PREPROCESSING);
    arguments.extend(more);
    let output = command(&arguments);
    let status = output.status.code().unwrap();
    assert!(status != 2, "{}", String::from_utf8_lossy(&output.stderr));
    (status, report(Path::new(out)))
}

fn report(out: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(out.join("scan.json")).unwrap()).unwrap()
}

/// How many further looks a class of a report was given, at the whole image and confined.
fn looks(class: &Value) -> [usize; 2] {
    ["further_looks", "confined_looks"].map(|looks| class[looks].as_array().unwrap().len())
}

/// What the command says on standard error where it fails.
fn complaint(arguments: &[&str]) -> String {
    let output = command(arguments);
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{words}");
    words
}

#[test]
fn a_backdoored_model_is_found_with_its_target_and_trigger() {
    let folder = tempfile::tempdir().unwrap();
    let (status, report) = scan("fmnist_badnets", folder.path(), &[]);
    assert_eq!(status, 1);
    assert_eq!(report["verdict"], "backdoored");
    assert_eq!(report["flagged_classes"], serde_json::json!([7]));
    assert_eq!(report["schema_version"], 2);
    assert_eq!(report["engine"]["name"], "rten");
    let classes = report["classes"].as_array().unwrap();
    let spent: u64 = classes.iter().map(|class| class["gradient_samples"].as_u64().unwrap()).sum();
    // Three classes that are not suspicious are looked at once more, for what is usual in a window.
    let again = classes.iter().flat_map(looks).sum::<usize>() + 3;
    assert_eq!((report["gradient_samples"].as_u64(), classes.len()), (Some(spent + 60 * 16 * again as u64), 10));
    let usual = |size: &str| report[size].as_f64().unwrap();
    assert!(usual("usual_confined_size") < usual("usual_size"), "they are smaller there");
    assert!(spent <= 10 * 60 * 16, "{spent}");
    assert_eq!(report["model"]["input"], serde_json::json!([1, 28, 28]));
    assert_eq!(report["model"]["sha256"].as_str().unwrap().len(), 64);
    assert!(report["clean_accuracy"].as_f64().unwrap() > 0.85);
    let class = &report["classes"][7];
    assert_eq!(class["target_class"], 7);
    assert!(class["attack_success_rate"].as_f64().unwrap() > 0.9, "{class}");
    assert!(class["norm_l1"].as_f64().unwrap() < 40.0, "{class}");

    // The reversed mask is dense where the true patch is, rows and columns 23 to 26, and thin elsewhere.
    let mask = neural_cleanse::Trigger::read_npz(&folder.path().join("triggers/class_007.npz")).unwrap().mask;
    let inside: f32 = mask.slice(ndarray::s![0, 23..27, 23..27]).sum();
    let outside = mask.sum() - inside;
    assert!(inside / 16.0 > 8.0 * outside / (784.0 - 16.0), "{inside} on the patch, {outside} elsewhere");
    for (class, report) in classes.iter().enumerate() {
        let picture = std::fs::read(folder.path().join(format!("triggers/class_{class:03}.png")));
        match report["state"].as_str() {
            Some("finished") => assert!(picture.unwrap().starts_with(b"\x89PNG")),
            Some("dropped") => assert!(picture.is_err() && report["steps"].as_u64().unwrap() < 60, "{report}"),
            _ => panic!("{report}"),
        }
    }
}

#[test]
fn an_exhaustive_scan_takes_every_class_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (_, report) = scan("fmnist_badnets", folder.path(), &["--exhaustive"]);
    for class in report["classes"].as_array().unwrap() {
        assert_eq!(
            (&class["state"], &class["steps"], &class["gradient_samples"]),
            (&"finished".into(), &60.into(), &960.into())
        );
    }
    let (_, report) = scan("fmnist_badnets", folder.path(), &["--preset", "seed", "--steps", "2"]);
    let finished = |class: &Value| class["state"] == "finished" && class["steps"] == 2;
    assert!(report["classes"].as_array().unwrap().iter().all(finished), "the seed's schedule drops nothing");
}

#[test]
fn a_trigger_that_is_added_is_found_and_filtered() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("scan");
    let (status, report) = scan("fmnist_badnets", &out, &["--trigger", "additive"]);
    assert_eq!((status, &report["flagged_classes"]), (1, &serde_json::json!([7])), "{}", report["reason"]);
    assert_eq!(report["parameters"]["trigger"], "additive");
    assert!(report["calibration"].is_null(), "the zoo's scans had another kind of trigger");
    assert!(report["classes"][7]["attack_success_rate"].as_f64().unwrap() > 0.9);

    let trigger = neural_cleanse::Trigger::read_npz(&out.join("triggers/class_007.npz")).unwrap();
    assert_eq!(trigger.stamp, neural_cleanse::Stamp::Add { low: 0.0, high: 255.0 });
    assert!(
        trigger.pattern.iter().any(|&change| change < -20.0) && trigger.pattern.iter().any(|&change| change > 20.0)
    );

    let (out, repaired) = (out.to_str().unwrap(), folder.path().join("repaired.onnx"));
    let mut arguments = vec!["mitigate", "fixtures/fmnist_badnets.onnx", "--data", "fixtures/fashion-mnist-400.npz"];
    arguments.extend(["--scan", out, "--method", "filtering", "--engine", "rten", "--out", repaired.to_str().unwrap()]);
    arguments.extend(PREPROCESSING);
    let output = command(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let repair: Value = serde_json::from_slice(&std::fs::read(folder.path().join("mitigation.json")).unwrap()).unwrap();
    assert!(repair["outcomes"][0]["after"]["false_negative_rate"].as_f64().unwrap() < 0.2, "{repair}");
}

#[test]
fn regularisers_shape_the_trigger_and_blocking_costs_as_much_again() {
    let folder = tempfile::tempdir().unwrap();
    let of_bags = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let (_, report) = scan("fmnist_badnets", &out, &[&["--classes", "7"], more].concat());
        let mask = neural_cleanse::Trigger::read_npz(&out.join("triggers/class_007.npz")).unwrap().mask;
        let differences = |axis| {
            mask.axis_windows(ndarray::Axis(axis), 2)
                .into_iter()
                .map(|pair| {
                    let (a, b) = (pair.index_axis(ndarray::Axis(axis), 0), pair.index_axis(ndarray::Axis(axis), 1));
                    (&a - &b).mapv(|d| d * d).sum()
                })
                .sum::<f32>()
        };
        (report["gradient_samples"].as_u64().unwrap(), (differences(1) + differences(2)) / mask.mapv(|m| m * m).sum())
    };
    let (usual, usual_roughness) = of_bags("usual", &[]);
    let (regularised, roughness) = of_bags("scattered", &["--scattered", "1"]);
    assert_eq!(regularised, usual);
    assert!(roughness < 0.8 * usual_roughness, "{roughness} and {usual_roughness}");
    let (blocking, _) = of_bags("blocking", &["--blocking", "0.5"]);
    assert_eq!(blocking, 2 * usual);
    let words = complaint(&[
        "scan",
        "fixtures/fmnist_badnets.onnx",
        "--data",
        "fixtures/fashion-mnist-400.npz",
        "--trigger",
        "additive",
        "--scattered",
        "1",
    ]);
    assert!(words.contains("scattered") && words.contains("additive"), "{words}");
}

#[test]
fn a_clean_model_is_not_flagged() {
    let folder = tempfile::tempdir().unwrap();
    let (status, report) = scan("fmnist_clean", folder.path(), &[]);
    assert_eq!((status, &report["verdict"]), (0, &Value::from("clean")), "{}", report["reason"]);
    assert_eq!(report["flagged_classes"], serde_json::json!([]));
    assert!(report["anomaly_index"].is_number() && report["ratio"].is_number());
}

/// Classes of this model have naturally small triggers: they are looked at again, and not flagged.
#[test]
fn a_clean_model_with_small_natural_triggers_is_not_flagged_either() {
    let folder = tempfile::tempdir().unwrap();
    let (status, report) = scan("resnet_clean", folder.path(), &[]);
    assert_eq!(report["flagged_classes"], serde_json::json!([]), "{}", report["reason"]);
    assert_ne!(status, 1);
    let classes = report["classes"].as_array().unwrap();
    for class in classes {
        let suspicious = class["ratio"].as_f64().is_some_and(|ratio| ratio < 0.85);
        assert_eq!(looks(class), if suspicious { [2, 2] } else { [0, 0] }, "{class}");
    }
    assert!(classes.iter().any(|class| looks(class) == [2, 2]));
}

/// The patch fits into a window, in which there is less to find beside it.
#[test]
fn a_patch_is_smaller_where_the_search_is_confined() {
    let folder = tempfile::tempdir().unwrap();
    let (_, report) = scan("fmnist_badnets", folder.path(), &[]);
    let class = &report["classes"].as_array().unwrap()[7];
    let norms = |looks: &str| -> Vec<f64> { serde_json::from_value(class[looks].clone()).unwrap() };
    let whole = [norms("further_looks"), vec![class["norm_l1"].as_f64().unwrap()]].concat();
    assert!(norms("confined_looks").iter().all(|confined| whole.iter().all(|norm| confined < norm)), "{class}");
    assert_eq!(report["score"], class["score"]);
}

/// What reaches the target of a backdoor is learned for the trigger, and no part of the images of that class.
#[test]
fn the_layers_of_a_model_see_something_foreign_in_the_trigger_of_a_backdoor() {
    let folder = tempfile::tempdir().unwrap();
    let (_, report) = scan("fmnist_badnets", folder.path(), &[]);
    let of_class = |class: &Value| class["foreignness"].as_f64();
    let classes = report["classes"].as_array().unwrap();
    let target = of_class(&classes[7]).unwrap();
    assert!(target > 1.5 && classes.iter().filter_map(of_class).all(|other| other <= target), "{classes:?}");
    let reason = report["reason"].as_str().unwrap();
    assert!(reason.contains(&format!("{target:.2} times as foreign to the class as is usual")), "{reason}");
    let (_, report) = scan("fmnist_badnets", &folder.path().join("1"), &["--norm", "1"]);
    assert!(report["classes"].as_array().unwrap().iter().all(|class| class["foreignness"].is_null()));
}

#[test]
fn a_model_that_ends_in_softmax_and_has_batch_normalization_is_scanned_alike() {
    let folder = tempfile::tempdir().unwrap();
    let (status, report) = scan("resnet_badnets", folder.path(), &["--norm", "1"]);
    assert_eq!((status, &report["flagged_classes"]), (1, &serde_json::json!([3])), "{}", report["reason"]);
}

#[test]
fn the_papers_rule_and_the_maximum_norm_can_be_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let (status, report) = scan("fmnist_badnets", folder.path(), &["--rule", "mad", "--norm", "inf", "--steps", "20"]);
    assert_ne!(status, 0, "norm inf does not see patches and calls nothing clean");
    assert_eq!(report["rule"], serde_json::json!({"name": "mad", "threshold": 2.0}));
    assert_eq!(report["parameters"]["norm"], "inf");
    assert_eq!(report["parameters"]["steps"], 20);
}

#[test]
fn every_parameter_can_be_set_and_overrides_the_preset() {
    let folder = tempfile::tempdir().unwrap();
    let parameters = |more: &[&str]| {
        let (_, report) = scan("fmnist_badnets", folder.path(), &[&["--classes", "7", "--steps", "2"], more].concat());
        report["parameters"].clone()
    };
    let fast = parameters(&[]);
    assert_eq!(
        (&fast["batches_per_step"], &fast["early_stop"], &fast["patience"]),
        (&1.into(), &false.into(), &3.into())
    );
    let seed = parameters(&["--preset", "seed"]);
    assert_eq!(
        (&seed["batches_per_step"], &seed["early_stop"], &seed["patience"]),
        (&Value::Null, &true.into(), &5.into())
    );
    assert_eq!(parameters(&["--preset", "seed", "--no-early-stop"])["early_stop"], false);
    let options: [(&str, &str, Value); 12] = [
        ("--init-cost", "init_cost", 0.25.into()),
        ("--learning-rate", "learning_rate", 0.5.into()),
        ("--attack-success-threshold", "attack_success_threshold", 0.75.into()),
        ("--patience", "patience", 9.into()),
        ("--early-stop-threshold", "early_stop_threshold", 0.5.into()),
        ("--early-stop-patience", "early_stop_patience", 4.into()),
        ("--cost-multiplier", "cost_multiplier", 2.5.into()),
        ("--batch-size", "batch_size", 16.into()),
        ("--batches-per-step", "batches_per_step", 2.into()),
        ("--classes-per-batch", "classes_per_batch", 3.into()),
        ("--initial-mask", "initial_mask", 0.25.into()),
        ("--seed", "seed", 5.into()),
    ];
    let values: Vec<String> = options.iter().map(|(_, _, value)| value.to_string()).collect();
    let mut arguments = vec!["--early-stop", "--mask-per-channel"];
    for ((option, ..), value) in options.iter().zip(&values) {
        arguments.extend([*option, value.as_str()]);
    }
    let set = parameters(&arguments);
    for (option, field, value) in &options {
        assert_eq!(&set[*field], value, "{option}");
    }
    assert_eq!((&set["early_stop"], &set["mask_per_channel"]), (&true.into(), &true.into()));
    assert_eq!(parameters(&["--classes-per-batch", "auto"])["classes_per_batch"], 1, "on a processor");
}

#[test]
fn one_seed_gives_one_result_whatever_the_threads_and_the_other_classes() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let mut options = vec!["--steps", "15"];
        options.extend(more);
        let (_, mut report) = scan("resnet_badnets", &out, &options);
        report.as_object_mut().unwrap().remove("seconds");
        (report, std::fs::read(out.join("triggers/class_005.npz")).unwrap())
    };
    let (one, trigger_of_one) = run("one", &["--threads", "1"]);
    let (two, trigger_of_two) = run("two", &["--threads", "2"]);
    assert_eq!(one, two);
    assert_eq!(trigger_of_one, trigger_of_two);
    let (alone, trigger_alone) = run("alone", &["--threads", "2", "--classes", "5"]);
    assert_eq!(trigger_alone, trigger_of_one);
    for figure in ["norm_l1", "attack_success_rate", "steps", "converged"] {
        assert_eq!(alone["classes"][0][figure], one["classes"][5][figure], "{figure}");
    }
    assert_eq!(alone["verdict"], "inconclusive");
    let (other, _) = run("other", &["--seed", "1"]);
    assert_ne!(other["classes"], one["classes"]);
}

#[test]
fn a_search_in_bfloat16_comes_to_the_same_verdicts() {
    for (model, flagged) in [("fmnist_badnets", &[7][..]), ("resnet_badnets", &[3]), ("fmnist_clean", &[])] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().to_str().unwrap();
        let path = format!("fixtures/{model}.onnx");
        let mut arguments = vec!["scan", &path, "--data", "fixtures/fashion-mnist-400.npz", "--out", out];
        arguments.extend(PREPROCESSING);
        arguments.extend(["--engine", "openvino", "--precision", "bf16"]);
        let output = command(&arguments);
        let words = String::from_utf8(output.stderr).unwrap();
        if words.contains("no OpenVINO library was found") || words.contains("has no instructions for bfloat16") {
            eprintln!("skipped: {words}");
            return;
        }
        assert_eq!(output.status.code(), Some(if flagged.is_empty() { 0 } else { 1 }), "{model}: {words}");
        let report = report(folder.path());
        assert_eq!(report["engine"]["precision"], "bf16");
        assert_eq!(report["flagged_classes"], serde_json::json!(flagged), "{model}");
    }
}

#[test]
fn a_precision_that_the_engine_lacks_is_refused() {
    let words = complaint(&[
        "scan",
        "fixtures/fmnist_clean.onnx",
        "--data",
        "fixtures/fashion-mnist-400.npz",
        "--engine",
        "rten",
        "--precision",
        "bf16",
    ]);
    assert!(words.contains("rten cannot compute in bf16: only openvino can"), "{words}");
}

#[test]
fn a_folder_of_images_serves_as_samples() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let mut arguments = vec!["scan", "fixtures/fmnist_badnets.onnx", "--data", "fixtures/images", "--out", out];
    arguments.extend(PREPROCESSING);
    arguments.extend(["--engine", "rten", "--steps", "5", "--json"]);
    let output = command(&arguments);
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed, report(folder.path()));
    assert_eq!(printed["samples"], serde_json::json!({"working": 20, "held_out": 0, "labelled": true}));
    assert_eq!(output.status.code(), Some(3), "five steps find no trigger");
}

#[test]
fn what_lies_beside_a_model_tells_preprocessing_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    std::fs::copy(root().join("fixtures/fmnist_clean.onnx"), &model).unwrap();
    let config = r#"{"rescale_factor": 0.00392157, "image_mean": [0.2860], "image_std": [0.3530]}"#;
    std::fs::write(folder.path().join("preprocessor_config.json"), config).unwrap();
    let names: Vec<String> = (0..10).map(|class| format!("\"{class}\": \"kind {class}\"")).collect();
    std::fs::write(folder.path().join("config.json"), format!("{{\"id2label\": {{{}}}}}", names.join(","))).unwrap();
    let (model, out) = (model.to_str().unwrap(), folder.path().join("out"));
    let data = "fixtures/fashion-mnist-400.npz";
    let mut arguments = vec!["scan", model, "--data", data, "--out", out.to_str().unwrap(), "--engine", "rten"];
    arguments.extend(["--steps", "1", "--classes", "3"]);
    command(&arguments);
    let report = report(&out);
    assert!(report["clean_accuracy"].as_f64().unwrap() > 0.85);
    assert_eq!(report["classes"][0]["name"], "kind 3");
}

#[test]
fn inspect_says_what_a_model_is_and_whether_it_can_be_scanned() {
    let output = command(&["inspect", "fixtures/resnet_clean.onnx", "--engine", "rten"]);
    let words = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for part in ["input: float32[batch, 1, 28, 28]", "BatchNormalization ×9", "classes:  10", "can be scanned: yes"] {
        assert!(words.contains(part), "{part} is not in {words}");
    }
    let output = command(&["inspect", "crates/neural-cleanse/tests/models/arithmetic.onnx", "--engine", "rten"]);
    let words = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("can be scanned: no, "), "{words}");
}

#[test]
fn wrong_preprocessing_is_noticed_before_the_scan() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let wrong = ["--scale", "-1", "--mean", "0", "--std", "1", "--steps", "1", "--engine", "rten"];
    let mut arguments =
        vec!["scan", "fixtures/fmnist_clean.onnx", "--data", "fixtures/fashion-mnist-400.npz", "--out", out];
    arguments.extend(wrong);
    let words = complaint(&arguments);
    assert!(words.contains("near the 10.0 % of chance") && words.contains("--force"), "{words}");
    assert!(!folder.path().join("scan.json").exists());
    arguments.push("--force");
    assert_ne!(command(&arguments).status.code(), Some(2));
}

#[test]
fn what_is_wrong_is_said_in_one_sentence_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let garbage = folder.path().join("garbage.onnx");
    std::fs::write(&garbage, b"not a model").unwrap();
    let (out, garbage) = (out.to_str().unwrap(), garbage.to_str().unwrap());
    let model = "fixtures/fmnist_clean.onnx";
    let data = "fixtures/fashion-mnist-400.npz";
    let cases: [(&[&str], &str); 11] = [
        (&["scan", "absent.onnx", "--data", data], "absent.onnx"),
        (&["scan", garbage, "--data", data], "garbage.onnx"),
        (&["scan", model, "--data", "absent.npz"], "absent.npz"),
        (&["scan", model, "--data", data, "--mean", "1,2,3"], "mean has 3 numbers"),
        (&["scan", model, "--data", data, "--patience", "0"], "patience"),
        (&["scan", model, "--data", data, "--classes", "10"], "class 10"),
        (&["scan", model, "--data", data, "--norm", "3"], "1, 2 or inf"),
        (&["scan", model, "--data", data, "--threshold", "-1"], "--threshold"),
        (&["scan", model, "--data", data, "--data-range", "5"], "two numbers"),
        (&["scan", model, "--data", data, "--samples", "0"], "no samples"),
        (&["scan", model, "--data", data, "--threads", "0"], "--threads"),
    ];
    for (arguments, part) in cases {
        let words = complaint(&[arguments, &["--out", out]].concat());
        assert!(words.contains(part), "{arguments:?}: {words}");
        assert!(!words.contains("panicked"), "{arguments:?}: {words}");
    }
}

/// Models that other people trained, where they are at hand.
#[test]
fn third_party_models_have_their_verdict() {
    let shared = root().join("../shared");
    if !shared.join("zoo/manifest.json").exists() {
        eprintln!("skipped: no third-party models in {}", shared.display());
        return;
    }
    let data = shared.join("data/mnist-t10k-images-idx3-ubyte.gz");
    let folder = tempfile::tempdir().unwrap();
    let manifest: Value = serde_json::from_slice(&std::fs::read(shared.join("zoo/manifest.json")).unwrap()).unwrap();
    let wanted =
        ["verazuo_mnist_t1.onnx", "verazuo_hist_5f33de.onnx", "ccexam_mnist_clean.onnx", "digitrec_mnist_clean.onnx"];
    for entry in manifest.as_array().unwrap().iter().filter(|entry| wanted.contains(&entry["file"].as_str().unwrap())) {
        let file = entry["file"].as_str().unwrap();
        let model = shared.join("zoo").join(file);
        let [scale, mean, std] = ["pixel_scale", "mean", "std"].map(|name| entry[name].to_string());
        let output = command(&[
            "scan",
            model.to_str().unwrap(),
            "--data",
            data.to_str().unwrap(),
            "--out",
            folder.path().to_str().unwrap(),
            "--scale",
            &scale,
            "--mean",
            &mean,
            "--std",
            &std,
            "--engine",
            "rten",
        ]);
        let report = report(folder.path());
        let target = entry["target"].as_u64();
        assert_eq!(output.status.code(), Some(if target.is_some() { 1 } else { 0 }), "{file}: {}", report["reason"]);
        assert_eq!(report["flagged_classes"], serde_json::json!(target.into_iter().collect::<Vec<_>>()), "{file}");
    }
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    for arguments in [&["schema"][..], &["inspect", "fixtures/fmnist_badnets.onnx"]] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut command = Command::new(env!("CARGO_BIN_EXE_neural-cleanse"));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.args(arguments).current_dir(root).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}
