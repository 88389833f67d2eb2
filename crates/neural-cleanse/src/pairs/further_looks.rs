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

/// Of scores by the size of triggers with the whole image to change, which decide where there are no others. (`docs/modes.md` has what was measured.)
const WHOLE: Bounds = Bounds { backdoored_below: 0.15, clean_from: 0.27 };

/// A score with the whole image to change that no other figure makes clean.
pub const TINY_BELOW: f64 = WHOLE.backdoored_below;

/// Of scores by the size of triggers in a window.
const CONFINED: Bounds = Bounds { backdoored_below: 0.18, clean_from: 0.20 };

/// The likeness that a small trigger gives, and the directness that it has, as a share of the usual, where it neither speaks for a backdoor nor against it.
const NEUTRAL_LIKENESS: f64 = 0.5;

/// That a trigger makes no images alike says something of those alone whose size is less than this share of what is expected.
const SMALL_BELOW: f64 = 0.6;

/// What likeness and directness together make of a size in a window, at the least: they say much the same.
const LEAST_WEIGHT: f64 = 0.5;

/// What is below this share of the usual likeness or directness counts as this much: it is measured on few images.
const LEAST_LIKENESS: f64 = 0.1;

/// How far a model [leans](super::margin_ratio::leaning) from the source of a pair to its target where that speaks neither for a backdoor nor against it.
const NEUTRAL_LEANING: f64 = 1.5;

/// What a leaning counts as at the least and at the most: it is not all there is to say.
const LEANINGS: [f64; 2] = [0.5, 4.5];

/// The logarithm of what a score is divided by for each spread that a model leans: that tells backdoors from natural triggers better than sizes do.
const PER_SPREAD: f64 = 0.6;

/// A trigger for a pair, under one seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// The size, in the unit of the [`Table`](super::table::Table).
    pub size: f64,
    /// The [likeness](crate::likeness) as a share of the usual, where it can be measured.
    pub likeness: Option<f64>,
    /// The [directness](crate::likeness::Likeness::directness) as a share of the usual, where it can be measured.
    pub directness: Option<f64>,
    /// The [aim](crate::aim) as a share of the usual, where it can be measured.
    pub aim: Option<f64>,
}

impl Found {
    /// One of which nothing but the size is known.
    pub fn of_size(size: f64) -> Self {
        Found { size, likeness: None, directness: None, aim: None }
    }
}

/// Further looks at one pair.
pub struct FurtherLooks {
    /// Source and target.
    pub pair: (usize, usize),
    /// How far the model [leans](super::margin_ratio::leaning) to the target on clean images of the source, where it can be measured.
    pub leaning: Option<f64>,
    /// What the first look found.
    pub first: Found,
    /// What further seeds found; `None` for one that did not converge.
    pub whole: Vec<Option<Found>>,
    /// What was found confined to a [window](crate::Window); none under the maximum norm.
    pub confined: Vec<Option<Found>>,
}

/// What looks at a pair speak for, by themselves.
pub struct Weighed {
    /// The scores of the further looks at the whole image.
    pub further: Vec<Option<f64>>,
    /// The shares of the size that is expected which the triggers in a window have.
    pub confined: Vec<Option<f64>>,
    /// What the pair is judged by: the score in all or, where there was no window, the mean of those with the whole image to change.
    pub score: f64,
    /// What these speak for.
    pub verdict: Verdict,
    /// The same in words.
    pub words: String,
}

impl FurtherLooks {
    /// None yet beside the first.
    pub fn new(pair: (usize, usize), first: Found) -> Self {
        FurtherLooks { pair, leaning: None, first, whole: Vec::new(), confined: Vec::new() }
    }

