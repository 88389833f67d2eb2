//! What a scan leaves behind, `scan.json` and a picture and an array file for each trigger; and what a repair does,
//! `mitigation.json`.

mod document;
mod json;
mod mitigation;
mod picture;

pub use json::{
    ClassReport, ClassState, EngineReport, ModelReport, Quantised, SCHEMA_VERSION, SamplesReport, ScanReport,
};
pub use mitigation::{MITIGATION_SCHEMA_VERSION, MitigationReport, ScanSummary, Verification};
pub use picture::{trigger_picture, write_trigger_picture};
