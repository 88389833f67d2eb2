//! What rows of logits say: the class of each, and how right they are.

use ndarray::{Array2, ArrayView1};

/// The class with the largest logit in each row of `logits`; of equal ones the first.
pub fn classes_of(logits: &Array2<f32>) -> Vec<usize> {
    let largest = |row: ArrayView1<'_, f32>| {
        let mut best = 0;
        for (class, &logit) in row.iter().enumerate() {
            if logit > row[best] {
                best = class;
            }
        }
        best
    };
    logits.outer_iter().map(largest).collect()
}

/// The share of the classes `predicted` that are as `labels` say, in 0..=1; 0 if there are none.
pub fn share_right(predicted: &[usize], labels: &[usize]) -> f64 {
    let right = predicted.iter().zip(labels).filter(|(predicted, label)| predicted == label).count();
    right as f64 / labels.len().max(1) as f64
}

/// The mean cross-entropy of rows of `logits` towards class `target`, in nats; 0 if there are none.
pub fn cross_entropy(logits: &Array2<f32>, target: usize) -> f64 {
    let of_row = |row: ArrayView1<'_, f32>| {
        let largest = row.fold(f64::NEG_INFINITY, |largest, &logit| largest.max(f64::from(logit)));
        let sum: f64 = row.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
        largest + sum.ln() - f64::from(row[target])
    };
    logits.outer_iter().map(of_row).sum::<f64>() / logits.nrows().max(1) as f64
}

/// `labels` as rows with a 1 at the label.
pub fn one_hot(labels: &[usize], classes: usize) -> Array2<f32> {
    let mut rows = Array2::zeros((labels.len(), classes));
    for (mut row, &label) in rows.outer_iter_mut().zip(labels) {
        row[label] = 1.0;
    }
    rows
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn cross_entropy_is_a_mean_over_rows_whatever_the_logits_have_in_common() {
        let logits = array![[0.0, 0.0], [3_f32.ln(), 0.0]];
        let expected = (2_f64.ln() + 4_f64.ln()) / 2.0;
        for offset in [0.0, 900.0] {
            let measured = cross_entropy(&(&logits + offset), 1);
            assert!((measured - expected).abs() < 1e-4, "{measured}");
        }
        assert_eq!(cross_entropy(&Array2::zeros((0, 2)), 1), 0.0);
    }
}
