//! Scans that are killed, interrupted, doubled or robbed of their folder.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A scan of the backdoored fixture into `out`, in the schedule that drops classes.
fn scan(out: &Path, more: &[&str]) -> Command {
    scan_of("fixtures/fmnist_badnets.onnx", out, more)
}

fn scan_of(model: &str, out: &Path, more: &[&str]) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(env!("CARGO_BIN_EXE_neural-cleanse"));
    command.args(["scan", model, "--data", "fixtures/fashion-mnist-400.npz"]);
    command.args(["--scale", "0.00392157", "--mean", "0.2860", "--std", "0.3530", "--engine", "rten"]);
    command.arg("--out").arg(out).args(more).current_dir(root).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// What a scan leaves behind: its report but for times, and the bytes of all triggers.
fn result(out: &Path) -> (Value, BTreeMap<PathBuf, Vec<u8>>) {
    let mut report: Value = serde_json::from_slice(&fs::read(out.join("scan.json")).unwrap()).unwrap();
    report.as_object_mut().unwrap().remove("seconds");
    let files = fs::read_dir(out.join("triggers")).unwrap().map(|entry| entry.unwrap().path());
    (report, files.map(|path| (path.file_name().unwrap().into(), fs::read(path).unwrap())).collect())
}

fn words(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn searches(out: &Path) -> usize {
    let entries = fs::read_dir(out.join("state")).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "search")).count()
}

