//! What a scan leaves behind: `scan.json` and a picture and an array file for each trigger.

mod json;
mod picture;

pub use json::{ClassReport, EngineReport, ModelReport, SCHEMA_VERSION, SamplesReport, ScanReport};
pub use picture::{trigger_picture, write_trigger_picture};
