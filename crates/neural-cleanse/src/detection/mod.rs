//! From the norms of all classes to a verdict (paper §III-C, and the ratio rule).

mod further_looks;
mod rule;
mod statistics;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::look::{self, Look, Method};

pub use further_looks::FurtherLooks;
pub use rule::Rule;
pub use statistics::{Standing, Statistics};
pub(crate) use statistics::{lower_quartile, mad, median};

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

/// What a score speaks for, where one below `bound` is that of a backdoor.
pub(crate) fn decide(score: f64, bound: f64) -> Verdict {
    if score < (1.0 - UNDECIDED_WITHIN) * bound {
        Verdict::Backdoored
    } else if score < (1.0 + UNDECIDED_WITHIN) * bound {
        Verdict::Inconclusive
    } else {
        Verdict::Clean
    }
}

/// The positions of the classes that call for a second look under `rule`.
pub fn suspicious(statistics: &Statistics, rule: Rule) -> Vec<usize> {
    let Rule::Ratio { suspicious_below, .. } = rule else {
        return Vec::new();
    };
    let is_small = |i: &usize| statistics.standings[*i].ratio.is_some_and(|ratio| ratio < suspicious_below);
    (0..statistics.standings.len()).filter(is_small).collect()
}

/// By how much, as a share of the bound, what decides on a class must differ from it not to be close.
const CLOSE_WITHIN: f64 = 0.25;

/// Whether a class is so near to being judged otherwise by `rule` that it is worth a closer look: its score is close to the bound, or that by which it may be left undecided nonetheless.
pub(crate) fn is_close(statistics: &Statistics, rule: Rule, look: &FurtherLooks) -> bool {
    let bound = rule.threshold();
    let is_near = |figure: f64| (figure - bound).abs() < CLOSE_WITHIN * bound;
    statistics.standings[look.position].ratio.is_some_and(|first| {
        let (score, whole) = (look.score(first), look.whole_ratio(first));
        is_near(score) || (score > bound && is_near(whole))
    })
}

/// Judges `statistics`, whose classes are called `names`, by `rule`. `looks` holds the further looks at the
/// classes which [`suspicious`] names.
///
/// The [score](FurtherLooks::score) of a suspicious class decides: under the bound it makes the model backdoored, above it the class is let off, and within five percent of it the
/// verdict is left inconclusive, unless the class was looked at [closely](FurtherLooks::closely); so it is where the [ratio in the whole image](FurtherLooks::whole_ratio) is under the bound, and the score is not. Fewer than four classes, or fewer than half
/// of them converged, are inconclusive too.
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
    let mut taken: Vec<Look> = match rule {
        Rule::Ratio { .. } => {
            let again = |position: usize| looks.iter().find(|look| look.position == position);
            let suspicious = suspicious(statistics, rule).into_iter();
            suspicious.map(|position| weigh(statistics, names, rule, position, again(position))).collect()
        }
        Rule::Mad { threshold } => flagged_by_index(statistics, names, threshold),
    };
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
    Look { target: position, words, ..Look::by(Method::Norm, verdict, figure) }
}

/// What the score of the suspicious class at `position` speaks for.
fn weigh(statistics: &Statistics, names: &[String], rule: Rule, position: usize, looks: Option<&FurtherLooks>) -> Look {
    let first = statistics.standings[position].ratio.unwrap_or(1.0);
    let (score, bound) = (looks.map_or(first, |looks| looks.score(first)), rule.threshold());
    let decided = match looks {
        Some(looks) if looks.closely && score < bound => Verdict::Backdoored,
        Some(looks) if looks.closely => Verdict::Clean,
        _ => decide(score, bound),
    };
    let whole = looks.map_or(first, |looks| looks.whole_ratio(first));
    let (verdict, conclusion) = match decided {
        Verdict::Backdoored => (Verdict::Backdoored, "flagged"),
        Verdict::Inconclusive => (Verdict::Inconclusive, "undecided"),
        Verdict::Clean if whole < bound => {
            (Verdict::Inconclusive, "undecided, for its size in the whole image is under it")
        }
        Verdict::Clean => (Verdict::Clean, "not flagged"),
    };
    let words = format!(
        "class {} has a trigger of {}{}: a score of {score:.2}, where the bound is {bound:.2}: {conclusion}",
        names[position],
        size_in_words(statistics.standings[position]),
        looks.map_or(String::new(), FurtherLooks::in_words)
    );
    let (further, confined) =
        looks.map_or((Vec::new(), Vec::new()), |looks| (looks.whole.clone(), looks.confined.clone()));
    Look { further, confined, ..norm_look(Some(position), Some(first), verdict, words) }
}

