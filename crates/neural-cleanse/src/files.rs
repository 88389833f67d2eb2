use std::fs::File;
use std::io;
use std::path::Path;

use crate::error::{Error, Result};

/// Opens a file to read it; a pipe, which could be waited for without end, or a device is none.
///
/// # Errors
/// What the file system reports, or that `path` is no regular file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if path.metadata()?.is_file() { File::open(path) } else { Err(io::Error::other("it is not a regular file")) }
}

/// What the names of files begin with that are not whole yet.
const UNFINISHED: &str = ".neural-cleanse-";

/// Removes from `folder` what processes that were killed were writing. No other may be writing there.
///
/// # Errors
/// What the file system reports, with the path.
pub fn remove_unfinished(folder: &Path) -> Result<()> {
    let failed = |source| Error::Io { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            std::fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

/// Writes a file whole or not at all: beside its place first, then renamed into it.
///
/// # Errors
/// What `write` or the file system reports, with the path.
pub(crate) fn write_beside(path: &Path, write: impl FnOnce(&File) -> io::Result<()>) -> Result<()> {
    write_then_rename(path, |file| {
        write(file)?;
        file.sync_all()
    })
}

/// As [`write_beside`], but without waiting for the disk: after a loss of power the file may be there in part.
///
/// # Errors
/// What `write` or the file system reports, with the path.
pub(crate) fn write_beside_unsynced(path: &Path, write: impl FnOnce(&File) -> io::Result<()>) -> Result<()> {
    write_then_rename(path, write)
}

fn write_then_rename(path: &Path, write: impl FnOnce(&File) -> io::Result<()>) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let attempt = || -> io::Result<()> {
        let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        }
        write(file.as_file())?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    attempt().map_err(|source| Error::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_failed_write_leaves_the_former_file_as_it_was_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result");
        write_beside(&path, |mut file| file.write_all(b"good")).unwrap();
        let failed = write_beside(&path, |mut file| {
            file.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("result"));
        assert_eq!(std::fs::read(&path).unwrap(), b"good");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
