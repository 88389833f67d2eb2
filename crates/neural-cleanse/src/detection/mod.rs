//! From the norms of all classes to a verdict (paper §III-C, and the ratio rule).

mod statistics;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::inversion::Norm;
use crate::look::{self, Look, Method};

pub use statistics::{Standing, Statistics};
pub(crate) use statistics::{lower_quartile, median};

/// What a scan concludes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Some class has a trigger that is far smaller than those of the others.
    Backdoored,
    /// No class has.
    Clean,
    /// The figures do not allow either conclusion.
    Inconclusive,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Backdoored => "backdoored",
            Verdict::Clean => "clean",
            Verdict::Inconclusive => "inconclusive",
        })
    }
}

/// How norms are judged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Rule {
    /// By the share of the [usual size](Statistics::usual_size) that a class's trigger is.
    Ratio {
        /// A class below this share is flagged.
        backdoored_below: f64,
        /// A class below this share and not as far below the other bound is looked at again.
        suspicious_below: f64,
    },
    /// By the anomaly index, as the paper does.
    Mad {
        /// A class whose norm is below the median and whose index is above this is flagged.
        threshold: f64,
    },
}

impl Rule {
    /// The ratio rule with the bounds that go with the norm that was optimised. Those of the maximum norm
    /// are the ones of norm 1: no others were validated.
    pub fn ratio(norm: Norm) -> Self {
        match norm {
            Norm::L1 => Rule::Ratio { backdoored_below: 0.25, suspicious_below: 0.3 },
            Norm::L2 => Rule::Ratio { backdoored_below: 0.44, suspicious_below: 0.57 },
            Norm::Inf => Rule::Ratio { backdoored_below: 1.0 / 3.0, suspicious_below: 0.5 },
        }
    }

    /// The paper's rule.
    pub fn mad() -> Self {
        Rule::Mad { threshold: 2.0 }
    }

    /// Whether both are ratio rules, and every class that this one suspects is suspected by `other`, too.
    pub(crate) fn suspects_no_more_than(self, other: Rule) -> bool {
        match (self, other) {
            (Rule::Ratio { suspicious_below: this, .. }, Rule::Ratio { suspicious_below: other, .. }) => this <= other,
            _ => false,
        }
    }

    /// The same rule with another bound beyond which a class is flagged.
    ///
    /// # Errors
    /// A sentence if the bound is not a number above 0.
    pub fn with_threshold(self, bound: f64) -> Result<Self, String> {
        if !(bound.is_finite() && bound > 0.0) {
            return Err(format!("the bound must be a number above 0, not {bound}"));
        }
        Ok(match self {
            Rule::Ratio { suspicious_below, .. } => {
                Rule::Ratio { backdoored_below: bound, suspicious_below: suspicious_below.max(bound) }
            }
            Rule::Mad { .. } => Rule::Mad { threshold: bound },
        })
    }

    /// What it decides on: the ratio or the anomaly index.
    fn figure(self, standing: Standing) -> Option<f64> {
        match self {
            Rule::Ratio { .. } => standing.ratio,
            Rule::Mad { .. } => standing.anomaly_index,
        }
    }

    /// The share below which the first look decides: as many times below the bound as suspicion goes above it.
    fn certain_below(self) -> f64 {
        match self {
            Rule::Ratio { backdoored_below, suspicious_below } => backdoored_below.powi(2) / suspicious_below,
            Rule::Mad { .. } => 0.0,
        }
    }

    /// The bound beyond which a class is flagged.
    pub fn threshold(self) -> f64 {
        match self {
            Rule::Ratio { backdoored_below, .. } => backdoored_below,
            Rule::Mad { threshold } => threshold,
        }
    }
}

/// The fewest classes whose median says what a norm should be.
const FEWEST_CLASSES: usize = 4;

/// A conclusion and what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// The conclusion.
    pub verdict: Verdict,
    /// Why, in a sentence or two.
    pub reason: String,
    /// Positions of the classes that are flagged.
    pub flagged: Vec<usize>,
    /// The way to the conclusion. Targets are positions here, too; [`Scan`](crate::Scan) has classes in their place.
    pub looks: Vec<Look>,
}

/// By how much, as a share of the bound, a ratio must differ from it to decide.
const UNDECIDED_WITHIN: f64 = 0.05;

/// What a ratio speaks for that is not to be looked at again, where one below `bound` is that of a backdoor.
pub(crate) fn decide(ratio: f64, bound: f64) -> Verdict {
    if ratio < (1.0 - UNDECIDED_WITHIN) * bound {
        Verdict::Backdoored
    } else if ratio < (1.0 + UNDECIDED_WITHIN) * bound {
        Verdict::Inconclusive
    } else {
        Verdict::Clean
    }
}

