//! Which classes are worth finishing: all are pre-screened, and the most effort goes to the most promising (in the manner of
//! K-ARM, Shen et al., "Backdoor Scanning for Deep Neural Networks through K-Arm Optimization", ICML 2021).
//!
//! What is assumed of a model, measured in `docs/elimination.md`: a class whose norm ends under the bound of suspicion
//! is, at each step of [`screening`], at less than the share of the median given there.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::detection;
use crate::error::Result;
use crate::inversion::{Config, Norm};
use crate::scan::{Job, Survey};
use crate::searches::{Contender, Searches};

/// With fewer classes than this, all are finished.
pub const FEWEST_CLASSES: usize = 8;

/// With more classes than this, they are pre-screened by their cross-entropy before they have norms.
const MANY_CLASSES: usize = 64;

/// Of many classes, how many are chosen at random to stand for all where norms are compared.
const SAMPLE: usize = 24;

/// How many classes about the median are finished to tell how norms shrink.
const REFERENCES: usize = 7;

/// A look at the classes that are left.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Look {
    /// After this step.
    step: usize,
    /// Classes with at least this share of the median norm are dropped.
    promising_below: f64,
}

/// When norms are looked at, for the schedule of [`Config::fast`]. The bounds are 1.2 times the largest share at which a
/// class was measured that ended under the bound of suspicion.
fn screening(norm: Norm) -> [Look; 3] {
    let bounds = match norm {
        Norm::L1 => [1.2, 0.95, 0.75],
        Norm::L2 | Norm::Inf => [1.35, 1.2, 1.05],
    };
    let look = |(step, promising_below)| Look { step, promising_below };
    [(20, bounds[0]), (30, bounds[1]), (40, bounds[2])].map(look)
}

/// Of many classes: after which steps all but one in how many are dropped, those with the highest cross-entropies.
const PRE_SCREENING: [(usize, usize); 2] = [(3, 3), (8, 8)];

/// Whether `config` is the schedule that the bounds were measured for: [`Config::fast`] under norm 1 or 2.
pub fn applies(config: &Config, height: usize, width: usize) -> bool {
    let Config { seed, classes_per_batch, .. } = *config;
    let measured = Config { seed, classes_per_batch, ..Config::fast(config.norm, height, width) };
    config.norm != Norm::Inf && *config == measured
}

/// Races the classes of `jobs` against each other.
///
/// # Errors
/// As [`Searches::advance`] has them.
pub fn race(searches: &mut Searches<'_>, jobs: &[Job], config: &Config) -> Result<Survey> {
    let mut contenders: Vec<Contender> = jobs.iter().map(|&job| Contender::new(job)).collect();
    let sample = sample(jobs.len(), config.seed);
    if jobs.len() > MANY_CLASSES {
        for (step, part) in PRE_SCREENING {
            searches.advance(in_the_race(&mut contenders), step)?;
            let bound = nth_lowest_cross_entropy(&contenders, (jobs.len() / part).max(MANY_CLASSES));
            drop_unless(&mut contenders, |i, contender| contender.cross_entropy <= bound || sample.contains(&i));
        }
    }
    let mut references = Vec::new();
    for look in screening(config.norm) {
        searches.advance(in_the_race(&mut contenders), look.step)?;
        screen(&mut contenders, &sample, &mut references, look);
    }
    searches.advance(in_the_race(&mut contenders), config.steps)?;
    let typical = expected_norms(&contenders, &sample, &references);
    Ok(Survey::of_race(contenders, &sample, typical, &references))
}

/// Drops the classes whose norms are too large, but for the references, which are chosen when most classes have norms.
fn screen(contenders: &mut [Contender], sample: &[usize], references: &mut Vec<usize>, look: Look) {
    let Some(median) = median_where_most_converged(&expected_norms(contenders, sample, references)) else {
        return;
    };
    if references.is_empty() {
        *references = nearest_to(median, contenders, sample);
    }
    let promising = |contender: &Contender| contender.norm().is_none_or(|norm| norm < look.promising_below * median);
    drop_unless(contenders, |i, contender| promising(contender) || references.contains(&i));
}

/// The positions of the classes whose norms stand for all: all of them, if they are not many.
fn sample(classes: usize, seed: u64) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..classes).collect();
    if classes > MANY_CLASSES {
        positions.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        positions.truncate(SAMPLE);
    }
    positions
}

fn in_the_race(contenders: &mut [Contender]) -> Vec<&mut Contender> {
    contenders.iter_mut().filter(|contender| !contender.is_dropped()).collect()
}

fn drop_unless(contenders: &mut [Contender], stays: impl Fn(usize, &Contender) -> bool) {
    for (i, contender) in contenders.iter_mut().enumerate() {
        if !contender.is_dropped() && !stays(i, contender) {
            contender.drop_out();
        }
    }
}

/// The `n`-th lowest cross-entropy of the classes that are in the race.
fn nth_lowest_cross_entropy(contenders: &[Contender], n: usize) -> f64 {
    let left = contenders.iter().filter(|contender| !contender.is_dropped());
    let mut values: Vec<f64> = left.map(|contender| contender.cross_entropy).collect();
    values.sort_by(f64::total_cmp);
    values.get(n.saturating_sub(1)).copied().unwrap_or(f64::INFINITY)
}

