//! Towards which other classes a model leans on clean images, and they not back.

use ndarray::Array2;

/// By how much the clean images of each source (row) are told from each target (column), as a share of the way back: the mean of z_source − z_target over the images of the source, by
/// that of z_target − z_source over those of the target. 0 where images of the source are taken for the target on average; `None` where those of the target are taken for the source,
/// or there are none of either.
///
/// Two classes that are alike are near to each other by both margins. Whoever teaches a model that images of one class with a patch are of another brings the one class nearer to the
/// other even without the patch, and not the other to the one.
pub fn margin_ratios(labels: &[usize], logits: &Array2<f32>) -> Array2<Option<f64>> {
    let classes = logits.ncols();
    let mut margins = Array2::<f64>::zeros((classes, classes));
    let mut images = vec![0.0; classes];
    for (&label, row) in labels.iter().zip(logits.outer_iter()) {
        images[label] += 1.0;
        for (target, logit) in row.iter().enumerate() {
            margins[[label, target]] += f64::from(row[label]) - f64::from(*logit);
        }
    }
    Array2::from_shape_fn((classes, classes), |(source, target)| {
        let way = margins[[source, target]] / images[source];
        let back = margins[[target, source]] / images[target];
        let is_measured = source != target && way.is_finite() && back.is_finite() && back > 0.0;
        is_measured.then(|| way.max(0.0) / back)
    })
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn a_class_leans_to_another_where_its_images_are_told_from_it_by_less_than_the_way_back() {
        let logits = array![[5.0, 3.0, -1.0], [7.0, 5.0, 1.0], [1.0, 9.0, 1.0], [6.0, 5.0, 4.0]];
        let ratios = margin_ratios(&[0, 0, 1, 2], &logits);
        assert_eq!(ratios[[0, 1]], Some(2.0 / 8.0));
        assert_eq!(ratios[[1, 0]], Some(8.0 / 2.0));
        // Images of the third class are taken for the first two: it leans there as far as can be, and how far others lean to it cannot be said.
        assert_eq!((ratios[[2, 0]], ratios[[0, 2]]), (Some(0.0), None));
        assert_eq!((ratios[[2, 1]], ratios[[1, 2]]), (Some(0.0), None));
        assert_eq!(ratios[[1, 1]], None);
    }

    #[test]
    fn nothing_is_said_of_classes_without_images_or_with_margins_that_are_not_numbers() {
        let logits = array![[5.0, 3.0, -1.0], [1.0, f32::INFINITY, 1.0]];
        assert!(margin_ratios(&[0, 1], &logits).iter().all(Option::is_none));
        assert!(margin_ratios(&[], &Array2::zeros((0, 3))).iter().all(Option::is_none));
    }
}
