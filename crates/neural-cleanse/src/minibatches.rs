use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

/// Random minibatches without end: the rows of the working set in a shuffled order, shuffled anew when
/// they have all been used.
#[derive(Serialize, Deserialize)]
pub struct Minibatches {
    rows: Vec<usize>,
    position: usize,
    size: usize,
}

impl Minibatches {
    /// Minibatches of `size` rows (of all `rows`, if there are fewer).
    pub fn new(rows: Vec<usize>, size: usize, rng: &mut impl Rng) -> Self {
        let mut minibatches = Minibatches { size: size.min(rows.len()), rows, position: 0 };
        minibatches.rows.shuffle(rng);
        minibatches
    }

    /// The number of minibatches in one pass over all rows; the last may be smaller.
    pub fn in_a_pass(&self) -> usize {
        self.rows.len().div_ceil(self.size.max(1))
    }

    /// The next minibatch. In a pass (`whole_pass`) the last one holds what is left; otherwise all
    /// are of full size.
    pub fn next(&mut self, whole_pass: bool, rng: &mut impl Rng) -> &[usize] {
        let left = self.rows.len() - self.position;
        if left == 0 || (left < self.size && !whole_pass) {
            self.rows.shuffle(rng);
            self.position = 0;
        }
        let start = self.position;
        self.position = (start + self.size).min(self.rows.len());
        &self.rows[start..self.position]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn a_pass_sees_every_row_once() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut minibatches = Minibatches::new((10..20).collect(), 4, &mut rng);
        assert_eq!(minibatches.in_a_pass(), 3);
        for _ in 0..2 {
            let mut seen: Vec<usize> = (0..3).flat_map(|_| minibatches.next(true, &mut rng).to_vec()).collect();
            seen.sort_unstable();
            assert_eq!(seen, (10..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn outside_a_pass_all_are_of_full_size_even_if_there_are_few_rows() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut minibatches = Minibatches::new((0..10).collect(), 4, &mut rng);
        assert!((0..20).all(|_| minibatches.next(false, &mut rng).len() == 4));
        let mut few = Minibatches::new(vec![3, 5], 32, &mut rng);
        assert!((0..5).all(|_| few.next(false, &mut rng).len() == 2));
    }
}