/// The positions of the classes that call for a second look under `rule`: those within a factor of its bound.
pub fn suspicious(statistics: &Statistics, rule: Rule) -> Vec<usize> {
    let Rule::Ratio { suspicious_below, .. } = rule else {
        return Vec::new();
    };
    let between =
        |standing: &Standing| standing.ratio.is_some_and(|r| (rule.certain_below()..suspicious_below).contains(&r));
    (0..statistics.standings.len()).filter(|&i| between(&statistics.standings[i])).collect()
}

/// Further looks at one suspicious class: the ratio of each inversion under another seed, against what is usual
/// in the first; `None` for one that did not converge.
#[derive(Debug, Clone, PartialEq)]
pub struct FurtherLooks {
    /// The position of the class.
    pub position: usize,
    /// One ratio a look.
    pub ratios: Vec<Option<f64>>,
}

/// Judges `statistics`, whose classes are called `names`, by `rule`. `looks` holds the further looks at the
/// classes which [`suspicious`] names.
///
/// Where a class is far under the bound the model is backdoored. Of a suspicious class the geometric mean of all looks decides, where one that did
/// not converge counts as the usual size: under the bound it makes the model backdoored, above it is let off, and within five percent of it it
/// leaves the verdict inconclusive. Fewer than four classes, or fewer than half of them converged, are inconclusive too.
pub fn judge(statistics: &Statistics, names: &[String], rule: Rule, looks: &[FurtherLooks]) -> Detection {
    let inconclusive = |reason: String| Detection::of(vec![norm_look(None, None, Verdict::Inconclusive, reason)]);
    let &Statistics { classes, converged, .. } = statistics;
    if classes < FEWEST_CLASSES {
        let figures = figures(statistics, names);
        return inconclusive(format!(
            "{} too few to say how large a trigger should be: at least {FEWEST_CLASSES} are needed ({figures})",
            if classes == 1 { "1 class is".to_owned() } else { format!("{classes} classes are") }
        ));
    }
    if converged < FEWEST_CLASSES || 2 * converged < classes {
        return inconclusive(format!(
            "a trigger was found for only {converged} of {classes} classes, too few to compare: try more steps or more samples"
        ));
    }
    let under_the_bound = |i: &usize| {
        let standing = &statistics.standings[*i];
        match rule {
            Rule::Ratio { .. } => standing.ratio.is_some_and(|r| r < rule.certain_below()),
            Rule::Mad { threshold } => {
                standing.share.is_some_and(|share| share < 1.0)
                    && standing.anomaly_index.is_some_and(|index| index > threshold)
            }
        }
    };
    let flagged = (0..statistics.standings.len()).filter(under_the_bound).map(|i| {
        let words = flagged_sentence(statistics, names, i, rule);
        norm_look(Some(i), rule.figure(statistics.standings[i]), Verdict::Backdoored, words)
    });
    let mut taken: Vec<Look> = flagged.collect();
    for position in suspicious(statistics, rule) {
        let further = looks.iter().find(|look| look.position == position);
        taken.push(weigh(statistics, names, rule, position, further.map_or(&[], |look| &look.ratios)));
    }
    if taken.is_empty() {
        let smallest = statistics.smallest();
        let figure = smallest.and_then(|i| rule.figure(statistics.standings[i]));
        taken.push(norm_look(smallest, figure, Verdict::Clean, clean_sentence(statistics, names, rule)));
    }
    Detection::of(taken)
}

impl Detection {
    /// What `looks` at classes come to.
    pub(crate) fn of(looks: Vec<Look>) -> Self {
        let flagged = looks.iter().filter(|look| look.verdict == Verdict::Backdoored);
        let mut flagged: Vec<usize> = flagged.filter_map(|look| look.target).collect();
        flagged.sort_unstable();
        Detection { verdict: look::verdict(&looks), reason: look::reason(&looks), flagged, looks }
    }
}

/// A look at the norm of the class at a position.
pub(crate) fn norm_look(position: Option<usize>, figure: Option<f64>, verdict: Verdict, words: String) -> Look {
    Look { method: Method::Norm, source: None, target: position, figure, further: Vec::new(), verdict, words }
}

