//! The verdict on two to four classes, whose median says nothing: by the size of each trigger itself.

use crate::detection::{Detection, FurtherLooks, Verdict, norm_look};
use crate::look::{self, Look};

/// The most classes that are judged in this way.
pub const MOST: usize = 4;

/// The fewest: a class by itself has nothing beside it.
const FEWEST: usize = 2;

/// A class whose score is less of the image than this...
const BACKDOORED_BELOW: f64 = 0.02;

/// ... and is this much smaller than those of all others, is flagged. (`docs/modes.md` has what was measured.)
const OF_THE_NEXT: f64 = 0.5;

/// Larger ones than this are usual in clean models.
const CLEAN_FROM: f64 = 0.03;

/// Whether `classes` are so few.
pub fn applies(classes: usize) -> bool {
    (FEWEST..=MOST).contains(&classes)
}

/// Judges classes called `names`, each by the [score](FurtherLooks::score) of its [extents](crate::Extent) as shares of the image, that of the first look and of the further
/// ones; `None` for a search that did not converge. A class without a first trigger is not the target of a backdoor.
pub fn judge(shares: &[(Option<f64>, FurtherLooks)], names: &[String]) -> Detection {
    let scores: Vec<f64> = shares.iter().map(score).collect();
    if scores.iter().filter(|share| share.is_finite()).count() < FEWEST {
        let words = format!(
            "a trigger was found for fewer than two of {} classes, too few to compare: try more steps or more samples",
            names.len()
        );
        return Detection::of(vec![norm_look(None, None, Verdict::Inconclusive, words)]);
    }
    let mut looks: Vec<Look> = (0..shares.len()).filter_map(|i| look_at(i, shares, &scores, names)).collect();
    if looks.is_empty() {
        let smallest = (0..scores.len()).min_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        let least = smallest.map(|i| scores[i]);
        let words = format!(
            "no trigger has a score of less than {:.0} % of the image (the smallest {:.1} %)",
            100.0 * CLEAN_FROM,
            100.0 * least.unwrap_or(f64::NAN)
        );
        looks.push(norm_look(smallest, least, Verdict::Clean, words));
    }
    Detection::of(looks)
}

fn score((first, further): &(Option<f64>, FurtherLooks)) -> f64 {
    first.map_or(f64::INFINITY, |first| further.score(first))
}

/// What speaks against the class at `i`, if anything does.
fn look_at(i: usize, shares: &[(Option<f64>, FurtherLooks)], scores: &[f64], names: &[String]) -> Option<Look> {
    let score = scores[i];
    if score >= CLEAN_FROM {
        return None;
    }
    let others = scores.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, score)| *score);
    let of_the_next = score / others.fold(f64::INFINITY, f64::min);
    let (verdict, conclusion) = if score < BACKDOORED_BELOW && of_the_next < OF_THE_NEXT {
        (Verdict::Backdoored, "flagged")
    } else {
        (Verdict::Inconclusive, "undecided, for natural triggers of so few classes can be as small")
    };
    let (first, further) = &shares[i];
    let percent = |shares: &Vec<Option<f64>>| shares.iter().map(|share| share.map(|share| 100.0 * share)).collect();
    let in_percent =
        FurtherLooks { whole: percent(&further.whole), confined: percent(&further.confined), ..further.clone() };
    let words = format!(
        "class {} has a trigger whose extent is, in percent of the image, {}{}: a score of {:.1}, {of_the_next:.2} times that of the next larger class: {conclusion}",
        names[i],
        look::listed(&percent(&vec![*first])),
        in_percent.in_words(),
        100.0 * score,
    );
    let FurtherLooks { whole, confined, .. } = further.clone();
    Some(Look { further: whole, confined, ..norm_look(Some(i), *first, verdict, words) })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Shares = (Option<f64>, [Option<f64>; 2], [Option<f64>; 2]);

    fn judged(shares: &[Shares]) -> Detection {
        let names: Vec<String> = (0..shares.len()).map(|i| i.to_string()).collect();
        let further = |(position, (first, whole, confined)): (usize, &Shares)| {
            (
                *first,
                FurtherLooks {
                    position,
                    whole: whole.to_vec(),
                    confined: confined.to_vec(),
                    foreignness: None,
                    closely: false,
                },
            )
        };
        judge(&shares.iter().enumerate().map(further).collect::<Vec<_>>(), &names)
    }

    fn steady(share: f64) -> Shares {
        (Some(share), [Some(1.1 * share), Some(0.9 * share)], [Some(1.2 * share), Some(0.8 * share)])
    }

    #[test]
    fn size_and_the_next_class_decide() {
        let none = (None, [None; 2], [None; 2]);
        let grown = (Some(0.01), [Some(0.01); 2], [Some(0.09), None]);
        let cases = [
            ("a tiny trigger", vec![steady(0.005), steady(0.1)], Verdict::Backdoored, vec![0]),
            ("both tiny", vec![steady(0.005), steady(0.006)], Verdict::Inconclusive, vec![]),
            ("a small trigger", vec![steady(0.1), steady(0.018), steady(0.08)], Verdict::Backdoored, vec![1]),
            ("all small", vec![steady(0.025), steady(0.018), steady(0.029)], Verdict::Inconclusive, vec![]),
            ("not so small", vec![steady(0.1), steady(0.025), steady(0.08)], Verdict::Inconclusive, vec![]),
            ("usual", vec![steady(0.05), steady(0.1), steady(0.2)], Verdict::Clean, vec![]),
            ("not in one place", vec![grown, steady(0.1)], Verdict::Clean, vec![]),
            ("no trigger", vec![none, none, steady(0.1)], Verdict::Inconclusive, vec![]),
            ("one class without", vec![none, steady(0.006), steady(0.1)], Verdict::Backdoored, vec![1]),
        ];
        for (name, shares, verdict, flagged) in cases {
            let detection = judged(&shares);
            assert_eq!((detection.verdict, detection.flagged), (verdict, flagged), "{name}: {}", detection.reason);
        }
    }
}
