//! What a stable compiler can do of fuzzing: the corpus that the fuzzer has collected, and mutations of it, the same each time.

use std::fs::{self, File};
use std::io::Read;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use neural_cleanse_fuzz_targets as targets;
use peak_alloc::PeakAlloc;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tar::Archive;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// How many mutations each target is given.
const MUTATIONS: usize = 3000;

/// What a file may take of memory that is compressed a thousandfold, at the most: the seeds are small.
const SMALL: usize = 64 << 20;

/// What an image may take: 512 MiB when decoded, and as much when it is brought to grey. So may the constants that a gradient
/// needs.
const LARGE: usize = 1 << 30;

/// As the fuzzer has it: what takes longer hangs.
const LONGEST: Duration = Duration::from_secs(20);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files in these folders, in the order of their names.
fn seeds(folders: &[&str]) -> Vec<Vec<u8>> {
    let files = folders.iter().flat_map(|folder| fs::read_dir(root().join(folder)).expect(folder));
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.into_iter().map(|path| fs::read(path).expect("a seed")).collect();
    assert!(!seeds.is_empty(), "{folders:?} are empty");
    seeds
}

/// What the fuzzer has found to reach other code of `target` than the rest, in the order of the archive.
fn found(target: &str) -> Vec<Vec<u8>> {
    let archive = File::open(root().join("fuzz/corpus.tar.zst")).expect("the archive");
    let mut archive = Archive::new(zstd::Decoder::new(archive).expect("a compressed archive"));
    let folder = Path::new("corpus").join(target);
    let mut found = Vec::new();
    for entry in archive.entries().expect("the archive's entries") {
        let mut entry = entry.expect("an entry");
        if entry.header().entry_type().is_file() && entry.path().expect("a path").starts_with(&folder) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("a file");
            found.push(bytes);
        }
    }
    assert!(!found.is_empty(), "nothing for {target}");
    found
}

/// Gives `target`, which is called `name`, the files in `folders`, what the fuzzer has found, and mutations of them. It may not
/// panic, take more than `at_most` bytes of memory, or hang.
fn replay(name: &str, target: fn(&[u8]), folders: &[&str], at_most: usize) {
    // Memory is the process's: one test at a time.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut seeds = seeds(folders);
    seeds.extend(found(name));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut most, mut longest) = (0, Duration::ZERO);
    let mut give = |input: &[u8]| {
        MEMORY.reset_peak_usage();
        let (before, started) = (MEMORY.current_usage(), Instant::now());
        let outcome = catch_unwind(|| target(input));
        let (taken, time) = (MEMORY.peak_usage().saturating_sub(before), started.elapsed());
        if outcome.is_err() || taken > at_most || time > LONGEST {
            let kept = std::env::temp_dir().join(format!("neural-cleanse-{name}"));
            fs::write(&kept, input).expect("room for it");
            panic!("panic: {}, {taken} bytes, {time:?}: the input is in {}", outcome.is_err(), kept.display());
        }
        (most, longest) = (most.max(taken), longest.max(time));
    };
    seeds.iter().for_each(|seed| give(seed));
    for i in 0..MUTATIONS {
        let mut input = seeds[i % seeds.len()].clone();
        for _ in 0..rng.random_range(1..=4) {
            mutate(&mut input, &seeds, &mut rng);
        }
        give(&input);
    }
    eprintln!("{name}: {} seeds, {MUTATIONS} mutations, at most {most} bytes and {longest:?}", seeds.len());
}

/// Numbers at which sizes and offsets go wrong.
const EXTREMES: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut ChaCha8Rng) {
    if input.is_empty() {
        input.push(rng.random());
    }
    let at = rng.random_range(0..input.len());
    let end = rng.random_range(at..input.len().min(at + 64)) + 1;
    match rng.random_range(0..6) {
        0 => input[at] ^= 1 << rng.random_range(0..8),
        1 => input[at] = rng.random(),
        2 => {
            let number = EXTREMES.choose(rng).expect("one of them");
            let width = *[1, 2, 4, 8].choose(rng).expect("one of them");
            let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
            let bytes = if rng.random() { &little[..width] } else { &big[8 - width..] };
            input[at..].iter_mut().zip(bytes).for_each(|(byte, new)| *byte = *new);
        }
        3 => drop(input.drain(at..end)),
        4 => {
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        _ => {
            let other = seeds.choose(rng).expect("a seed");
            input.truncate(at);
            input.extend(&other[at.min(other.len())..]);
        }
    }
}

const MODELS: &str = "crates/onnx-grad/tests/data";

#[test]
fn models() {
    replay("model", targets::model, &["fuzz/seeds/model", MODELS], SMALL);
}

#[test]
fn gradients() {
    replay("gradient", targets::gradient, &["fuzz/seeds/gradient", MODELS], LARGE);
}

#[test]
fn samples() {
    replay("samples", targets::samples, &["fuzz/seeds/samples"], SMALL);
}

#[test]
fn images() {
    replay("image", targets::image, &["fuzz/seeds/image"], LARGE);
}

#[test]
fn cards() {
    replay("card", targets::card, &["fuzz/seeds/card"], SMALL);
}
