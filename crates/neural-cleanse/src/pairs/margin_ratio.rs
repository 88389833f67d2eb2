//! Towards which other classes a model leans on clean images, and they not back.

use ndarray::Array2;

use crate::detection::mad;

/// The spread of a model counts as this at the least: where all pairs lean as little, the few that do more lean little, too.
const LEAST_SPREAD: f64 = 0.2;

/// By how much the clean images of each source (row) are told from each target (column), as a share of the way back: the mean of z_source − z_target over the images of the source, by
/// that of z_target − z_source over those of the target. `None` where images of either are taken for the other on average, for what the model does not know leans anywhere, or there are
/// none.
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
        let ratio = way / back;
        (way > 0.0 && back > 0.0 && ratio > 0.0 && ratio.is_finite()).then_some(ratio)
    })
}

/// How far the margin ratios of a model are from 1 as a rule: the MAD of their logarithms, whose median is 0, for the ratio of the way back is the inverse; [`LEAST_SPREAD`] at the least.
/// `None` where there are none.
pub fn spread(ratios: &Array2<Option<f64>>) -> Option<f64> {
    let logarithms: Vec<f64> = ratios.iter().flatten().map(|ratio| ratio.ln()).collect();
    mad(&logarithms, 0.0).map(|spread| spread.max(LEAST_SPREAD))
}

/// How far the model leans to the target: by how many of these spreads the logarithm of a ratio is below that of 1.
pub fn leaning(ratio: f64, spread: f64) -> f64 {
    -ratio.ln() / spread
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
        // Images of the third class are taken for the first two: how far it leans there, or they to it, cannot be said.
        for (source, target) in [(2, 0), (0, 2), (2, 1), (1, 2), (1, 1)] {
            assert_eq!(ratios[[source, target]], None, "{source} to {target}");
        }
    }

    #[test]
    fn a_model_leans_by_its_own_spread() {
        let ratios = |near: f64, far: f64| {
            array![
                [None, Some(near), Some(far)],
                [Some(1.0 / near), None, Some(near)],
                [Some(1.0 / far), Some(1.0 / near), None]
            ]
        };
        let spread_of = |near: f64, far: f64| spread(&ratios(near, far)).unwrap();
        assert!((spread_of(0.8, 0.2) - 1.4826 * 0.8_f64.ln().abs()).abs() < 1e-12);
        // It is as little as can be where next to none do.
        assert!((leaning(0.8, spread_of(0.99, 0.8)) - leaning(0.8, 0.2)).abs() < 1e-12);
        assert!((leaning(0.8, spread_of(0.8, 0.2)) - 1.0 / 1.4826).abs() < 1e-12);
        assert!((leaning(1.0 / 0.8, spread_of(0.8, 0.2)) + 1.0 / 1.4826).abs() < 1e-12);
        // A pair leans less in a model whose pairs lean anyway.
        assert!(leaning(0.2, spread_of(0.8, 0.2)) > 2.0 * leaning(0.2, spread_of(0.5, 0.2)));
        assert_eq!((spread_of(1.0, 1.0), spread(&array![[None]])), (0.2, None));
    }

    #[test]
    fn nothing_is_said_of_classes_without_images_or_with_margins_that_are_not_numbers() {
        let logits = array![[5.0, 3.0, -1.0], [1.0, f32::INFINITY, 1.0]];
        assert!(margin_ratios(&[0, 1], &logits).iter().all(Option::is_none));
        assert!(margin_ratios(&[], &Array2::zeros((0, 3))).iter().all(Option::is_none));
    }
}
