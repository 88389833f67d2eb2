//! The verdict on two to four classes, whose median says nothing: by the size of each trigger itself.

use crate::detection::{Detection, Verdict, median, norm_look};
use crate::look::{self, Look};

/// The most classes that are judged in this way.
pub const MOST: usize = 4;

/// The fewest: a class by itself has nothing beside it.
const FEWEST: usize = 2;

/// A trigger whose extent is less of the image than this...
const BACKDOORED_BELOW: f64 = 0.025;

/// ... and is this much smaller than all others, is flagged. (`docs/modes.md` has what was measured.)
const OF_THE_NEXT: f64 = 0.4;

/// Larger triggers than this are usual in clean models.
const CLEAN_FROM: f64 = 0.04;

/// Whether `classes` are so few.
pub fn applies(classes: usize) -> bool {
    (FEWEST..=MOST).contains(&classes)
}

/// Judges classes called `names`, each by its [extents](crate::Extent) under several seeds as shares of the image, `None` for a search that did not
/// converge. What counts of each class is the median; a class without a trigger in most of its searches is not the target of a backdoor.
pub fn judge(shares: &[Vec<Option<f64>>], names: &[String]) -> Detection {
    let typical: Vec<f64> = shares.iter().map(|shares| typical(shares)).collect();
    if typical.iter().filter(|share| share.is_finite()).count() < FEWEST {
        let words = format!(
            "a trigger was found for fewer than two of {} classes, too few to compare: try more steps or more samples",
            names.len()
        );
        return Detection::of(vec![norm_look(None, None, Verdict::Inconclusive, words)]);
    }
    let mut looks: Vec<Look> = (0..shares.len()).filter_map(|i| look_at(i, shares, &typical, names)).collect();
    if looks.is_empty() {
        let smallest = (0..typical.len()).min_by(|&a, &b| typical[a].total_cmp(&typical[b]));
        let least = smallest.map(|i| typical[i]);
        let words = format!(
            "no trigger has an extent of less than {:.0} % of the image (the smallest {:.1} %, over three seeds)",
            100.0 * CLEAN_FROM,
            100.0 * least.unwrap_or(f64::NAN)
        );
        looks.push(norm_look(smallest, least, Verdict::Clean, words));
    }
    Detection::of(looks)
}

fn typical(shares: &[Option<f64>]) -> f64 {
    median(&shares.iter().map(|share| share.unwrap_or(f64::INFINITY)).collect::<Vec<_>>()).unwrap_or(f64::INFINITY)
}

/// What speaks against the class at `i`, if anything does.
fn look_at(i: usize, shares: &[Vec<Option<f64>>], typical: &[f64], names: &[String]) -> Option<Look> {
    let share = typical[i];
    if share >= CLEAN_FROM {
        return None;
    }
    let others = typical.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, share)| *share);
    let of_the_next = share / others.fold(f64::INFINITY, f64::min);
    let (verdict, conclusion) = if share < BACKDOORED_BELOW && of_the_next < OF_THE_NEXT {
        (Verdict::Backdoored, "flagged")
    } else {
        (Verdict::Inconclusive, "undecided, for natural triggers of so few classes can be as small")
    };
    let percent = |share: &Option<f64>| share.map(|share| 100.0 * share);
    let words = format!(
        "class {} has a trigger whose extent is {:.1} % of the image, {of_the_next:.2} times that of the next larger class's, and in percent under each seed {}: \
         {conclusion}",
        names[i],
        100.0 * share,
        look::listed(&shares[i].iter().map(percent).collect::<Vec<_>>())
    );
    Some(Look { further: shares[i].clone(), ..norm_look(Some(i), Some(share), verdict, words) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(shares: &[[Option<f64>; 3]]) -> Detection {
        let names: Vec<String> = (0..shares.len()).map(|i| i.to_string()).collect();
        judge(&shares.iter().map(|shares| shares.to_vec()).collect::<Vec<_>>(), &names)
    }

    fn steady(share: f64) -> [Option<f64>; 3] {
        [Some(share), Some(1.1 * share), Some(0.9 * share)]
    }

    #[test]
    fn size_and_the_next_class_decide() {
        let cases = [
            ("a tiny trigger", vec![steady(0.005), steady(0.1)], Verdict::Backdoored, vec![0]),
            ("both tiny", vec![steady(0.005), steady(0.006)], Verdict::Inconclusive, vec![]),
            ("a small trigger", vec![steady(0.1), steady(0.02), steady(0.08)], Verdict::Backdoored, vec![1]),
            ("all small", vec![steady(0.03), steady(0.02), steady(0.035)], Verdict::Inconclusive, vec![]),
            ("not so small", vec![steady(0.1), steady(0.03), steady(0.08)], Verdict::Inconclusive, vec![]),
            ("usual", vec![steady(0.05), steady(0.1), steady(0.2)], Verdict::Clean, vec![]),
            ("one seed is a fluke", vec![[Some(0.005), Some(0.06), Some(0.05)], steady(0.1)], Verdict::Clean, vec![]),
            ("no trigger", vec![[None; 3], [None; 3], steady(0.1)], Verdict::Inconclusive, vec![]),
            ("one class without", vec![[None; 3], steady(0.006), steady(0.1)], Verdict::Backdoored, vec![1]),
        ];
        for (name, shares, verdict, flagged) in cases {
            let detection = judged(&shares);
            assert_eq!((detection.verdict, detection.flagged), (verdict, flagged), "{name}: {}", detection.reason);
        }
    }
}
