use std::collections::HashMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// An order of `count` samples that the seed decides.
///
/// With labels, the classes take turns in a shuffled order; a class that is used up
/// drops out.
pub(super) fn order(labels: Option<&[usize]>, count: usize, seed: u64) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut samples: Vec<usize> = (0..count).collect();
    samples.shuffle(&mut random);
    let Some(labels) = labels else { return samples };

    let mut classes = labels.to_vec();
    classes.sort_unstable();
    classes.dedup();
    classes.shuffle(&mut random);
    let turns: HashMap<usize, usize> = classes.iter().enumerate().map(|(turn, class)| (*class, turn)).collect();

    // A sample's round is the number of samples of its class before it.
    let mut seen = vec![0_usize; classes.len()];
    let mut order: Vec<(usize, usize, usize)> = Vec::with_capacity(count);
    for sample in samples {
        let turn = turns[&labels[sample]];
        order.push((seen[turn], turn, sample));
        seen[turn] += 1;
    }
    order.sort_unstable();
    order.into_iter().map(|(_, _, sample)| sample).collect()
}

/// Parts `order` into `held_out` samples and the rest, both in that order. No class gives more than its share, and each keeps a sample
/// of its own among the rest, unless there are not enough others.
pub(super) fn part(order: Vec<usize>, labels: Option<&[usize]>, held_out: usize) -> (Vec<usize>, Vec<usize>) {
    let count = order.len();
    let class_of = |sample: usize| labels.map_or(0, |labels| labels[sample]);
    let mut can_give: HashMap<usize, usize> = HashMap::new();
    order.iter().for_each(|&sample| *can_give.entry(class_of(sample)).or_default() += 1);
    let mut left = held_out.min(count);
    can_give.values_mut().for_each(|n| *n = (*n * left).div_ceil(count).min(*n - 1));

    let mut is_held_out = vec![false; count];
    for (taken, &sample) in is_held_out.iter_mut().zip(&order) {
        let gives = can_give.entry(class_of(sample)).or_default();
        if left > 0 && *gives > 0 {
            (*gives, left, *taken) = (*gives - 1, left - 1, true);
        }
    }
    // Those that their classes could have kept.
    is_held_out.iter_mut().filter(|taken| !**taken).take(left).for_each(|taken| *taken = true);
    let mut is_held_out = is_held_out.into_iter();
    order.into_iter().partition(|_| is_held_out.next() == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These orders must not change: reports name a seed to be repeatable.
    #[test]
    fn orders_are_the_same_for_ever_and_everywhere() {
        assert_eq!(order(None, 8, 1), [3, 4, 5, 2, 7, 1, 6, 0]);
        assert_eq!(order(Some(&[0, 0, 0, 0, 5, 5, 2, 2]), 8, 1), [7, 4, 3, 6, 5, 2, 1, 0]);
    }

    #[test]
    fn classes_take_turns_until_they_are_used_up() {
        let labels = [0, 0, 0, 0, 5, 5, 2];
        let order = order(Some(&labels), labels.len(), 4);
        let classes: Vec<usize> = order.iter().map(|sample| labels[*sample]).collect();
        let sorted = |round: &[usize]| {
            let mut round = round.to_vec();
            round.sort_unstable();
            round
        };
        assert_eq!(sorted(&classes[..3]), [0, 2, 5]);
        assert_eq!(sorted(&classes[3..5]), [0, 5]);
        assert_eq!(classes[5..], [0, 0]);
    }

    #[test]
    fn a_rare_class_is_on_both_sides() {
        // Of 1,000 samples three classes have 10, 2 and 1.
        let labels: Vec<usize> =
            (0..1000).map(|k| [1, 1, 2].get(k).copied().unwrap_or(if k < 13 { 3 } else { 0 })).collect();
        for (held_out, expected) in [(750, [741, 1, 0, 8]), (200, [197, 1, 0, 2])] {
            let (measured, rest) = part(order(Some(&labels), 1000, 4), Some(&labels), held_out);
            let of = |class| measured.iter().filter(|&&sample| labels[sample] == class).count();
            assert_eq!([0, 1, 2, 3].map(of), expected);
            assert_eq!((measured.len(), rest.len()), (held_out, 1000 - held_out));
            let mut all = [measured, rest].concat();
            all.sort_unstable();
            assert_eq!(all, (0..1000).collect::<Vec<_>>());
        }
        // Where there is nothing else to hold out, a class is not kept from it.
        let (measured, rest) = part(vec![2, 0, 1], Some(&[5, 6, 7]), 2);
        assert_eq!((measured, rest), (vec![2, 0], vec![1]));
    }

    /// Nor must these.
    #[test]
    fn of_classes_of_one_size_the_first_in_order_are_held_out() {
        let labels: Vec<usize> = (0..103).map(|k| k % 10).collect();
        let order = order(Some(&labels), 103, 7);
        for held_out in [0, 1, 20, 25, 103] {
            let (measured, rest) = part(order.clone(), Some(&labels), held_out);
            assert_eq!([measured, rest].concat(), order, "{held_out}");
        }
    }
}
