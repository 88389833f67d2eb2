//! What further looks at a pair come to.

use std::fmt;

use crate::detection::Verdict;
use crate::look;

/// Between what is flagged and what is let off.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// A pair with a score below this is flagged.
    pub backdoored_below: f64,
    /// From this score on a pair is let off; between the two it leaves the verdict inconclusive.
    pub clean_from: f64,
}

/// Of scores by the size of triggers with the whole image to change. (`docs/modes.md` has what was measured.)
const WHOLE: Bounds = Bounds { backdoored_below: 0.15, clean_from: 0.27 };

/// Of scores by the size of triggers with and without a window.
const CONFINED: Bounds = Bounds { backdoored_below: 0.19, clean_from: 0.21 };

/// The likeness that a small trigger gives, as a share of the usual, where it neither speaks for a backdoor nor against it.
const NEUTRAL_LIKENESS: f64 = 0.5;

/// That a trigger makes no images alike says something of those alone whose size is less than this share of what is expected.
const SMALL_BELOW: f64 = 0.6;

/// What is below this share of the usual likeness counts as this much: it is measured on few images.
const LEAST_LIKENESS: f64 = 0.1;

/// A trigger for a pair, under one seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// The size, in the unit of the [`Table`](super::rule::Table).
    pub size: f64,
    /// The [likeness](crate::likeness) as a share of the usual, where it can be measured.
    pub likeness: Option<f64>,
}

/// Further looks at one pair.
pub struct FurtherLooks {
    /// Source and target.
    pub pair: (usize, usize),
    /// What the first look found.
    pub first: Found,
    /// What further seeds found; `None` for one that did not converge.
    pub whole: Vec<Option<Found>>,
    /// What was found confined to a [window](crate::Window); none under the maximum norm.
    pub confined: Vec<Option<Found>>,
}

/// What looks at a pair speak for, by themselves.
pub struct Weighed {
    /// The mean of the scores with the whole image to change.
    pub whole: f64,
    /// The scores of the further looks at the whole image.
    pub further: Vec<Option<f64>>,
    /// The shares of the size that is expected which the triggers in a window have.
    pub confined: Vec<Option<f64>>,
    /// What these speak for.
    pub verdict: Verdict,
    /// The same in words.
    pub words: String,
}

impl FurtherLooks {
    /// Judges a pair whose first trigger is this share of what source and target lead to expect, beside the way back: only what both the looks at the whole image and those in
    /// a window speak for is called backdoored, and what either clearly speaks against is let off.
    pub fn weigh(&self, one_way: f64) -> Weighed {
        let shares = |found: &[Option<Found>]| -> Vec<Option<f64>> {
            found.iter().map(|found| found.map(|found| one_way * found.size / self.first.size)).collect()
        };
        let (whole_shares, confined) = (shares(&self.whole), shares(&self.confined));
        let score = |(share, found): (&Option<f64>, &Option<Found>)| {
            share.zip(*found).map(|(share, found)| share * weight(share, found.likeness))
        };
        let further: Vec<Option<f64>> = whole_shares.iter().zip(&self.whole).map(score).collect();
        let whole = look::mean_of(one_way * weight(one_way, self.first.likeness), &further);
        let words = format!("under further seeds {}", look::listed(&further));
        if confined.is_empty() {
            let words = format!("{words}, on average {whole:.2}, where the bounds are {WHOLE}");
            return Weighed { verdict: WHOLE.verdict(whole), whole, further, confined, words };
        }
        let whole_size = look::mean_of_at_most_usual(whole_shares.into_iter().chain([Some(one_way)]));
        let score = (whole_size * look::mean_of_at_most_usual(confined.iter().copied())).sqrt() * self.likeness();
        let verdict = match (WHOLE.verdict(whole), CONFINED.verdict(score)) {
            (Verdict::Backdoored, Verdict::Backdoored) => Verdict::Backdoored,
            (Verdict::Clean, _) | (Verdict::Inconclusive, Verdict::Clean) => Verdict::Clean,
            // Among others what is tiny, but not in one place: no patch, but it might be a faint overlay.
            _ => Verdict::Inconclusive,
        };
        let words = format!(
            "{words}, on average {whole:.2}, where the bounds are {WHOLE}, and confined to a fifth of each side a size of {}: {score:.2} in all, where they are {CONFINED}",
            look::listed(&confined)
        );
        Weighed { whole, further, confined, verdict, words }
    }

