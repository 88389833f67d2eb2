use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::write_beside;

/// Reads a JSON document, which is `what` ("the report of a scan") in the version `version` of its form.
///
/// # Errors
/// If the file cannot be read, is something else, or is of another version.
pub(super) fn read<T: DeserializeOwned>(path: &Path, what: &str, version: u32) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let other = |problem: String| Error::Config(format!("{} is not {what}: {problem}", path.display()));
    let document: Value = serde_json::from_slice(&bytes).map_err(|e| other(e.to_string()))?;
    match document.get("schema_version").and_then(Value::as_u64) {
        Some(found) if found == u64::from(version) => {}
        Some(found) => {
            let message =
                format!("{} has schema version {found}; this program reads version {version}", path.display());
            return Err(Error::Config(message));
        }
        None => return Err(other("it has no schema_version".to_owned())),
    }
    serde_json::from_value(document).map_err(|e| other(e.to_string()))
}

/// Writes a JSON document, whole or not at all.
pub(super) fn write<T: Serialize>(path: &Path, document: &T) -> Result<()> {
    write_beside(path, |mut file| {
        serde_json::to_writer_pretty(&mut file, document)?;
        file.write_all(b"\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_another_kind_or_version_is_refused_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scan.json");
        write(&path, &serde_json::json!({"schema_version": 1, "reason": "it is small"})).unwrap();
        assert_eq!(read::<Value>(&path, "a report", 1).unwrap()["reason"], "it is small");
        let refused = |version: u32| read::<Value>(&path, "a report", version).unwrap_err().to_string();
        assert!(refused(2).contains("scan.json has schema version 1; this program reads version 2"), "{}", refused(2));
        for text in ["{}", "[]", "{\"schema_version\": \"one\"}", "not JSON"] {
            std::fs::write(&path, text).unwrap();
            assert!(refused(1).contains("scan.json is not a report"), "{text}: {}", refused(1));
        }
    }
}
