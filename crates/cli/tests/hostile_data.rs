//! Samples that are damaged, malformed or made to do harm: each is refused in one sentence, within bounds of time and memory.
#![cfg(unix)]

mod bounds;

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use bounds::{root, run, scan_complains};
use ndarray::{Array1, Array4};
use ndarray_npy::{NpzWriter, WritableElement, WriteNpyExt};

/// A way to lay out samples in a folder, as `data` or in it, and words that the message about them has.
struct Case<'a> {
    name: &'static str,
    arrange: Box<dyn Fn(&Path) + 'a>,
    words: &'static str,
}

fn case<'a>(name: &'static str, arrange: impl Fn(&Path) + 'a, words: &'static str) -> Case<'a> {
    Case { name, arrange: Box::new(arrange), words }
}

/// A case of one file.
fn file<'a>(name: &'static str, bytes: impl Into<Vec<u8>>, words: &'static str) -> Case<'a> {
    let bytes = bytes.into();
    case(name, move |data| fs::write(data, &bytes).unwrap(), words)
}

/// A case of a folder with one image file in it.
fn image<'a>(name: &'static str, bytes: impl Into<Vec<u8>>, words: &'static str) -> Case<'a> {
    let bytes = bytes.into();
    let arrange = move |data: &Path| {
        fs::create_dir(data).unwrap();
        fs::write(data.join("image.png"), &bytes).unwrap();
    };
    case(name, arrange, words)
}