    /// What the size is multiplied by for how alike the triggers that may change the whole image make the images: the geometric mean; 1 where it cannot be measured.
    fn likeness(&self) -> f64 {
        let found = self.whole.iter().flatten().chain([&self.first]);
        let likenesses: Vec<f64> = found.filter_map(|found| found.likeness).map(of_likeness).collect();
        if likenesses.is_empty() { 1.0 } else { look::geometric_mean(likenesses.into_iter()) }
    }
}

impl Bounds {
    /// What a score speaks for.
    pub fn verdict(self, score: f64) -> Verdict {
        if score < self.backdoored_below {
            Verdict::Backdoored
        } else if score < self.clean_from {
            Verdict::Inconclusive
        } else {
            Verdict::Clean
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}", self.backdoored_below, self.clean_from)
    }
}

/// What a share is multiplied by, for the likeness that the trigger gives.
pub fn weight(share: f64, likeness: Option<f64>) -> f64 {
    let weight = likeness.map_or(1.0, of_likeness);
    if share < SMALL_BELOW { weight } else { weight.max(1.0) }
}

/// [Likeness](crate::likeness), a share of the usual, as a multiple of what speaks neither for a backdoor nor against it.
fn of_likeness(likeness: f64) -> f64 {
    likeness.max(LEAST_LIKENESS) / NEUTRAL_LIKENESS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes of further looks are those of the first times a factor.
    fn looks(likenesses: [Option<f64>; 3], confined: &[Option<f64>]) -> FurtherLooks {
        let [first, whole, in_window] = likenesses;
        FurtherLooks {
            pair: (4, 7),
            first: Found { size: 20.0, likeness: first },
            whole: vec![Some(Found { size: 20.0, likeness: whole }); 2],
            confined: confined
                .iter()
                .map(|factor| factor.map(|factor| Found { size: 20.0 * factor, likeness: in_window }))
                .collect(),
        }
    }

    #[test]
    fn a_pair_is_flagged_by_its_size_with_and_without_a_window_and_let_off_by_either() {
        let cases = [
            ("a patch", 0.1, Some(0.1), Verdict::Backdoored),
            ("nearly", 0.1, Some(0.2), Verdict::Inconclusive),
            ("tiny, but not in one place", 0.1, None, Verdict::Inconclusive),
            ("small, and in one place", 0.18, Some(0.1), Verdict::Inconclusive),
            ("small, but not in one place", 0.18, None, Verdict::Clean),
            ("in one place, but not small", 0.3, Some(0.1), Verdict::Clean),
        ];
        for (name, share, score, verdict) in cases {
            // What the size must be multiplied by for the geometric mean to be this score.
            let factor = score.map(|score: f64| (score / share).powi(2));
            let weighed = looks([None; 3], &[factor; 2]).weigh(share);
            assert_eq!(weighed.verdict, verdict, "{name}: {}", weighed.words);
            assert_eq!(weighed.confined, [factor.map(|factor| share * factor); 2], "{name}");
        }
    }

    #[test]
    fn a_trigger_in_a_window_counts_as_no_more_than_is_expected_and_none_as_much() {
        let verdict = |confined: [Option<f64>; 2]| looks([None; 3], &confined).weigh(0.12).verdict;
        assert_eq!(verdict([None, Some(0.5)]), verdict([Some(100.0), Some(0.5)]));
        assert_eq!(verdict([Some(1.0), Some(100.0)]), Verdict::Inconclusive);
    }

    #[test]
    fn the_looks_at_the_whole_image_say_how_alike_a_trigger_makes_the_images() {
        let verdict = |likenesses: [f64; 3]| looks(likenesses.map(Some), &[Some(0.5); 2]).weigh(0.2).verdict;
        assert_eq!(verdict([0.3, 0.3, 0.3]), Verdict::Backdoored);
        assert_eq!(verdict([0.3, 1.5, 0.3]), Verdict::Clean);
        assert_eq!(verdict([0.3, 0.3, 1.5]), Verdict::Backdoored);
    }
}
