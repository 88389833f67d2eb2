//! The sizes of the triggers of all pairs, taken apart: what stands out.

use ndarray::{Array1, Array2};

use super::columns::ColumnBounds;
use super::further_looks::{FurtherLooks, TINY_BELOW, weight, weight_of_leaning};
use super::margin_ratio;
use super::shift::PERHAPS_SHIFTED_FROM;
use crate::detection::lower_quartile;
use crate::median_polish::{Polished, median_polish};

/// With fewer classes than this, rows and columns explain any table.
pub const FEWEST_CLASSES: usize = 5;

/// A pair with a score below this is looked at again: with the whole image to change or, after a look in a window, in all.
pub const SUSPICIOUS_BELOW: f64 = 0.8;

/// The bounds of scores come from models of ten classes, which have so many pairs.
const USUAL_PAIRS: f64 = 90.0;

/// What sends fewer images of a source than this to a target is smaller, as it need not send others there.
const ENOUGH_IMAGES: usize = 16;

/// From this distance of a shift on, in standard deviations, all pairs of it are searched to the end.
const WORTH_A_LOOK_FROM: f64 = 1.0;

/// For a shift the score of a pair counts as this at the least, so that a few pairs do not make one, and as its inverse at the most, which is what is usual.
const LEAST_FOR_SHIFT: f64 = 0.5;

/// The standard deviation of the scores' logarithms counts as this at the least: where nearly all scores are usual, the few that are not are no shift.
const LEAST_DEVIATION: f64 = 0.2;

/// Two classes are confused where at least this share of the clean images of either goes to the other.
const CONFUSED_FROM: f64 = 0.1;

/// The most pairs that are looked at in a window, those with the lowest scores. What is small in one place alone need not stand out where the whole image may change.
const MOST_LOOKED_AT_IN_A_WINDOW: usize = 24;

/// The most pairs that are looked at again, those with the lowest scores.
const MOST_LOOKED_AT_AGAIN: usize = 6;

/// The sizes of the triggers that send images of each source (row) to each target (column), taken apart.
pub struct Table {
    pub(super) polished: Polished,
    /// [Likeness](crate::likeness) as a share of the usual.
    likeness: Array2<Option<f64>>,
    /// The [margin ratios](super::margin_ratio) of all pairs.
    margin_ratios: Array2<Option<f64>>,
    /// How far they are from 1 as a rule.
    spread: Option<f64>,
    /// Pairs that the model takes for one another without any trigger.
    pub(super) confused: Array2<bool>,
    /// How many images of each class triggers are searched for with, where that is known.
    images: Vec<usize>,
    pub(super) converged: usize,
    pub(super) pairs: usize,
}

impl Table {
    /// `sizes` are those of the triggers, `[source, target]`, in any unit, `None` where there is no pair or it did not converge. `pairs` is how many
    /// there are in all.
    pub fn new(sizes: &Array2<Option<f64>>, pairs: usize) -> Self {
        let logarithms = sizes.mapv(|size| size.map(|size| size.max(f64::MIN_POSITIVE).ln()));
        Table {
            polished: median_polish(logarithms),
            likeness: Array2::from_elem(sizes.dim(), None),
            margin_ratios: Array2::from_elem(sizes.dim(), None),
            spread: None,
            confused: Array2::from_elem(sizes.dim(), false),
            images: Vec::new(),
            converged: sizes.iter().flatten().count(),
            pairs,
        }
    }

    /// The same with the likeness that each trigger gives, `[source, target]`, as a share of the usual; `None` where it is not known.
    pub fn with_likeness(self, likeness: Array2<Option<f64>>) -> Self {
        Table { likeness, ..self }
    }

    /// The same with the [margin ratio](super::margin_ratio) of each pair, `[source, target]`.
    pub fn with_margin_ratios(self, margin_ratios: Array2<Option<f64>>) -> Self {
        Table { spread: margin_ratio::spread(&margin_ratios), margin_ratios, ..self }
    }

    /// The same with the share of the clean images of each class (row) that the model takes for each other one (column). Where it is [`CONFUSED_FROM`] in either direction, no trigger
    /// is needed to explain why one is small.
    pub fn with_confusion(self, confusion: &Array2<f64>) -> Self {
        let is_confused = |(s, t): (usize, usize)| s != t && confusion[[s, t]].max(confusion[[t, s]]) >= CONFUSED_FROM;
        Table { confused: Array2::from_shape_fn(confusion.dim(), is_confused), ..self }
    }

    /// The same with how many images of each class triggers are searched for with.
    pub fn with_images(self, images: Vec<usize>) -> Self {
        Table { images, ..self }
    }