    /// Judges a pair whose first trigger is this share of what source and target lead to expect, beside the way back: by its [`score`](Self::score) or, where there was no window,
    /// by the mean of those with the whole image to change. The bounds are `bounds_times` what they are of ten classes.
    pub fn weigh(&self, one_way: f64, bounds_times: f64) -> Weighed {
        let [of_whole, of_confined] = [WHOLE, CONFINED].map(|bounds| bounds.times(bounds_times));
        let whole_shares = self.shares(one_way, &self.whole);
        let score = |(share, found): (&Option<f64>, &Option<Found>)| {
            share.zip(*found).map(|(share, found)| share * weight(share, [found.likeness]))
        };
        let further: Vec<Option<f64>> = whole_shares.iter().zip(&self.whole).map(score).collect();
        let whole = look::mean_of(one_way * weight(one_way, [self.first.likeness]), &further);
        let words = format!("under further seeds {}", look::listed(&further));
        if self.confined.is_empty() {
            let words = format!("{words}, on average {whole:.2}, where the bounds are {of_whole}");
            return Weighed { verdict: of_whole.verdict(whole), score: whole, further, confined: Vec::new(), words };
        }
        let (confined, score) = (self.shares(one_way, &self.confined), self.score(one_way));
        let times = |figure: Option<f64>, how: &str| {
            figure.map_or(String::new(), |figure| format!(", {figure:.2} times as {how} as is usual"))
        };
        let margins = self.leaning.map_or(String::new(), |leaning| {
            format!("; clean images lean to the target by {leaning:.1} times what is usual for the model")
        });
        let words = format!(
            "{words}, confined to a fifth and to a seventh of each side a size of {}{}{}{margins}: {score:.2} in all, where the bounds are {of_confined}",
            look::listed(&confined),
            times(self.directness(), "direct"),
            times(self.aim(), "well aimed")
        );
        let verdict = match (of_confined.verdict(score), of_whole.verdict(whole)) {
            // Tiny, but not in one place: no patch, but it might be a faint overlay.
            (Verdict::Clean, Verdict::Backdoored) => Verdict::Inconclusive,
            (verdict, _) => verdict,
        };
        Weighed { further, confined, verdict, score, words }
    }

    /// The score in all of a pair whose first trigger is this share of what is expected: how small the triggers in a window are, the geometric mean of their shares, where a search that
    /// did not converge counts as usual and no trigger as more; by how alike those with the whole image to change make the images, and how directly the former do; by whether the former
    /// speak for the target; and by whether the model leans there anyway.
    pub fn score(&self, one_way: f64) -> f64 {
        let in_place = look::mean_of_at_most_usual(self.shares(one_way, &self.confined).into_iter());
        let weight = weight(in_place, [self.likeness(), self.directness()]).max(LEAST_WEIGHT);
        in_place * weight * weight_of_leaning(self.leaning) / self.aim().unwrap_or(1.0)
    }

    /// The sizes as shares of what is expected.
    fn shares(&self, one_way: f64, found: &[Option<Found>]) -> Vec<Option<f64>> {
        found.iter().map(|found| found.map(|found| one_way * found.size / self.first.size)).collect()
    }

    /// How alike the triggers that may change the whole image make the images: the geometric mean, where it can be measured.
    fn likeness(&self) -> Option<f64> {
        let found = self.whole.iter().flatten().chain([&self.first]);
        mean(found.filter_map(|found| found.likeness).map(counted))
    }

    /// How directly the triggers in a window make the images alike: the geometric mean, where it can be measured.
    pub fn directness(&self) -> Option<f64> {
        let found = self.confined.iter().flatten();
        mean(found.filter_map(|found| found.directness).map(counted))
    }

    /// How well the triggers in a window are aimed at the target: the geometric mean, where it can be measured.
    pub fn aim(&self) -> Option<f64> {
        mean(self.confined.iter().flatten().filter_map(|found| found.aim))
    }
}

impl Bounds {
    fn times(self, factor: f64) -> Self {
        Bounds { backdoored_below: factor * self.backdoored_below, clean_from: factor * self.clean_from }
    }

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
        write!(f, "{:.2} and {:.2}", self.backdoored_below, self.clean_from)
    }
}

/// What a share is multiplied by, for the [likeness](crate::likeness) that the trigger gives and its directness, shares of the usual: each as a multiple of what speaks neither for a
/// backdoor nor against it.
pub fn weight(share: f64, figures: impl IntoIterator<Item = Option<f64>>) -> f64 {
    let weight: f64 = figures.into_iter().flatten().map(|figure| counted(figure) / NEUTRAL_LIKENESS).product();
    if share < SMALL_BELOW { weight } else { weight.max(1.0) }
}

