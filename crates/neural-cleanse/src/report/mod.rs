//! What a scan leaves behind, `scan.json`, `report.html`, and a picture and an array file for each trigger; and what a repair
//! does, `mitigation.json` and `mitigation.html`.

mod comparison;
mod document;
mod evidence;
#[cfg(test)]
mod fixture;
mod html;
mod json;
mod mitigation;
mod picture;
mod sarif;
mod schema;
mod summary;

pub use comparison::{Compared, ComparedClass, Comparison};
pub use evidence::{Effect, Evidence, MOST_PICTURED, StampedSample};
pub use html::{IndexPage, MitigationPage, ScanPage};
pub use json::{
    ClassReport, ClassState, EngineReport, MarginsReport, ModelReport, PairReport, Quantised, SCHEMA_VERSION,
    SamplesReport, ScanReport,
};
pub use mitigation::{MITIGATION_SCHEMA_VERSION, MitigationReport, ScanSummary, Verification};
pub use picture::{trigger_picture, trigger_png, write_trigger_picture};
pub use sarif::{sarif, write_sarif};
pub use schema::scan_schema;
pub use summary::{ModelSummary, SUMMARY_SCHEMA_VERSION, Summary};
