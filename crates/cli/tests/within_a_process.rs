//! The command within another program, which runs it more than once.

use std::ffi::OsString;
use std::path::PathBuf;

use neural_cleanse_cli::{Invocation, run};

fn status(arguments: &[&str]) -> u8 {
    let arguments = arguments.iter().map(OsString::from).collect();
    run(&Invocation::new(vec!["unused".into()], arguments))
}

#[test]
fn a_process_can_run_the_command_again_whatever_it_ran_before() {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let file = |name: &str| fixtures.join(name).to_str().unwrap().to_owned();
    let (model, data) = (file("fmnist_badnets.onnx"), file("fashion-mnist-400.npz"));
    let out = tempfile::tempdir().unwrap();
    let out = out.path().to_str().unwrap();
    let scan = ["scan", &model, "--data", &data, "--scale", "0.00392157", "--mean", "0.2860", "--std", "0.3530"];
    let short = ["--classes", "7", "--steps", "1", "--samples", "40", "--out", out, "--engine", "rten"];
    let scan: Vec<&str> = scan.into_iter().chain(short).collect();
    for _ in 0..2 {
        assert_eq!(status(&scan), 3, "too few classes for a verdict");
        assert_eq!(status(&["scan", "missing.onnx", "--data", &data]), 2);
        assert_eq!(status(&["scan", "--log-format", "json", "--no-such-option"]), 2);
        assert_eq!(status(&["scan-all", out, "--", "--no-such-option"]), 2);
        assert_eq!(status(&["--version"]), 0);
    }
}