/// What a score is multiplied by, for how far the model [leans](super::margin_ratio::leaning) to the target of its pair.
pub fn weight_of_leaning(leaning: Option<f64>) -> f64 {
    let [least, most] = LEANINGS;
    leaning.map_or(1.0, |leaning| (-PER_SPREAD * (leaning.clamp(least, most) - NEUTRAL_LEANING)).exp())
}

/// What a likeness or a directness counts as.
fn counted(figure: f64) -> f64 {
    figure.max(LEAST_LIKENESS)
}

/// The geometric mean, if there are any.
fn mean(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let figures: Vec<f64> = figures.collect();
    (!figures.is_empty()).then(|| look::geometric_mean(figures.into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the first look.
    const SIZE: f64 = 20.0;

    /// The sizes of the looks at the whole image are those of the first, and those in a window the first times a factor.
    fn looks(likenesses: [Option<f64>; 3], confined: &[Option<f64>], aim: Option<f64>) -> FurtherLooks {
        let found = |likeness| Found { likeness, ..Found::of_size(SIZE) };
        let [first, whole @ ..] = likenesses.map(found);
        let in_window = |factor: &Option<f64>| factor.map(|factor| Found { size: SIZE * factor, aim, ..found(None) });
        FurtherLooks {
            whole: whole.map(Some).to_vec(),
            confined: confined.iter().map(in_window).collect(),
            ..FurtherLooks::new((4, 7), first)
        }
    }

    #[test]
    fn a_pair_is_judged_by_its_size_in_a_window() {
        let cases = [
            ("a patch that is found at once", 0.1, Some(0.1), 0.1, Verdict::Backdoored),
            ("a patch that is found in a window", 1.1, Some(0.17), 0.17, Verdict::Backdoored),
            ("nearly", 0.6, Some(0.19), 0.19, Verdict::Inconclusive),
            ("small anywhere", 0.4, Some(0.4), 0.4, Verdict::Clean),
            ("tiny, but not in one place", 0.1, None, 1.0, Verdict::Inconclusive),
            ("small, but not in one place", 0.2, None, 1.0, Verdict::Clean),
            ("no smaller in one place", 0.5, Some(0.6), 0.6, Verdict::Clean),
        ];
        for (name, share, in_place, score, verdict) in cases {
            let factor = in_place.map(|in_place: f64| in_place / share);
            let weighed = looks([None; 3], &[factor; 2], None).weigh(share, 1.0);
            assert!((weighed.score - score).abs() < 1e-9, "{name}: {}", weighed.words);
            assert_eq!(weighed.verdict, verdict, "{name}: {}", weighed.words);
            let is_in_place = |confined: &Option<f64>| match (confined, in_place) {
                (Some(confined), Some(in_place)) => (confined - in_place).abs() < 1e-9,
                (confined, in_place) => confined.is_none() && in_place.is_none(),
            };
            assert!(weighed.confined.iter().all(is_in_place), "{name}: {:?}", weighed.confined);
        }
    }

    #[test]
    fn a_trigger_in_a_window_counts_as_no_more_than_is_expected_and_none_as_much() {
        let score = |confined: [Option<f64>; 2]| looks([None; 3], &confined, None).weigh(0.5, 1.0).score;
        assert_eq!(score([None, Some(0.5)]), score([Some(100.0), Some(0.5)]));
        assert!((score([None, Some(0.5)]) / score([Some(0.5), Some(0.5)]) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_trigger_that_does_not_speak_for_the_target_alone_is_natural() {
        let weigh = |aim| looks([None; 3], &[Some(0.3); 2], Some(aim)).weigh(0.5, 1.0);
        assert_eq!(weigh(1.0).verdict, Verdict::Backdoored);
        assert_eq!(weigh(0.4).verdict, Verdict::Clean);
        assert!((weigh(0.5).score / weigh(1.0).score - 2.0).abs() < 1e-9);
        assert!(weigh(0.4).words.contains("0.40 times as well aimed as is usual"), "{}", weigh(0.4).words);
    }

    #[test]
    fn bounds_are_lower_where_they_are_told_to_be() {
        let [whole, confined] = [looks([Some(0.5); 3], &[], None), looks([None; 3], &[Some(0.3); 2], None)];
        for (looks, share) in [(whole, 0.1), (confined, 0.5)] {
            let weigh = |bounds_times| looks.weigh(share, bounds_times);
            let expected = [Verdict::Backdoored, Verdict::Clean];
            assert_eq!([1.0, 0.3].map(|times| weigh(times).verdict), expected);
            assert_eq!(weigh(1.0).score, weigh(0.3).score);
        }
        let words = looks([None; 3], &[Some(0.3); 2], None).weigh(0.5, 0.5).words;
        assert!(words.contains("where the bounds are 0.09 and 0.10"), "{words}");
    }

    #[test]
    fn a_pair_to_which_the_model_leans_no_more_than_to_others_is_natural() {
        let weigh = |leaning| FurtherLooks { leaning, ..looks([None; 3], &[Some(0.38); 2], None) }.weigh(0.5, 1.0);
        assert_eq!(weigh(None).verdict, Verdict::Inconclusive);
        assert_eq!([3.0, 0.5].map(|leaning| weigh(Some(leaning)).verdict), [Verdict::Backdoored, Verdict::Clean]);
        assert!((weigh(Some(2.0)).score / weigh(Some(3.0)).score - 0.6_f64.exp()).abs() < 1e-9);
        assert_eq!(weigh(Some(1.5)).score, weigh(None).score);
        // Nor does that say all.
        assert_eq!(
            [9.0, -3.0].map(|leaning| weigh(Some(leaning)).score),
            [4.5, 0.5].map(|leaning| weigh(Some(leaning)).score)
        );
        let words = weigh(Some(3.0)).words;
        assert!(words.contains("lean to the target by 3.0 times what is usual"), "{words}");
    }

    #[test]
    fn the_looks_at_the_whole_image_say_how_alike_a_trigger_makes_the_images() {
        let verdict = |likenesses: [f64; 3]| looks(likenesses.map(Some), &[Some(0.3); 2], None).weigh(0.4, 1.0).verdict;
        assert_eq!(verdict([0.5, 0.5, 0.5]), Verdict::Backdoored);
        assert_eq!(verdict([2.0, 2.0, 2.0]), Verdict::Clean);
        assert_eq!(verdict([0.5, 0.5, 32.0]), Verdict::Clean);
    }

    #[test]
    fn a_trigger_that_goes_straight_to_the_target_in_a_window_is_natural() {
        let weigh = |directness: f64| {
            let mut looks = looks([Some(0.5); 3], &[Some(0.4); 2], None);
            looks.confined.iter_mut().flatten().for_each(|found| found.directness = Some(directness));
            looks.weigh(0.5, 1.0)
        };
        assert_eq!([0.3, 1.0].map(|directness| weigh(directness).verdict), [Verdict::Backdoored, Verdict::Clean]);
        assert!((weigh(0.8).score / weigh(0.4).score - 2.0).abs() < 1e-9);
        // What leads away from the target is no better evidence than what leads nowhere.
        assert_eq!(weigh(-3.0).score, weigh(0.1).score);
        // Nor is what leads nowhere evidence without end.
        assert_eq!(weigh(0.1).score, weigh(0.25).score);
        assert!(weigh(0.3).words.contains("0.30 times as direct as is usual"), "{}", weigh(0.3).words);
    }

    #[test]
    fn a_trigger_that_is_not_small_in_a_window_is_not_made_so_by_what_it_does_to_the_images() {
        let score = |factor: f64| {
            let mut looks = looks([Some(0.1); 3], &[Some(factor); 2], None);
            looks.confined.iter_mut().flatten().for_each(|found| found.directness = Some(0.1));
            looks.score(1.0)
        };
        assert_eq!(score(0.7), 0.7);
        assert!((score(0.5) - 0.5 * 0.5).abs() < 1e-9);
    }

    #[test]
    fn without_a_window_the_mean_score_decides() {
        let weighed = looks([Some(0.5); 3], &[], None).weigh(0.1, 1.0);
        assert_eq!(weighed.verdict, Verdict::Backdoored);
        assert!((weighed.score - 0.1).abs() < 1e-9, "{}", weighed.score);
        assert_eq!(looks([Some(0.5); 3], &[], None).weigh(0.3, 1.0).verdict, Verdict::Clean);
    }
}