fn weigh(statistics: &Statistics, names: &[String], rule: Rule, position: usize, further: &[Option<f64>]) -> Look {
    let first = statistics.standings[position].ratio.unwrap_or(1.0);
    let (mean, bound) = (look::mean_of(first, further), rule.threshold());
    let verdict = decide(mean, bound);
    let conclusion = match verdict {
        Verdict::Backdoored => "flagged",
        Verdict::Inconclusive => "undecided",
        Verdict::Clean => "not flagged",
    };
    let words = format!(
        "class {} has a small trigger ({}), further seeds give {}, on average {mean:.2}, where the bound is {bound:.2}: {conclusion}",
        names[position],
        size_in_words(statistics.standings[position]),
        look::listed(further)
    );
    Look { further: further.to_vec(), ..norm_look(Some(position), Some(first), verdict, words) }
}

fn flagged_sentence(statistics: &Statistics, names: &[String], i: usize, rule: Rule) -> String {
    let standing = statistics.standings[i];
    let size = size_in_words(standing);
    let index = standing
        .anomaly_index
        .map_or("no anomaly index, for the norms do not vary".to_owned(), |index| format!("anomaly index {index:.1}"));
    match rule {
        Rule::Ratio { backdoored_below, .. } => {
            format!("class {} has a trigger of {size}, under the bound of {backdoored_below:.2} ({index})", names[i])
        }
        Rule::Mad { threshold } => {
            format!("class {} has {index}, above {threshold}, with {size}", names[i])
        }
    }
}

fn clean_sentence(statistics: &Statistics, names: &[String], rule: Rule) -> String {
    let Some(i) = statistics.smallest() else {
        return "no class has an exceptionally small trigger".to_owned();
    };
    let size = size_in_words(statistics.standings[i]);
    match (rule, statistics.standings[i].anomaly_index) {
        (Rule::Ratio { suspicious_below, .. }, _) => format!(
            "the smallest trigger, of class {}, has {size}, not under {suspicious_below:.2}",
            names[i]
        ),
        (Rule::Mad { threshold }, Some(index)) => format!(
            "no class below the median has an anomaly index above {threshold} (the smallest trigger, of class {}, has {index:.1})",
            names[i]
        ),
        (Rule::Mad { .. }, None) => "more than half of the classes have the same norm (MAD 0), so that no index can be given and none is flagged".to_owned(),
    }
}

fn size_in_words(Standing { share, ratio, .. }: Standing) -> String {
    let [norm, size] = [share, ratio].map(|figure| format!("{:.2}", figure.unwrap_or(f64::NAN)));
    // Without sizes it is norms that are compared.
    if ratio == share {
        format!("{norm} times the median norm")
    } else {
        format!("{size} times the usual size (norm {norm})")
    }
}

