use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::ScanReport;

/// The JSON Schema (draft 2020-12) of `scan.json`.
pub fn scan_schema() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<ScanReport>().to_value()
}