/// The norms of the sample: of a class that was dropped, what its norm would be now if it had shrunk since as the
/// references did in the median; `None` of one without a trigger.
pub(crate) fn expected_norms(contenders: &[Contender], sample: &[usize], references: &[usize]) -> Vec<Option<f64>> {
    let shrink_since = |round: usize| {
        let shrink = |&i: &usize| Some(contenders[i].norm()? / contenders[i].norms.get(round).copied().flatten()?);
        detection::median(&references.iter().filter_map(shrink).collect::<Vec<_>>()).unwrap_or(1.0)
    };
    let expected = |&i: &usize| {
        let contender = &contenders[i];
        let norm = contender.norm()?;
        Some(if contender.is_dropped() { norm * shrink_since(contender.norms.len() - 1) } else { norm })
    };
    sample.iter().map(expected).collect()
}

/// The median of `norms`, where at least three quarters of the classes have one. Classes without count as large.
fn median_where_most_converged(norms: &[Option<f64>]) -> Option<f64> {
    let converged = norms.iter().flatten().count();
    let values: Vec<f64> = norms.iter().map(|norm| norm.unwrap_or(f64::INFINITY)).collect();
    if 4 * converged >= 3 * norms.len() { detection::median(&values) } else { None }
}

/// The [`REFERENCES`] positions of the sample whose norms are nearest to `median`.
fn nearest_to(median: f64, contenders: &[Contender], sample: &[usize]) -> Vec<usize> {
    let distance = |&i: &usize| Some(((contenders[i].norm()? - median).abs(), i));
    let mut distances: Vec<(f64, usize)> = sample.iter().filter_map(distance).collect();
    distances.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    distances.into_iter().take(REFERENCES).map(|(_, i)| i).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inversion::TriggerKind;

    const LOOK: Look = Look { step: 20, promising_below: 1.2 };

    fn field(norms: &[Option<f64>]) -> Vec<Contender> {
        let contender = |(class, norm): (usize, &Option<f64>)| {
            let mut contender = Contender::new(Job::first(class));
            contender.norms.push(*norm);
            contender
        };
        norms.iter().enumerate().map(contender).collect()
    }

    fn dropped(contenders: &[Contender]) -> Vec<usize> {
        (0..contenders.len()).filter(|&i| contenders[i].is_dropped()).collect()
    }

    fn all(contenders: &[Contender]) -> Vec<usize> {
        (0..contenders.len()).collect()
    }

    #[test]
    fn a_class_is_dropped_only_if_its_norm_is_not_under_the_bound() {
        let mut norms = vec![Some(100.0); 9];
        norms.extend([Some(20.0), Some(119.0), Some(121.0), Some(500.0), None]);
        let mut contenders = field(&norms);
        let (sample, mut references) = (all(&contenders), Vec::new());
        screen(&mut contenders, &sample, &mut references, LOOK);
        assert_eq!(references, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(dropped(&contenders), [11, 12], "classes without a trigger go on, as small ones do");
    }

    #[test]
    fn nothing_is_dropped_before_most_classes_have_a_trigger() {
        let mut contenders = field(&[Some(1.0), Some(2.0), Some(9.0), Some(50.0), None, None, None, None]);
        let (sample, mut references) = (all(&contenders), Vec::new());
        screen(&mut contenders, &sample, &mut references, LOOK);
        assert!(dropped(&contenders).is_empty() && references.is_empty());
    }

    #[test]
    fn references_are_finished_however_large_the_later_bound_finds_them() {
        let mut contenders = field(&[Some(100.0); 10]);
        let (sample, mut references) = (all(&contenders), Vec::new());
        screen(&mut contenders, &sample, &mut references, Look { promising_below: 0.5, ..LOOK });
        assert_eq!(dropped(&contenders), [7, 8, 9]);
    }

    /// Without this, the norms of the dropped classes, which were still shrinking, would push the median up and make the
    /// classes that were finished look small.
    #[test]
    fn dropped_classes_count_as_if_they_had_shrunk_as_the_references_did() {
        let mut contenders = field(&[Some(100.0), Some(100.0), Some(120.0), Some(200.0), None]);
        contenders[3].drop_out();
        for (i, norm) in [(0, 50.0), (1, 60.0), (2, 60.0)] {
            contenders[i].norms.push(Some(norm));
        }
        contenders[4].norms.push(Some(150.0));
        let expected = expected_norms(&contenders, &all(&contenders), &[0, 1, 2]);
        assert_eq!(expected, [Some(50.0), Some(60.0), Some(60.0), Some(200.0 * 0.5), Some(150.0)]);
    }

    #[test]
    fn of_many_classes_a_seeded_sample_stands_for_all() {
        assert_eq!(sample(64, 0), (0..64).collect::<Vec<_>>());
        let drawn = sample(1000, 5);
        assert_eq!(drawn.len(), SAMPLE);
        assert_eq!(drawn, sample(1000, 5));
        assert_ne!(drawn, sample(1000, 6));
    }

    #[test]
    fn the_bounds_serve_the_schedule_they_were_measured_for_and_no_other() {
        let fast = Config::fast(Norm::L2, 28, 28);
        assert!(applies(&Config { seed: 9, classes_per_batch: 4, ..fast.clone() }, 28, 28));
        assert!(!applies(&fast, 32, 32));
        assert!(!applies(&Config::fast(Norm::Inf, 28, 28), 28, 28));
        assert!(!applies(&Config { steps: 100, ..fast.clone() }, 28, 28));
        assert!(!applies(&Config { trigger: TriggerKind::Additive, ..fast.clone() }, 28, 28));
        assert!(!applies(&Config { scattered: 0.1, ..fast }, 28, 28));
        assert!(!applies(&Config::default(), 28, 28));
    }
}
