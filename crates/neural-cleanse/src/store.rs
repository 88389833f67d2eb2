//! Searches on disk, so that a scan that was interrupted is taken up again where it was.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::classifier::Classifier;
use crate::data::Samples;
use crate::error::{Error, Result};
use crate::files;
use crate::mode::Mode;
use crate::scan::ScanOptions;

/// All that the result of a scan depends on, part by part. The number of threads is not among it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fingerprint(BTreeMap<String, String>);

impl Fingerprint {
    /// Of the scan of `classifier` with `samples` in `mode`.
    ///
    /// # Errors
    /// If the model cannot be written as a graph.
    pub fn new(mode: Mode, classifier: &Classifier, samples: &Samples, options: &ScanOptions) -> Result<Self> {
        let pixels = samples.images.iter().flat_map(|pixel| pixel.to_le_bytes());
        let labels = samples.labels.iter().flatten().flat_map(|&label| (label as u64).to_le_bytes());
        let (engine, precision) = (classifier.engine(), classifier.precision());
        let parts = [
            ("version of this program", env!("CARGO_PKG_VERSION").to_owned()),
            ("model or its preprocessing", sha256(classifier.forward_model()?)),
            ("samples", format!("{:?} {}", samples.images.shape(), sha256(pixels.chain(labels)))),
            ("mode", format!("{mode:?}")),
            ("options", format!("{options:?} {:?}", classifier.value_range())),
            ("engine", format!("{} {} {precision:?}", engine.name(), engine.version())),
        ];
        Ok(Fingerprint(parts.map(|(part, value)| (part.to_owned(), value)).into()))
    }

    /// The parts in which `self` and `other` differ.
    fn differences(&self, other: &Fingerprint) -> Vec<&str> {
        let differs = |(part, value): (_, &String)| (other.0.get(part) != Some(value)).then_some(part);
        self.0.iter().filter_map(|(part, value)| differs((part, value))).map(String::as_str).collect()
    }
}

fn sha256(bytes: impl IntoIterator<Item = u8>) -> String {
    let mut hasher = Sha256::new();
    let mut bytes = bytes.into_iter().peekable();
    while bytes.peek().is_some() {
        hasher.update(bytes.by_ref().take(1 << 16).collect::<Vec<u8>>());
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A folder with the searches of one scan as they were when they last paused. It belongs to one process at a time.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Let go by the operating system when the process ends, in whatever way.
    _lock: File,
}

const LOCK: &str = "lock";
const FINGERPRINT: &str = "scan.json";
const SEARCH: &str = "search";

impl Store {
    /// Opens `folder`, or makes it, for the scan of `fingerprint`. With `restart`, what is in it is removed.
    ///
    /// # Errors
    /// If another process has the folder open, it has searches of another scan, or the file system fails.
    pub fn open(folder: &Path, fingerprint: &Fingerprint, restart: bool) -> Result<Self> {
        let failed = |source| Error::Io { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::create(folder.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let words = format!(
                    "{} belongs to a scan that is running: wait for its end, or scan into another folder",
                    folder.display()
                );
                return Err(Error::Store(words));
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let store = Store { folder: folder.to_owned(), _lock: lock };
        if restart {
            store.let_go()?;
        }
        store.claim(fingerprint)?;
        Ok(store)
    }

    /// Notes down whose searches these are, or checks it if there are any.
    fn claim(&self, fingerprint: &Fingerprint) -> Result<()> {
        let path = self.folder.join(FINGERPRINT);
        let text = std::fs::read(&path).ok();
        let noted = text.and_then(|text| serde_json::from_slice(&text).ok()).map(Fingerprint);
        if self.kept() > 0 && noted.as_ref() != Some(fingerprint) {
            let differences = noted.map_or_else(Vec::new, |noted| {
                fingerprint.differences(&noted).into_iter().map(str::to_owned).collect::<Vec<_>>()
            });
            return Err(Error::Store(format!(
                "{} has the searches of another scan, which was interrupted (other {}): scan into another folder, or let \
                 them go (--restart)",
                self.folder.display(),
                differences.join(", ")
            )));
        }
        let text = serde_json::to_vec_pretty(&fingerprint.0).map_err(|error| Error::Store(error.to_string()))?;
        files::write_beside(&path, |mut file| file.write_all(&text))
    }

    /// The number of searches that are kept.
    pub fn kept(&self) -> usize {
        self.searches().len()
    }

    fn searches(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == SEARCH)).collect()
    }

    /// What was kept of the search called `name`; `None` if nothing was, or it cannot be read, and has to be done again.
    pub(crate) fn load<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let bytes = std::fs::read(self.path(name)).ok()?;
        let (search, sum) = bytes.split_last_chunk()?;
        (checksum(search) == *sum).then(|| postcard::from_bytes(search).ok())?
    }

    /// Keeps `search` in place of what was kept of it before.
    pub(crate) fn save<T: Serialize>(&self, name: &str, search: &T) -> Result<()> {
        let mut bytes = postcard::to_allocvec(search).map_err(|error| Error::Store(error.to_string()))?;
        bytes.extend(checksum(&bytes));
        files::write_beside_unsynced(&self.path(name), |mut file| file.write_all(&bytes))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.{SEARCH}"))
    }

    /// Removes the searches.
    fn let_go(&self) -> Result<()> {
        let failed = |source| Error::Io { path: self.folder.clone(), source };
        self.searches().iter().try_for_each(|path| std::fs::remove_file(path).map_err(failed))
    }

    /// Removes the folder, when the scan's results are written.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn remove(self) -> Result<()> {
        // First: without the note of whose they are, nobody could take them up.
        self.let_go()?;
        std::fs::remove_dir_all(&self.folder).map_err(|source| Error::Io { path: self.folder.clone(), source })
    }
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(options: &str) -> Fingerprint {
        let parts = [("model", "m"), ("options", options)];
        Fingerprint(parts.map(|(part, value)| (part.to_owned(), value.to_owned())).into())
    }

    #[test]
    fn a_folder_belongs_to_one_scan_at_a_time_and_to_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let store = Store::open(&path, &fingerprint("a"), false).unwrap();
        assert!(Store::open(&path, &fingerprint("a"), true).unwrap_err().to_string().contains("that is running"));
        store.save("three", &vec![1.5, f64::INFINITY]).unwrap();
        drop(store);

        let error = Store::open(&path, &fingerprint("b"), false).unwrap_err().to_string();
        assert!(error.contains("another scan, which was interrupted (other options)"), "{error}");
        let store = Store::open(&path, &fingerprint("a"), false).unwrap();
        assert_eq!((store.kept(), store.load("three")), (1, Some(vec![1.5, f64::INFINITY])));
        assert_eq!(store.load::<Vec<f64>>("four"), None);
        drop(store);

        let store = Store::open(&path, &fingerprint("b"), true).unwrap();
        assert_eq!(store.kept(), 0);
        store.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_search_that_is_damaged_is_done_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &fingerprint("a"), false).unwrap();
        store.save("one", &vec![1.0; 9]).unwrap();
        let bytes = std::fs::read(store.path("one")).unwrap();
        let zeros = vec![0; bytes.len()];
        let mut one_bit = bytes.clone();
        one_bit[5] ^= 1;
        for damaged in [&bytes[..bytes.len() / 2], &[], &zeros, &one_bit] {
            std::fs::write(store.path("one"), damaged).unwrap();
            assert_eq!(store.load::<Vec<f64>>("one"), None);
        }
        std::fs::write(store.path("one"), bytes).unwrap();
        assert_eq!(store.load("one"), Some(vec![1.0; 9]));
    }
}