/// Scans a sound model with each of the samples and reports all that did not end as they should.
fn check(cases: Vec<Case>, more: &[&str]) {
    let model = root().join("fixtures/fmnist_clean.onnx").canonicalize().unwrap();
    let mut failures = Vec::new();
    for Case { name, arrange, words } in cases {
        let folder = tempfile::tempdir().unwrap();
        arrange(&folder.path().join("data"));
        if let Err(failure) = scan_complains(folder.path(), model.to_str().unwrap(), "data", more, words) {
            failures.push(format!("{name}: {failure}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn npz<T: WritableElement>(x: &Array4<T>, y: Option<&Array1<i64>>) -> Vec<u8> {
    let mut writer = NpzWriter::new_compressed(Cursor::new(Vec::new()));
    writer.add_array("x", x).unwrap();
    if let Some(y) = y {
        writer.add_array("y", y).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn npy<T: WritableElement>(x: &Array4<T>) -> Vec<u8> {
    let mut bytes = Vec::new();
    x.write_npy(&mut bytes).unwrap();
    bytes
}

/// The header of an array of bytes, of this shape, without the bytes.
fn npy_header(shape: &str) -> Vec<u8> {
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape})}}\n");
    [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat()
}

fn idx(sizes: [u32; 3], bytes: usize) -> Vec<u8> {
    let sizes: Vec<u8> = sizes.iter().flat_map(|size| size.to_be_bytes()).collect();
    [&[0, 0, 8, 3], &sizes[..], &vec![0; bytes]].concat()
}

fn images(count: usize) -> Array4<u8> {
    Array4::from_shape_fn((count, 1, 28, 28), |(n, _, i, j)| (n * 31 + i * j) as u8)
}

#[test]
fn arrays_are_checked() {
    let whole = npz(&images(40), Some(&Array1::from_shape_fn(40, |i| i as i64 % 10)));
    let labelled = |label: i64| npz(&images(40), Some(&Array1::from_elem(40, label)));
    let mut not_finite = images(40).mapv(f32::from);
    not_finite[[7, 0, 3, 3]] = f32::NAN;
    let cases = vec![
        file("empty", [], "is neither a folder of images"),
        file("text", *b"hello", "is neither a folder of images"),
        file("a truncated archive", &whole[..whole.len() / 2], "data: "),
        file("labels out of range", labelled(99), "label 99 is not one of the model's 10 classes"),
        file("negative labels", labelled(-3), "label 0 is -3, which is not the number of a class"),
        file("all of one class", labelled(3), "all samples are of class 3"),
        file("fewer labels than images", npz(&images(40), Some(&Array1::zeros(7))), "only 7 for 40 images"),
        file("NaN pixels", npy(&not_finite), "image 7 has a value that is not a finite number"),
        file("three channels for one", npy(&Array4::<u8>::zeros((40, 3, 28, 28))), "the model takes [N, 1, 28, 28]"),
        file("another size", npy(&Array4::<u8>::zeros((40, 1, 32, 32))), "the model takes [N, 1, 28, 28]"),
        file("no images", npy(&Array4::<u8>::zeros((0, 1, 28, 28))), "no images"),
        file("16 GiB that are not there", npy_header("22369621, 1, 28, 28"), "is larger than the limit"),
        file("8 GiB as floats", npy_header("2739136, 1, 28, 28"), "is larger than the limit"),
        file("half a GiB that is not there", npy_header("600000, 1, 28, 28"), "and 0 follow"),
        file("more than can be counted", npy_header("18446744073709551615, 1, 28, 28"), "data"),
        file("IDX of 4 GiB that are not there", idx([u32::MAX, 28, 28], 9), "is larger than the limit"),
        file("truncated IDX", idx([40, 28, 28], 9), "announces 31360 bytes of data, and 9 follow"),
    ];
    check(cases, &["--force"]);
}

#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let in_a_folder = |data: &Path| {
        fs::create_dir(data).unwrap();
        pipe(&data.join("image.png"));
    };
    let cases = vec![
        case("a pipe", pipe, "is not a regular file"),
        case("a pipe among images", in_a_folder, "is not a regular file"),
        case(
            "an endless device",
            |data| std::os::unix::fs::symlink("/dev/zero", data).unwrap(),
            "is not a regular file",
        ),
        case("a link to itself", |data| std::os::unix::fs::symlink("data", data).unwrap(), "cannot read data"),
    ];
    check(cases, &[]);
}

fn pipe(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// The fixture's first picture.
fn png() -> Vec<u8> {
    fs::read(root().join("fixtures/images/0/t10k-4715.png")).unwrap()
}

/// A PNG whose header says that it has this size.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = !bytes[12..29].iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    });
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn image_files_are_checked() {
    let half = png().len() / 2;
    let jpeg = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00";
    let cases = vec![
        case("an empty folder", |data| fs::create_dir(data).unwrap(), "contains no images"),
        image("an empty image", [], "image.png"),
        image("a truncated PNG", &png()[..half], "image.png: the image cannot be decoded"),
        image("a truncated JPEG", *jpeg, "image.png: the image cannot be decoded"),
        image("65,000 pixels squared", png_of(65_000, 65_000), "image.png: the image cannot be decoded"),
        image("16,000 pixels squared without data", png_of(16_000, 16_000), "image.png: the image cannot be decoded"),
        image("2^31 pixels wide", png_of(u32::MAX >> 1, 1), "image.png: the image cannot be decoded"),
        image("no pixels", png_of(0, 28), "image.png: the image cannot be decoded"),
        image("text", *b"hello", "image.png: the image cannot be decoded"),
    ];
    check(cases, &[]);
}

#[test]
fn labels_files_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let labels: PathBuf = folder.path().join("labels");
    let good = npy(&images(40));
    let beside = |words: &'static str| vec![file("labels", good.clone(), words)];
    let cases: [(&[u8], &str); 5] = [
        (b"", "only 0 for 40 images"),
        (b"1\n2\nthree\n", "line 3, `three`, is not the number of a class"),
        (b"1e400\n", "is not the number of a class"),
        (&[0, 0, 8, 1, 0xff, 0xff, 0xff, 0xff], "is larger than the limit"),
        (&[b'7'; 4096], "is not the number of a class"),
    ];
    for (bytes, words) in cases {
        fs::File::create(&labels).unwrap().write_all(bytes).unwrap();
        check(beside(words), &["--labels", labels.to_str().unwrap()]);
    }
}

#[test]
fn what_lies_beside_the_model_is_checked() {
    let cases: [(&str, &[u8], &str); 6] = [
        ("preprocessor_config.json", b"{", "preprocessor_config.json"),
        ("preprocessor_config.json", b"[]", "preprocessor_config.json"),
        ("preprocessor_config.json", br#"{"image_mean": [1e999]}"#, "preprocessor_config.json"),
        ("preprocessor_config.json", br#"{"image_std": [0.0]}"#, "std"),
        ("config.json", br#"{"id2label": {"0": "one"}}"#, "class names"),
        ("config.json", &[b'['; 100_000], "config.json"),
    ];
    for (name, bytes, words) in cases {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(root().join("fixtures/fmnist_clean.onnx"), folder.path().join("model.onnx")).unwrap();
        fs::write(folder.path().join(name), bytes).unwrap();
        let data = root().join("fixtures/fashion-mnist-400.npz").canonicalize().unwrap();
        scan_complains(folder.path(), "model.onnx", data.to_str().unwrap(), &[], words).unwrap();
        fs::remove_file(folder.path().join(name)).unwrap();
        pipe(&folder.path().join(name));
        scan_complains(folder.path(), "model.onnx", data.to_str().unwrap(), &[], "is not a regular file").unwrap();
    }
}

/// They are no fault: the scan ends, and says that it does not know.
#[test]
fn fewer_samples_than_classes_are_scanned() {
    let folder = tempfile::tempdir().unwrap();
    let labels = Array1::from(vec![0, 1, 2]);
    fs::write(folder.path().join("data.npz"), npz(&images(3), Some(&labels))).unwrap();
    let model = root().join("fixtures/fmnist_clean.onnx").canonicalize().unwrap();
    let arguments = ["scan", model.to_str().unwrap(), "--data", "data.npz", "--engine", "rten", "--steps", "2"];
    let ended = run(folder.path(), &[&arguments[..], &["--force", "--quiet", "--threads", "2"]].concat());
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(3), ""), "{ended:?}");
}