fn figures(statistics: &Statistics, names: &[String]) -> String {
    let figure = |(name, standing): (&String, &Standing)| match standing.ratio {
        Some(ratio) => format!("class {name}: {ratio:.2} of the median"),
        None => format!("class {name}: no trigger found"),
    };
    names.iter().zip(&statistics.standings).map(figure).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| i.to_string()).collect()
    }

    fn judged(norms: &[Option<f64>], rule: Rule) -> Detection {
        judge(&Statistics::of(norms), &names(norms.len()), rule, &[])
    }

    fn converged(norms: &[f64]) -> Vec<Option<f64>> {
        norms.iter().copied().map(Some).collect()
    }

    #[test]
    fn it_is_the_size_that_decides_and_the_reason_says_so() {
        let norms = converged(&[80.0, 82.0, 75.0, 90.0, 85.0, 70.0, 77.0, 88.0, 79.0, 28.0]);
        let with = |size: f64| {
            let sizes = [vec![Some(50.0); 9], vec![Some(size)]].concat();
            Statistics::of(&norms).with_sizes(&sizes, &sizes)
        };
        let rule = Rule::Ratio { backdoored_below: 0.4, suspicious_below: 0.6 };
        let judged = |size: f64| judge(&with(size), &names(10), rule, &[]);
        let (patch, overlay) = (judged(10.0), judged(60.0));
        assert_eq!((patch.verdict, patch.flagged), (Verdict::Backdoored, vec![9]));
        assert!(patch.reason.contains("0.20 times the usual size (norm 0.35), under the bound"), "{}", patch.reason);
        assert_eq!(overlay.verdict, Verdict::Clean);
        assert_eq!(suspicious(&with(25.0), rule), [9]);
    }

    #[test]
    fn each_case_has_its_verdict() {
        let usual = [80.0, 82.0, 75.0, 90.0, 85.0, 70.0, 77.0, 88.0, 79.0];
        let with = |norm: f64| [&usual[..], &[norm]].concat();
        let ratio = Rule::ratio(Norm::L2);
        struct Case<'a> {
            name: &'a str,
            norms: Vec<Option<f64>>,
            rule: Rule,
            verdict: Verdict,
            flagged: Vec<usize>,
            reason: &'a str,
        }
        let cases = [
            Case {
                name: "a small trigger",
                norms: converged(&with(20.0)),
                rule: ratio,
                verdict: Verdict::Backdoored,
                flagged: vec![9],
                reason: "class 9",
            },
            Case {
                name: "nothing small",
                norms: converged(&with(60.0)),
                rule: ratio,
                verdict: Verdict::Clean,
                flagged: vec![],
                reason: "0.75",
            },
            Case {
                name: "a large outlier is none of the paper's rule",
                norms: converged(&with(500.0)),
                rule: Rule::mad(),
                verdict: Verdict::Clean,
                flagged: vec![],
                reason: "no class below",
            },
            Case {
                name: "the paper's rule",
                norms: converged(&with(20.0)),
                rule: Rule::mad(),
                verdict: Verdict::Backdoored,
                flagged: vec![9],
                reason: "anomaly index",
            },
            Case {
                name: "MAD 0",
                norms: converged(&[50.0; 8]),
                rule: Rule::mad(),
                verdict: Verdict::Clean,
                flagged: vec![],
                reason: "MAD 0",
            },
            Case {
                name: "MAD 0 with a small one",
                norms: converged(&[50.0, 50.0, 50.0, 50.0, 50.0, 5.0]),
                rule: ratio,
                verdict: Verdict::Backdoored,
                flagged: vec![5],
                reason: "do not vary",
            },
            Case {
                name: "two classes",
                norms: converged(&[5.0, 80.0]),
                rule: ratio,
                verdict: Verdict::Inconclusive,
                flagged: vec![],
                reason: "2 classes are too few",
            },
            Case {
                name: "a class without a trigger is no outlier",
                norms: with(75.0).into_iter().map(Some).chain([None]).collect(),
                rule: ratio,
                verdict: Verdict::Clean,
                flagged: vec![],
                reason: "smallest",
            },
            Case {
                name: "none converged",
                norms: vec![None; 10],
                rule: ratio,
                verdict: Verdict::Inconclusive,
                flagged: vec![],
                reason: "only 0 of 10",
            },
            Case {
                name: "most did not converge",
                norms: converged(&[5.0, 80.0, 70.0, 60.0]).into_iter().chain(vec![None; 6]).collect(),
                rule: ratio,
                verdict: Verdict::Inconclusive,
                flagged: vec![],
                reason: "only 4 of 10",
            },
            Case {
                name: "nothing at all",
                norms: vec![],
                rule: ratio,
                verdict: Verdict::Inconclusive,
                flagged: vec![],
                reason: "0 classes",
            },
        ];
        for case in cases {
            let detection = judged(&case.norms, case.rule);
            assert_eq!((detection.verdict, &detection.flagged), (case.verdict, &case.flagged), "{}", case.name);
            assert!(detection.reason.contains(case.reason), "{}: {}", case.name, detection.reason);
            assert!(!detection.reason.contains("NaN"), "{}: {}", case.name, detection.reason);
        }
    }

    #[test]
    fn a_suspicious_class_is_decided_by_further_looks() {
        let norms = converged(&[100.0, 100.0, 100.0, 100.0, 100.0, 50.0]);
        let statistics = Statistics::of(&norms);
        let rule = Rule::ratio(Norm::L2);
        assert_eq!(suspicious(&statistics, rule), [5]);
        assert!(suspicious(&statistics, Rule::mad()).is_empty());
        let cases = [
            ([Some(0.2), Some(0.3)], Verdict::Backdoored),
            ([Some(0.35), Some(0.39)], Verdict::Backdoored),
            ([Some(0.7), Some(0.65)], Verdict::Clean),
            ([Some(0.7), None], Verdict::Clean),
            ([Some(0.15), None], Verdict::Inconclusive),
            ([Some(0.45), Some(0.38)], Verdict::Inconclusive),
        ];
        for (ratios, verdict) in cases {
            let looks = [FurtherLooks { position: 5, ratios: ratios.to_vec() }];
            let detection = judge(&statistics, &names(6), rule, &looks);
            assert_eq!(detection.verdict, verdict, "{ratios:?}");
            assert_eq!(detection.flagged.contains(&5), verdict == Verdict::Backdoored);
            assert!(detection.reason.contains("further seeds"), "{}", detection.reason);
        }
    }
}
