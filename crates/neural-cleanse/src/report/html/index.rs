use std::path::Path;

use askama::Template;
use percent_encoding::utf8_percent_encode;

use super::{Frame, write_page};
use crate::detection::Verdict;
use crate::error::Result;
use crate::report::Summary;
use crate::report::sarif::NOT_IN_SEGMENT;

/// `index.html`: the scans of several models for people to read.
#[derive(Template)]
#[template(path = "index.html")]
pub struct IndexPage<'a> {
    frame: Frame,
    summary: &'a Summary,
    command: &'a str,
}

impl<'a> IndexPage<'a> {
    /// The page of `summary`. `command` is the command line that made it.
    pub fn new(summary: &'a Summary, command: &'a str) -> Self {
        IndexPage { frame: Frame::new(), summary, command }
    }

    /// Writes the page, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_page(path, self)
    }

    fn worst(&self) -> &'static str {
        let any = |verdict| self.summary.count(verdict) > 0;
        match () {
            () if any(Some(Verdict::Backdoored)) => "backdoored",
            () if any(None) || any(Some(Verdict::Inconclusive)) => "inconclusive",
            () => "clean",
        }
    }

    fn headline(&self) -> String {
        let count = |verdict| self.summary.count(verdict);
        format!(
            "{} of {} models backdoored, {} clean, {} inconclusive, {} failed",
            count(Some(Verdict::Backdoored)),
            self.summary.models.len(),
            count(Some(Verdict::Clean)),
            count(Some(Verdict::Inconclusive)),
            count(None)
        )
    }
}

/// A path below this page's folder as a link, so that none is taken for another scheme.
fn link(path: &str) -> String {
    let segments: Vec<String> =
        path.split('/').map(|part| utf8_percent_encode(part, NOT_IN_SEGMENT).to_string()).collect();
    format!("./{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{ModelSummary, fixture};

    #[test]
    fn failures_are_rows_and_hostile_paths_only_text() {
        let path = "javascript:alert(1)\"><script>x</script>/report.html";
        let scan = fixture::backdoored(4, 2, "a");
        let models = vec![
            ModelSummary::scanned("<script>".to_owned(), &scan, path.to_owned()),
            ModelSummary::failed("torn.onnx".to_owned(), "the file ends too early".to_owned()),
        ];
        let summary = Summary::new(models);
        let page = IndexPage::new(&summary, "neural-cleanse scan-all").render().unwrap();
        assert_eq!(page.matches("<script").count(), 1);
        assert!(
            page.contains("href=\"./javascript%3Aalert%281%29%22%3E%3Cscript%3Ex%3C/script%3E/report.html\""),
            "{page}"
        );
        assert!(page.contains("1 of 2 models backdoored") && page.contains("the file ends too early"));
    }
}
