//! Which classes a model takes for one another without any trigger.

use ndarray::{Array2, Axis};

use crate::logits::classes_of;

/// With fewer images of a class taken for another than this, it might be the image.
const FEWEST_CONFUSED: f64 = 2.0;

/// The share of the clean images of each class (row) that the model takes for each (column), by their `labels` and its `logits`; 0 where these are fewer than [`FEWEST_CONFUSED`].
pub fn confusion(labels: &[usize], logits: &Array2<f32>) -> Array2<f64> {
    let classes = logits.len_of(Axis(1));
    let mut shares = Array2::<f64>::zeros((classes, classes));
    for (&label, predicted) in labels.iter().zip(classes_of(logits)) {
        shares[[label, predicted]] += 1.0;
    }
    for mut row in shares.outer_iter_mut() {
        let images = row.sum().max(1.0);
        row.mapv_inplace(|count| if count < FEWEST_CONFUSED { 0.0 } else { count / images });
    }
    shares
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn confusion_is_by_class_and_takes_more_than_one_image() {
        let as_first = [9.0, 0.0, 1.0];
        let logits = array![as_first, as_first, [0.0, 1.0, 0.0], [0.0, 0.0, 5.0], [0.0, 0.0, 3.0], [0.0, 0.0, 3.0]];
        let shares = confusion(&[0, 0, 0, 0, 2, 2], &logits);
        assert_eq!(shares, array![[0.5, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]);
        assert_eq!(confusion(&[0, 0, 1, 1, 1, 1], &logits)[[1, 2]], 0.75);
    }
}
