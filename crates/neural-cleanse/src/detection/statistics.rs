//! Median and spread of norms.

/// How the norm of one class stands among those of all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// Norm / median; `None` where the class did not converge or the median is 0.
    pub share: Option<f64>,
    /// The share, [weighed](Statistics::weighed) by opacity.
    pub ratio: Option<f64>,
    /// |norm − median| / (1.4826·MAD); `None` where the class did not converge or the MAD is 0.
    pub anomaly_index: Option<f64>,
}

/// Median, spread and the standing of each class.
///
/// ```
/// use neural_cleanse::detection::Statistics;
///
/// let statistics = Statistics::of(&[Some(70.0), Some(8.0), Some(80.0), None, Some(90.0)]);
/// assert_eq!(statistics.median, Some(75.0));
/// assert!(statistics.standings[1].ratio < Some(0.2));
/// assert_eq!(statistics.standings[3].ratio, None);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// The median of the norms of the classes that converged; `None` if none did.
    pub median: Option<f64>,
    /// The median absolute deviation from it, times 1.4826.
    pub mad: Option<f64>,
    /// How many classes they are statistics of.
    pub classes: usize,
    /// How many of these converged.
    pub converged: usize,
    /// In the order of the norms.
    pub standings: Vec<Standing>,
    /// The median of the typical opacities that the ratios are weighed by; `None` where they are not.
    pub opacity: Option<f64>,
}

/// Makes the MAD of normally distributed numbers their standard deviation.
const CONSISTENCY: f64 = 1.4826;

impl Statistics {
    /// The statistics of `norms`, one for each class, `None` for one that did not converge.
    pub fn of(norms: &[Option<f64>]) -> Self {
        Statistics::among(norms, norms)
    }

    /// How `norms` stand among norms that are `typical` of all classes; `None` for a class that did not converge.
    pub fn among(norms: &[Option<f64>], typical: &[Option<f64>]) -> Self {
        let converged: Vec<f64> = typical.iter().flatten().copied().collect();
        let median = median(&converged);
        let mad = median.and_then(|median| {
            let deviations: Vec<f64> = converged.iter().map(|norm| (norm - median).abs()).collect();
            self::median(&deviations).map(|mad| CONSISTENCY * mad)
        });
        let standing = |norm: &Option<f64>| {
            let share = norm.zip(median).filter(|(_, median)| *median > 0.0).map(|(norm, median)| norm / median);
            let anomaly_index = norm
                .zip(median.zip(mad).filter(|(_, mad)| *mad > 0.0))
                .map(|(norm, (median, mad))| (norm - median).abs() / mad);
            Standing { share, ratio: share, anomaly_index }
        };
        Statistics {
            median,
            mad,
            classes: typical.len(),
            converged: converged.len(),
            standings: norms.iter().map(standing).collect(),
            opacity: None,
        }
    }

    /// The same with ratios that are weighed by the `opacities` of the triggers (see [`Trigger::opacity`](crate::Trigger::opacity)), one for
    /// each class, `None` where it did not converge: a trigger that is fainter than the median of the `typical` ones counts as √(median / opacity) times as large.
    ///
    /// Natural features that a small change imitates come as faint overlays, and a patch is opaque. The weighed norm is that of the
    /// geometric mean of Σm and the effective area (Σm)²/Σm².
    pub fn weighed(mut self, opacities: &[Option<f64>], typical: &[Option<f64>]) -> Self {
        self.opacity = median(&typical.iter().flatten().copied().collect::<Vec<_>>());
        for (standing, &opacity) in self.standings.iter_mut().zip(opacities) {
            let weight = weight(self.opacity, opacity);
            standing.ratio = standing.share.map(|share| share * weight);
        }
        self
    }

    /// The ratio of a further trigger.
    pub(crate) fn ratio_of(&self, norm: f64, opacity: Option<f64>) -> Option<f64> {
        let median = self.median.filter(|median| *median > 0.0)?;
        Some(norm / median * weight(self.opacity, opacity))
    }

    /// The class with the smallest norm, of those that converged.
    pub fn smallest(&self) -> Option<usize> {
        let ratios = self.standings.iter().enumerate().filter_map(|(i, standing)| Some((i, standing.ratio?)));
        ratios.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
    }
}

/// As how many times as large a trigger of `opacity` counts where `typical` is the usual one.
fn weight(typical: Option<f64>, opacity: Option<f64>) -> f64 {
    typical.zip(opacity).map_or(1.0, |(typical, opacity)| (typical / opacity).sqrt().max(1.0))
}

/// The median of `values`; `None` if there are none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_median_mad_ratio_and_index() {
        let statistics = Statistics::of(&[Some(10.0), Some(20.0), None, Some(30.0), Some(40.0)]);
        assert_eq!(statistics.median, Some(25.0));
        assert_eq!(statistics.mad, Some(1.4826 * 10.0));
        assert_eq!(statistics.standings[0].ratio, Some(0.4));
        assert!((statistics.standings[0].anomaly_index.unwrap() - 15.0 / 14.826).abs() < 1e-12);
        assert_eq!(statistics.standings[2], Standing { share: None, ratio: None, anomaly_index: None });
        assert_eq!(statistics.smallest(), Some(0));
    }

    #[test]
    fn faint_triggers_count_as_larger_and_opaque_ones_as_they_are() {
        let norms = [Some(10.0), Some(20.0), None, Some(20.0), Some(40.0)];
        let opacities = [Some(0.1), Some(0.4), None, Some(0.4), Some(0.9)];
        let statistics = Statistics::of(&norms).weighed(&opacities, &opacities);
        let ratios: Vec<Option<f64>> = statistics.standings.iter().map(|standing| standing.ratio).collect();
        assert_eq!(ratios, [Some(1.0), Some(1.0), None, Some(1.0), Some(2.0)]);
        assert_eq!(statistics.standings[0].share, Some(0.5));
        assert_eq!(statistics.ratio_of(10.0, Some(0.1)), Some(1.0));
        assert_eq!(statistics.ratio_of(10.0, None), Some(0.5));
        assert_eq!(Statistics::of(&norms).standings[0].ratio, Some(0.5));
    }

    #[test]
    fn the_index_of_two_classes_is_always_the_same() {
        for norms in [[1.0, 100.0], [5.0, 6.0]] {
            let index = Statistics::of(&norms.map(Some)).standings[0].anomaly_index.unwrap();
            assert!((index - 0.6745).abs() < 1e-3, "{index}");
        }
    }
}
