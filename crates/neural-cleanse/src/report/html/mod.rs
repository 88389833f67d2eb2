//! Reports as pages: one file each, without network access, whatever the names in it say.
//!
//! Templates escape every value. The policy of each page allows its own style sheet, its own script (by their hashes)
//! and embedded pictures, and nothing else.

mod chart;
mod index;
mod mitigation;
mod scan;

use std::path::Path;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::files::write_beside;

pub use index::IndexPage;
pub use mitigation::MitigationPage;
pub use scan::ScanPage;

/// What all pages have in common.
struct Frame {
    policy: String,
    style: &'static str,
    script: &'static str,
    version: &'static str,
}

impl Frame {
    fn new() -> Self {
        let style = include_str!("../../../templates/page.css");
        let script = include_str!("../../../templates/table.js");
        let policy = format!(
            "default-src 'none'; img-src data:; style-src {}; script-src {}; base-uri 'none'; form-action 'none'",
            source(style),
            source(script)
        );
        Frame { policy, style, script, version: env!("CARGO_PKG_VERSION") }
    }
}

/// An inline style sheet or script as a source of a content security policy.
fn source(text: &str) -> String {
    format!("'sha256-{}'", BASE64.encode(Sha256::digest(text)))
}

fn write_page(path: &Path, page: &impl Template) -> Result<()> {
    write_beside(path, |mut file| Template::write_into(page, &mut file))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn number(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.2}"))
}