    /// The size of a pair as a share of what its source and its target lead to expect.
    pub fn share(&self, source: usize, target: usize) -> Option<f64> {
        self.polished.residuals[[source, target]].map(f64::exp)
    }

    /// What the trigger of a pair does to how alike the images are, as a share of what is usual.
    pub fn likeness(&self, source: usize, target: usize) -> Option<f64> {
        self.likeness[[source, target]]
    }

    /// The [`share`](Self::share) of a pair divided by that of the way back, if this is under 1: two classes that are alike are near to
    /// each other in both directions, and a trigger leads in one.
    pub fn one_way(&self, source: usize, target: usize) -> Option<f64> {
        let back = self.share(target, source).unwrap_or(1.0);
        self.share(source, target).map(|share| share / back.min(1.0))
    }

    /// By how much clean images of the source are told from the target, as a share of the way back.
    pub fn margin_ratio(&self, source: usize, target: usize) -> Option<f64> {
        self.margin_ratios[[source, target]]
    }

    /// How far the model [leans](margin_ratio::leaning) to the target on clean images of the source, likewise.
    pub fn leaning(&self, source: usize, target: usize) -> Option<f64> {
        self.margin_ratio(source, target).zip(self.spread).map(|(ratio, spread)| margin_ratio::leaning(ratio, spread))
    }

    /// What makes a pair suspicious: how small its trigger is, beside the way back, and how little the trigger makes the images alike.
    pub fn score(&self, source: usize, target: usize) -> Option<f64> {
        self.one_way(source, target).map(|one_way| one_way * weight(one_way, [self.likeness(source, target)]))
    }

    /// What the bounds of the scores of pairs of `source` are multiplied by. Of more pairs some have lower scores by chance: the natural ones under a score grow with its square and more, so
    /// that under bounds that are lower by the root of the number of pairs there are no more than under the usual ones. Pairs of a source with few images have lower scores, too, by about the
    /// share of [`ENOUGH_IMAGES`] that they are.
    /// (`docs/modes.md` has what was measured.)
    pub fn bounds_times(&self, source: usize) -> f64 {
        let images = self.images.get(source).copied().unwrap_or(ENOUGH_IMAGES).min(ENOUGH_IMAGES);
        (USUAL_PAIRS / self.pairs as f64).sqrt().min(1.0) * images as f64 / ENOUGH_IMAGES as f64
    }

    /// The size of `target`'s column as a share of what is usual, the lower quartile of all columns.
    pub fn column(&self, target: usize) -> f64 {
        (self.polished.columns[target] - self.usual_column()).exp()
    }

    fn usual_column(&self) -> f64 {
        let columns: Vec<Option<f64>> = self.polished.columns.iter().copied().map(Some).collect();
        lower_quartile(&columns).unwrap_or(0.0)
    }

    /// The shift whose pairs have the lowest scores, and how far these are below those of all other pairs: the difference of the mean logarithms, in standard deviations of the
    /// latter. `None` where no shift has [`FEWEST_CLASSES`] pairs with a score, or there are no others.
    pub fn shift(&self) -> Option<(usize, f64)> {
        let n = self.polished.rows.len();
        let pairs = self.polished.residuals.indexed_iter();
        let scored: Vec<((usize, usize), f64)> = pairs
            .filter_map(|(pair, _)| {
                let score = self.score(pair.0, pair.1)?;
                Some((pair, score.clamp(LEAST_FOR_SHIFT, 1.0 / LEAST_FOR_SHIFT).ln()))
            })
            .collect();
        let below = |shift: usize| {
            let of = |on: bool| {
                Array1::from_iter(
                    scored.iter().filter(|(pair, _)| self.is_on(shift, *pair) == on).map(|(_, score)| *score),
                )
            };
            let (shifted, others) = (of(true), of(false));
            if shifted.len() < FEWEST_CLASSES || others.is_empty() {
                return None;
            }
            Some((shift, (others.mean()? - shifted.mean()?) / others.std(0.0).max(LEAST_DEVIATION)))
        };
        (1..n).filter_map(below).max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
    }

    /// Whether there is enough to compare.
    pub fn is_complete(&self) -> bool {
        self.polished.rows.len() >= FEWEST_CLASSES && 4 * self.converged >= 3 * self.pairs
    }