/// The paper's rule (§III-C): classes under the median whose anomaly index is above `threshold`.
fn flagged_by_index(statistics: &Statistics, names: &[String], threshold: f64) -> Vec<Look> {
    let look = |(standing, name): (&Standing, &String)| {
        let index = standing.anomaly_index.filter(|index| *index > threshold)?;
        standing.share.filter(|share| *share < 1.0)?;
        Some((
            index,
            format!("class {name} has anomaly index {index:.1}, above {threshold}, with {}", size_in_words(*standing)),
        ))
    };
    let looks = statistics.standings.iter().zip(names).map(look).enumerate();
    looks
        .filter_map(|(i, look)| look.map(|(index, words)| norm_look(Some(i), Some(index), Verdict::Backdoored, words)))
        .collect()
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
    use crate::inversion::Norm;

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
        assert!(patch.reason.contains("0.20 times the usual size (norm 0.35): a score of 0.20"), "{}", patch.reason);
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
                reason: "class 5",
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
            ([Some(0.5), Some(0.4)], [Some(0.1), Some(0.12)], Verdict::Backdoored),
            ([Some(0.2), Some(0.3)], [Some(0.4), Some(0.3)], Verdict::Backdoored),
            ([Some(0.2), Some(0.3)], [None, None], Verdict::Inconclusive),
            ([Some(0.4), Some(0.5)], [None, None], Verdict::Clean),
            ([Some(0.5), Some(0.5)], [Some(0.5), Some(0.4)], Verdict::Clean),
            ([None, Some(0.4)], [Some(0.3), Some(0.3)], Verdict::Inconclusive),
        ];
        for (whole, confined, verdict) in cases {
            let looks = [FurtherLooks {
                position: 5,
                whole: whole.to_vec(),
                confined: confined.to_vec(),
                foreignness: None,
                closely: false,
            }];
            let detection = judge(&statistics, &names(6), rule, &looks);
            assert_eq!(detection.verdict, verdict, "{whole:?}, {confined:?}: {}", detection.reason);
            assert_eq!(detection.flagged.contains(&5), verdict == Verdict::Backdoored);
            assert!(detection.reason.contains("confined to a third of each side"), "{}", detection.reason);
        }
    }

    #[test]
    fn what_is_close_to_the_bound_calls_for_a_closer_look_which_decides() {
        let norms = converged(&[100.0, 100.0, 100.0, 100.0, 100.0, 50.0]);
        let (statistics, rule) = (Statistics::of(&norms), Rule::ratio(Norm::L2));
        let looks = |whole, confined, closely| {
            let (whole, confined) = (vec![Some(whole); 2], vec![Some(confined); 2]);
            FurtherLooks { position: 5, whole, confined, foreignness: None, closely }
        };
        let cases = [
            (0.24, 0.24, false),
            (0.33, 0.33, true),
            (0.39, 0.39, true),
            (0.47, 0.47, true),
            (0.55, 0.55, false),
            // It would be let off, were it not that in the whole image it may be under the bound.
            (0.37, 1.0, true),
            (0.22, 1.0, false),
            (0.6, 1.0, false),
        ];
        for (whole, confined, expected) in cases {
            assert_eq!(is_close(&statistics, rule, &looks(whole, confined, false)), expected, "{whole}, {confined}");
        }
        let verdict = |figure, closely| judge(&statistics, &names(6), rule, &[looks(figure, figure, closely)]).verdict;
        assert_eq!([0.37, 0.39].map(|figure| verdict(figure, false)), [Verdict::Inconclusive; 2]);
        assert_eq!([0.37, 0.39].map(|figure| verdict(figure, true)), [Verdict::Backdoored, Verdict::Clean]);
    }

    #[test]
    fn a_tiny_trigger_is_not_called_clean_because_it_looks_natural_to_the_layers() {
        let statistics = Statistics::of(&converged(&[100.0, 100.0, 100.0, 100.0, 100.0, 10.0]));
        let verdict = |foreignness| {
            let looks = FurtherLooks {
                position: 5,
                whole: vec![Some(0.1); 2],
                confined: vec![Some(0.1); 2],
                foreignness,
                closely: false,
            };
            judge(&statistics, &names(6), Rule::ratio(Norm::L2), &[looks]).verdict
        };
        assert_eq!(verdict(None), Verdict::Backdoored);
        assert_eq!(verdict(Some(1.0)), Verdict::Backdoored);
        assert_eq!(verdict(Some(0.05)), Verdict::Inconclusive);
    }

    #[test]
    fn a_class_that_is_small_in_the_whole_image_alone_is_left_undecided() {
        let statistics = Statistics::of(&converged(&[100.0, 100.0, 100.0, 100.0, 100.0, 30.0]));
        let judged = |whole| {
            let (whole, confined) = (vec![Some(whole); 2], vec![None; 2]);
            let looks = [FurtherLooks { position: 5, whole, confined, foreignness: None, closely: true }];
            judge(&statistics, &names(6), Rule::ratio(Norm::L2), &looks)
        };
        let undecided = judged(0.4);
        assert_eq!(undecided.verdict, Verdict::Inconclusive);
        assert!(undecided.reason.contains("in the whole image"), "{}", undecided.reason);
        assert_eq!(judged(0.5).verdict, Verdict::Clean, "the first look is one of three");
    }
}
