//! Scans as SARIF 2.1.0 (Static Analysis Results Interchange Format, OASIS), which code-scanning pages show.

use std::path::{Component, Path};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{ClassReport, ScanReport, document};
use crate::attack::Attack;
use crate::detection::Verdict;
use crate::error::Result;

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The characters of a path segment that a URI cannot have as they are (RFC 3986).
pub(super) const NOT_IN_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A scan as a SARIF log: an error for each attack that was found, a warning for an inconclusive verdict, and nothing
/// for a clean model.
pub fn sarif(report: &ScanReport) -> Value {
    let uri = uri(Path::new(&report.model.path));
    let results: Vec<Value> = match report.verdict {
        Verdict::Clean => Vec::new(),
        Verdict::Inconclusive => vec![result(report, &uri, "inconclusive", "warning", &escaped(&report.reason), None)],
        Verdict::Backdoored => findings(report, &uri),
    };
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "neural-cleanse",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": [
                    rule(
                        "backdoor",
                        "error",
                        "The model has a backdoor",
                        "A small trigger sends images to a class of the attacker's choice.",
                        "Do not deploy the model. Look at the trigger in the scan's report, and repair the model or train it anew \
                         on data that is known.",
                    ),
                    rule(
                        "inconclusive",
                        "warning",
                        "The model could not be judged",
                        "The scan allows neither to call the model clean nor to call it backdoored.",
                        "Read the reason, and scan again with more samples, other parameters or all classes.",
                    ),
                ],
            }},
            "artifacts": [{
                "location": {"uri": uri},
                "roles": ["analysisTarget"],
                "hashes": {"sha-256": report.model.sha256},
            }],
            "invocations": [{"executionSuccessful": true}],
            "results": results,
            "columnKind": "unicodeCodePoints",
            "properties": {"verdict": report.verdict, "reason": report.reason},
        }],
    })
}

/// One result for each attack.
fn findings(report: &ScanReport, uri: &str) -> Vec<Value> {
    let finding = |attack: &Attack| {
        let class = report.classes.iter().find(|class| *attack == Attack::AllToOne { target: class.target_class });
        let message = match class {
            Some(class) => finding(class),
            None => format!("The model has a backdoor, {attack}: {}.", escaped(&report.reason)),
        };
        result(report, uri, "backdoor", "error", &message, class)
    };
    report.attacks.iter().map(finding).collect()
}

/// Writes [`sarif`], whole or not at all.
pub fn write_sarif(path: &Path, report: &ScanReport) -> Result<()> {
    document::write(path, &sarif(report))
}

fn rule(id: &str, level: &str, title: &str, description: &str, help: &str) -> Value {
    let severity = if level == "error" { "9.0" } else { "4.0" };
    json!({
        "id": id,
        "name": id,
        "shortDescription": {"text": title},
        "fullDescription": {"text": description},
        "help": {"text": help},
        "defaultConfiguration": {"level": level},
        "properties": {"tags": ["security", "machine-learning"], "security-severity": severity},
    })
}

fn result(
    report: &ScanReport,
    uri: &str,
    rule: &str,
    level: &str,
    message: &str,
    class: Option<&ClassReport>,
) -> Value {
    let place = class.map_or("model".to_owned(), |class| format!("class {}", class.target_class));
    let properties = class.map_or(json!({}), |class| json!(class));
    json!({
        "ruleId": rule,
        "level": level,
        "message": {"text": message},
        // A model has no lines; code-scanning pages want one.
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": uri, "index": 0},
            "region": {"startLine": 1},
        }}],
        "partialFingerprints": {"finding/v1": format!("{}: {place}", report.model.sha256)},
        "properties": properties,
    })
}

fn finding(class: &ClassReport) -> String {
    let part = |value: Option<f64>, text: &dyn Fn(f64) -> String| value.map_or_else(String::new, text);
    format!(
        "Class {} is the target of a backdoor: a small trigger sends images of all other classes there{}{}{}.",
        escaped(&class.label()),
        part(class.attack_success_rate, &|rate| format!("; success {:.1} %", 100.0 * rate)),
        part(class.norm_l1, &|norm| format!("; L1 norm {norm:.2}")),
        part(class.ratio, &|ratio| format!("; ratio {ratio:.2}")),
    )
}

/// `text` without what a SARIF message takes for a link.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]")
}

/// A path as a URI reference: relative as it is given, absolute with the scheme `file`.
fn uri(path: &Path) -> String {
    let mut uri = String::new();
    for component in path.components() {
        match component {
            Component::RootDir => uri.push_str("file:///"),
            Component::CurDir => {}
            component => {
                if !uri.is_empty() && !uri.ends_with('/') {
                    uri.push('/');
                }
                let segment = component.as_os_str().to_string_lossy();
                uri.extend(utf8_percent_encode(&segment, NOT_IN_SEGMENT));
            }
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_flagged_class_is_an_error_and_a_clean_model_nothing() {
        let mut report = fixture::backdoored(4, 2, "[free](https://example.org)");
        let log = sarif(&report);
        let results = log["runs"][0]["results"].as_array().unwrap();
        assert_eq!(results.len(), 1);
        assert_eq!((&results[0]["ruleId"], &results[0]["level"]), (&json!("backdoor"), &json!("error")));
        let message = results[0]["message"]["text"].as_str().unwrap();
        assert!(message.starts_with(r"Class 2 · \[free\](https://example.org) is the target"), "{message}");

        report.verdict = Verdict::Clean;
        assert_eq!(sarif(&report)["runs"][0]["results"], json!([]));
        report.verdict = Verdict::Inconclusive;
        assert_eq!(sarif(&report)["runs"][0]["results"][0]["level"], "warning");
    }

    #[test]
    fn paths_are_uris() {
        let cases = [
            ("models/a b.onnx", "models/a%20b.onnx"),
            ("./m.onnx", "m.onnx"),
            ("../m.onnx", "../m.onnx"),
            ("/srv/50%.onnx", "file:///srv/50%25.onnx"),
            ("javascript:alert(1)", "javascript%3Aalert%281%29"),
        ];
        for (path, expected) in cases {
            assert_eq!(uri(Path::new(path)), expected);
        }
    }
}
