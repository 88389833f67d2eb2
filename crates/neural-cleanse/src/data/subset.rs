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
}