/// Waits until `done`, which a scan that runs comes to sooner or later.
fn wait_until(child: &mut Child, done: impl Fn() -> bool) {
    while !done() {
        assert!(child.try_wait().unwrap().is_none(), "the scan ended too soon");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A scan that is under way and has kept a search, or a further one.
fn under_way(out: &Path, more: &[&str]) -> Child {
    let kept = searches(out);
    let mut child = scan(out, more).spawn().unwrap();
    wait_until(&mut child, || searches(out) > kept);
    child
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_scan_that_is_killed_at_any_moment_comes_to_the_same_in_the_end() {
    kill_at_any_moment(|out| scan(out, &[]), 1);
}

#[test]
fn a_scan_of_pairs_that_is_killed_at_any_moment_comes_to_the_same_in_the_end() {
    let few = ["--mode", "pairs", "--steps", "15", "--samples", "120", "--classes", "0,1,2,3,4"];
    kill_at_any_moment(|out| scan_of("fixtures/fmnist_source_specific.onnx", out, &few), 1);
}

/// `scan` ends with `status`. `NEURAL_CLEANSE_KILLS` is how often it is killed, 5 if it is not set.
fn kill_at_any_moment(scan: impl Fn(&Path) -> Command, status: i32) {
    let kills: u32 = std::env::var("NEURAL_CLEANSE_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (whole, out) = (folder.path().join("whole"), folder.path().join("out"));
    let started = Instant::now();
    assert_eq!(scan(&whole).status().unwrap().code(), Some(status));
    let (time, expected) = (started.elapsed(), result(&whole));

    let (mut killed, mut resumed, mut finished, mut state) = (0, 0, 0, 1u64);
    while killed < kills || finished == 0 {
        // Knuth's linear congruential generator: other moments each time, and the same in each run of the test.
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let moment = time.mul_f64((state >> 33) as f64 / (1u64 << 31) as f64);
        let kept = searches(&out);
        resumed += u32::from(kept > 0);
        let mut child = scan(&out).spawn().unwrap();
        if killed < kills {
            std::thread::sleep(moment);
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(words(&output).contains("going on from"), kept > 0 && words(&output).contains("searches"));
        match output.status.code() {
            None => {
                killed += 1;
                eprintln!(
                    "killed after {:.2} s, {kept} searches kept before, {} after",
                    moment.as_secs_f64(),
                    searches(&out)
                );
                assert!(searches(&out) >= kept || result(&out) == expected, "searches were lost");
            }
            Some(code) => {
                finished += 1;
                assert_eq!((code, searches(&out)), (status, 0), "{}", words(&output));
                let (report, triggers) = result(&out);
                assert_eq!(report, expected.0);
                assert!(triggers == expected.1, "other triggers: {:?}", triggers.keys());
                fs::remove_dir_all(&out).unwrap();
            }
        }
    }
    eprintln!(
        "{killed} kills, {resumed} scans went on from kept searches, {finished} came to their end, all with the same result"
    );
}

#[test]
fn an_interrupted_scan_says_how_to_go_on_and_does() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, out) = (folder.path().join("whole"), folder.path().join("out"));
    let status = scan(&whole, &["--steps", "30", "--exhaustive"]).status().unwrap();
    for (name, more) in [("INT", &["--steps", "30", "--exhaustive"]), ("TERM", &["--steps", "30", "--exhaustive"])] {
        let child = under_way(&out, more);
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", words(&output));
        assert!(words(&output).contains("the same command goes on from there"), "{}", words(&output));
        assert!(!out.join("scan.json").exists());
    }
    let kept = searches(&out);
    assert!(kept > 0);

    let other = scan(&out, &["--steps", "30", "--exhaustive", "--seed", "5"]).output().unwrap();
    assert_eq!(other.status.code(), Some(2));
    assert!(words(&other).contains("which was interrupted (other options)"), "{}", words(&other));
    assert_eq!(searches(&out), kept);

    let pairs = scan(&out, &["--steps", "30", "--exhaustive", "--mode", "pairs"]).output().unwrap();
    assert_eq!(pairs.status.code(), Some(2));
    assert!(words(&pairs).contains("which was interrupted (other mode)"), "{}", words(&pairs));
    assert_eq!(searches(&out), kept);

    let threads = scan(&out, &["--steps", "30", "--exhaustive", "--threads", "1"]).output().unwrap();
    assert_eq!(threads.status, status);
    assert!(words(&threads).contains(&format!("going on from {kept} search")), "{}", words(&threads));
    assert_eq!(result(&out), result(&whole));
    assert!(!out.join("state").exists());
}

#[test]
fn a_scan_that_takes_too_long_stops_and_can_go_on() {
    let folder = tempfile::tempdir().unwrap();
    for (option, what) in [("--max-seconds", "the scan takes"), ("--max-class-seconds", "takes longer than 0 s")] {
        let output = scan(folder.path(), &[option, "0"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let words = words(&output);
        assert!(
            words.contains(what) && words.contains(option) && words.contains("the same command begins anew"),
            "{words}"
        );
        assert!(!folder.path().join("scan.json").exists());
    }
    assert_eq!(scan(folder.path(), &[]).status().unwrap().code(), Some(1));
}

#[test]
fn restart_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = under_way(folder.path(), &[]);
    child.kill().unwrap();
    child.wait().unwrap();
    let output = scan(folder.path(), &["--seed", "5", "--restart", "--steps", "5"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", words(&output));
    assert!(!words(&output).contains("going on"), "{}", words(&output));
}

#[test]
fn what_a_killed_scan_was_writing_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("triggers")).unwrap();
    let unfinished = [".neural-cleanse-a1b2c3", "triggers/.neural-cleanse-d4e5f6"].map(|name| folder.path().join(name));
    unfinished.iter().for_each(|path| fs::write(path, "half").unwrap());
    assert_eq!(scan(folder.path(), &["--steps", "5"]).status().unwrap().code(), Some(3));
    assert!(unfinished.iter().all(|path| !path.exists()));
}

#[test]
fn two_scans_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = under_way(folder.path(), &[]);
    let second = scan(folder.path(), &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(2));
    assert!(words(&second).contains("belongs to a scan that is running"), "{}", words(&second));
    assert_eq!(first.wait().unwrap().code(), Some(1), "the first goes on undisturbed");
}

#[test]
fn a_folder_that_cannot_be_written_is_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let output = scan(&folder.path().join("file/out"), &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("cannot create") && words(&output).contains("file/out"), "{}", words(&output));

    let out = folder.path().join("vanishing");
    let child = under_way(&out, &[]);
    // Not removed, which fails where the scan writes a file meanwhile.
    fs::rename(&out, folder.path().join("elsewhere")).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("vanishing/state/class_"), "{}", words(&output));
    assert!(words(&output).lines().all(|line| !line.contains("panicked")));
}

#[test]
fn a_full_disk_leaves_the_good_files_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let mount = |options: &str| {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !mount("size=4m") {
        eprintln!("skipped: no small disk can be mounted");
        return;
    }
    let out = folder.path().join("out");
    assert_eq!(scan(&out, &["--steps", "5"]).status().unwrap().code(), Some(3));
    let good = result(&out);
    let room = fs::read(out.join("scan.json")).unwrap().len();
    let mut ballast = fs::File::create(folder.path().join("ballast")).unwrap();
    while std::io::Write::write_all(&mut ballast, &vec![1; room]).is_ok() {}
    drop(ballast);
    let output = scan(&out, &["--steps", "6"]).output().unwrap();
    let after = result(&out);
    assert!(Command::new("umount").arg(folder.path()).status().unwrap().success());
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("No space left"), "{}", words(&output));
    assert_eq!(words(&output).lines().filter(|line| line.starts_with("error: ")).count(), 1);
    assert_eq!(after, good);
}