    /// The pairs that the verdict rests on: those that call for a look in a window, the rows and the columns of suspicious pairs with their ways back, columns that stand out, and the
    /// shift with the lowest scores.
    pub fn decisive(&self, columns: ColumnBounds) -> Vec<(usize, usize)> {
        let (candidates, suspicious) = (self.candidates(|_| false), self.suspicious(&[], |_| false));
        let shift = self.shift().filter(|(_, below)| *below >= WORTH_A_LOOK_FROM).map(|(shift, _)| shift);
        let rests_on = |&(source, target): &(usize, usize)| {
            let crosses = |&(s, t): &(usize, usize)| s == source || t == target || (t, s) == (source, target);
            candidates.contains(&(source, target))
                || suspicious.iter().any(crosses)
                || self.column(target) < columns.suspicious_below
                || shift.is_some_and(|shift| self.is_on(shift, (source, target)))
        };
        self.polished.residuals.indexed_iter().map(|(pair, _)| pair).filter(rests_on).collect()
    }

    /// The pairs whose triggers are to be explained, with their scores: those that the model tells apart, and those with tiny ones. (Whoever trains a backdoor can have a model confuse
    /// two classes, too.)
    pub fn unexplained(&self) -> impl Iterator<Item = (f64, (usize, usize))> {
        let pairs = self.confused.indexed_iter();
        let scored = pairs.filter_map(|(pair, confused)| Some((self.score(pair.0, pair.1)?, pair, confused)));
        scored.filter(|(score, _, confused)| !**confused || *score < TINY_BELOW).map(|(score, pair, _)| (score, pair))
    }

    /// Whether an all-to-all attack by `shift` sends the images of the source to the target.
    pub fn is_on(&self, shift: usize, (source, target): (usize, usize)) -> bool {
        (source + shift) % self.polished.rows.len() == target
    }

    /// The shift that calls for further looks, if there is one, and how far its scores are below those of all other pairs.
    pub fn shift_standing_out(&self) -> Option<(usize, f64)> {
        self.shift().filter(|(_, below)| self.is_complete() && *below >= PERHAPS_SHIFTED_FROM)
    }

    /// The targets whose columns call for further looks.
    pub fn standing_out(&self, columns: ColumnBounds) -> Vec<usize> {
        let stands_out = |&target: &usize| self.is_complete() && self.column(target) < columns.suspicious_below;
        (0..self.polished.columns.len()).filter(stands_out).collect()
    }

    /// A trigger of this `size` as a share of what its `source` leads to expect of a usual target.
    pub fn share_of_usual(&self, source: usize, size: f64) -> f64 {
        size / (self.polished.overall + self.polished.rows[source] + self.usual_column()).exp()
    }

    /// The pairs that call for a look in a window, those with the lowest scores first. Those that `is_accounted_for` by an attack of all classes on one or to one another do not.
    pub fn candidates(&self, is_accounted_for: impl Fn((usize, usize)) -> bool) -> Vec<(usize, usize)> {
        self.lowest(is_accounted_for).into_iter().take(MOST_LOOKED_AT_IN_A_WINDOW).map(|(_, pair)| pair).collect()
    }

    /// The pairs that call for further looks, likewise: those with low scores, either with the whole image to change or by the look in a window that some were given, `in_window`.
    pub fn suspicious(
        &self,
        in_window: &[FurtherLooks],
        is_accounted_for: impl Fn((usize, usize)) -> bool,
    ) -> Vec<(usize, usize)> {
        let score_in_window = |pair: (usize, usize)| {
            let look = in_window.iter().find(|look| look.pair == pair)?;
            Some(look.score(self.one_way(pair.0, pair.1)?))
        };
        let lower = |(score, pair): (f64, _)| (score_in_window(pair).map_or(score, |other| other.min(score)), pair);
        let lowest = self.lowest(is_accounted_for).into_iter().map(lower);
        let suspicious = in_order(lowest.filter(|(score, _)| *score < SUSPICIOUS_BELOW));
        suspicious.into_iter().take(MOST_LOOKED_AT_AGAIN).map(|(_, pair)| pair).collect()
    }

    /// All pairs that are to be explained and that no such attack accounts for, those with the lowest scores first. A pair to which the model leans is looked at sooner, and none later.
    fn lowest(&self, is_accounted_for: impl Fn((usize, usize)) -> bool) -> Vec<(f64, (usize, usize))> {
        if !self.is_complete() {
            return Vec::new();
        }
        let to_explain = self.unexplained().filter(|&(_, pair)| !is_accounted_for(pair));
        in_order(
            to_explain.map(|(score, pair)| (score * weight_of_leaning(self.leaning(pair.0, pair.1)).min(1.0), pair)),
        )
    }
}

/// Pairs with their scores, those with the lowest first.
fn in_order(scored: impl Iterator<Item = (f64, (usize, usize))>) -> Vec<(f64, (usize, usize))> {
    let mut scored: Vec<(f64, (usize, usize))> = scored.collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    scored
}
