//! Which pairs are worth searching to the end.

use ndarray::Array2;

use super::columns::ColumnBounds;
use super::figures::likenesses;
use super::source;
use super::table::Table;
use crate::elimination::{self, expected_norms};
use crate::error::Result;
use crate::inversion::Config;
use crate::scan::{Observer, Plan};
use crate::searches::{Contender, Searches};

/// A look at the pairs that are left: after a step, pairs with at least this share of what is expected are dropped.
struct Screening {
    step: usize,
    promising_below: f64,
}

/// When pairs are looked at, for a search of 60 steps. The pairs of two source-specific backdoors were at 0.79, 0.54 and 0.47 at
/// the most; those of all-to-all ones are above, and need not all be followed to the end.
const SCREENING: [Screening; 3] = [
    Screening { step: 20, promising_below: 1.0 },
    Screening { step: 30, promising_below: 0.9 },
    Screening { step: 40, promising_below: 0.75 },
];

/// Up to so many pairs all are searched to the end, which tells natural spread from an attack more clearly.
const FEW_PAIRS: usize = 200;

/// How many pairs that are as expected are finished, to tell how norms shrink.
const REFERENCES: usize = 15;

/// Searches as far as the verdict needs it: all pairs for a while, those that stand out to the end, and then what these
/// are compared with. `table_of` takes norms and likenesses apart, with all else that is known of the pairs. Gives the norms of
/// all pairs, `[source, target]`, and the positions of the pairs that stand for what is usual, where others were dropped.
pub fn search(
    plan: &Plan<'_>,
    contenders: &mut [Contender],
    config: &Config,
    bounds: ColumnBounds,
    table_of: impl Fn(&Array2<Option<f64>>, Array2<Option<f64>>) -> Table,
    observer: &dyn Observer,
) -> Result<(Array2<Option<f64>>, Vec<usize>)> {
    let classes = plan.classifier.classes();
    let mut references = Vec::new();
    if contenders.is_empty() {
        return Ok((norms(contenders, &references, classes), references));
    }
    let mut searches = Searches::new(plan.classifier, &plan.working, config, observer, contenders.len())?;
    if contenders.len() > FEW_PAIRS && is_screened(plan) {
        for look in SCREENING {
            searches.advance(in_the_race(contenders), look.step)?;
            screen(contenders, &mut references, classes, look.promising_below);
        }
    }
    searches.advance(in_the_race(contenders), config.steps)?;
    if !contenders.iter().any(Contender::is_dropped) {
        return Ok((norms(contenders, &references, classes), references));
    }
    let (likenesses, _) = likenesses(plan, contenders, &references)?;
    let decisive = table_of(&norms(contenders, &references, classes), likenesses).decisive(bounds);
    let is_decisive = |contender: &Contender| decisive.contains(&(source(contender), contender.class));
    let mut taken_up: Vec<&mut Contender> =
        contenders.iter_mut().filter(|contender| contender.is_dropped() && is_decisive(contender)).collect();
    if !taken_up.is_empty() {
        taken_up.iter_mut().for_each(|contender| contender.start_again());
        searches.advance(taken_up, config.steps)?;
    }
    Ok((norms(contenders, &references, classes), references))
}

/// Whether pairs are dropped on the way: under the schedule that this was measured for.
fn is_screened(plan: &Plan<'_>) -> bool {
    let [_, height, width] = plan.classifier.image_shape();
    !plan.options.exhaustive && elimination::applies(&plan.options.config, height, width)
}

fn in_the_race(contenders: &mut [Contender]) -> Vec<&mut Contender> {
    contenders.iter_mut().filter(|contender| !contender.is_dropped()).collect()
}

/// Drops the pairs that are as expected, but for the references. Pairs without a trigger yet go on.
fn screen(contenders: &mut [Contender], references: &mut Vec<usize>, classes: usize, promising_below: f64) {
    let table = Table::new(&norms(contenders, references, classes), contenders.len());
    let share = |contender: &Contender| table.share(source(contender), contender.class);
    if references.is_empty() {
        *references = nearest_to_expected(contenders.iter().map(share));
    }
    for (i, contender) in contenders.iter_mut().enumerate() {
        if share(contender).is_some_and(|share| share >= promising_below) && !references.contains(&i) {
            contender.drop_out();
        }
    }
}

/// The positions of the [`REFERENCES`] shares that are nearest to 1.
fn nearest_to_expected(shares: impl Iterator<Item = Option<f64>>) -> Vec<usize> {
    let mut distances: Vec<(f64, usize)> =
        shares.enumerate().filter_map(|(i, share)| Some((share?.ln().abs(), i))).collect();
    distances.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    distances.into_iter().take(REFERENCES).map(|(_, i)| i).collect()
}

/// The norms of all pairs, `[source, target]`; of those that were dropped, what they would be now if they had shrunk since
/// as the references did in the median.
fn norms(contenders: &[Contender], references: &[usize], classes: usize) -> Array2<Option<f64>> {
    let all: Vec<usize> = (0..contenders.len()).collect();
    let expected = expected_norms(contenders, &all, references);
    let mut norms = Array2::from_elem((classes, classes), None);
    for (contender, norm) in contenders.iter().zip(expected) {
        norms[[source(contender), contender.class]] = norm;
    }
    norms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Job;

    fn contender(source: usize, target: usize, norm: f64) -> Contender {
        let mut contender = Contender::of_pair(source, Job::first(target));
        contender.norms.push(Some(norm));
        contender
    }

    fn field(norm: impl Fn(usize, usize) -> f64) -> Vec<Contender> {
        let pairs = (0..6).flat_map(|source| (0..6).map(move |target| (source, target)));
        pairs.filter(|(source, target)| source != target).map(|(s, t)| contender(s, t, norm(s, t))).collect()
    }

    #[test]
    fn pairs_that_are_as_expected_are_dropped_but_for_the_references() {
        let mut contenders = field(|source, target| match (source, target) {
            (2, 4) => 20.0,
            (1, 3) => 75.0,
            (source, target) => 100.0 + (source + target) as f64,
        });
        let mut references = Vec::new();
        screen(&mut contenders, &mut references, 6, 0.9);
        assert_eq!(references.len(), REFERENCES);
        let left: Vec<(usize, usize)> = (contenders.iter().enumerate())
            .filter(|(i, contender)| !contender.is_dropped() && !references.contains(i))
            .map(|(_, contender)| (source(contender), contender.class))
            .collect();
        assert_eq!(left, [(1, 3), (2, 4)]);
    }

    #[test]
    fn a_dropped_pair_counts_as_if_it_had_shrunk_as_the_references_did() {
        let mut contenders = field(|_, _| 100.0);
        contenders[7].drop_out();
        for contender in contenders.iter_mut().filter(|contender| !contender.is_dropped()) {
            contender.norms.push(Some(60.0));
        }
        let norms = norms(&contenders, &[0, 1, 2], 6);
        let (source, target) = (source(&contenders[7]), contenders[7].class);
        assert_eq!((norms[[source, target]], norms[[0, 0]]), (Some(60.0), None));
    }
}
