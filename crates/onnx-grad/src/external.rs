//! Constants kept in files beside the model.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use prost::bytes::Bytes;

use crate::proto::TensorProto;

/// The folder in which a model's external data may be: the model's own, or none for a model
/// that was not read from a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ExternalFiles {
    folder: Option<PathBuf>,
}

impl ExternalFiles {
    /// The files beside the model at `path`.
    pub(crate) fn beside(path: &Path) -> Self {
        ExternalFiles {
            folder: path
                .parent()
                .map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder }.to_owned()),
        }
    }

    /// Whether `other` is about the same folder.
    pub(crate) fn same_folder(&self, other: &ExternalFiles) -> bool {
        let canonical = |files: &ExternalFiles| files.folder.as_ref().and_then(|folder| folder.canonicalize().ok());
        canonical(self).is_some_and(|folder| Some(folder) == canonical(other))
    }

    /// The `len` bytes of `tensor`, or what is wrong with where they should be. Nothing is read that
    /// is not a regular file within the folder, and nothing is allocated that the file does not hold.
    pub(crate) fn read(&self, tensor: &TensorProto, len: usize) -> Result<Bytes, String> {
        let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key() == key).map(|entry| entry.value());
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => {
                text.parse::<u64>().map(Some).map_err(|_| format!("has external data with the {key} `{text}`"))
            }
        };
        let location = entry("location").ok_or("is said to be in another file, which is not named")?;
        let (offset, stated) = (number("offset")?.unwrap_or(0), number("length")?);
        if stated.is_some_and(|stated| stated != len as u64) {
            return Err(format!(
                "should have {len} bytes of data and has {} in `{location}`",
                stated.unwrap_or_default()
            ));
        }
        let path = self.locate(location)?;
        let failed = |error: std::io::Error| format!("cannot be read from `{location}`: {error}");
        let metadata = path.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(format!("has its data in `{location}`, which is not a regular file"));
        }
        if offset.checked_add(len as u64).is_none_or(|end| end > metadata.len()) {
            return Err(format!("has its data in `{location}`, beyond the end of that file"));
        }
        let mut file = File::open(&path).map_err(failed)?;
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut bytes = vec![0; len];
        file.read_exact(&mut bytes).map_err(failed)?;
        Ok(bytes.into())
    }

    /// The path of `location`, with symbolic links resolved, if it is inside the folder.
    fn locate(&self, location: &str) -> Result<PathBuf, String> {
        let folder = self.folder.as_ref().ok_or_else(|| {
            format!("has its data in the file `{location}`, which cannot be found from a model that is not itself read from a file")
        })?;
        let outside = || format!("has its data in `{location}`, which is outside the model's folder and is not read");
        if location.is_empty()
            || !Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        {
            return Err(outside());
        }
        let failed = |error: std::io::Error| format!("cannot be read from `{location}`: {error}");
        let folder = folder.canonicalize().map_err(failed)?;
        let path = folder.join(location).canonicalize().map_err(failed)?;
        if path.starts_with(&folder) { Ok(path) } else { Err(outside()) }
    }
}
