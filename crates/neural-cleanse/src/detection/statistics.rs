//! Median and spread of norms.

use crate::look::geometric_mean;

/// How one class stands among all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// Norm / median; `None` where the class did not converge or the median is 0.
    pub share: Option<f64>,
    /// Size / usual size: what the ratio rule looks at; `None` where the class did not converge or the usual size is 0.
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
    /// What sizes are compared with: the lower quartile of the [sizes](Statistics::with_sizes), a class that did not converge counting as large, or the
    /// median of the norms, where there are no others; `None` if no class converged.
    pub usual_size: Option<f64>,
    /// What sizes of triggers that are confined to a [`Window`](crate::Window) are compared with ([`Statistics::with_confined_sizes`]), at most the usual size; `None` where that is.
    pub usual_confined_size: Option<f64>,
    /// How many classes they are statistics of.
    pub classes: usize,
    /// How many of these converged.
    pub converged: usize,
    /// In the order of the norms.
    pub standings: Vec<Standing>,
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
        let mad = median.and_then(|median| mad(&converged, median));
        let standing = |norm: &Option<f64>| {
            let share = ratio(*norm, median);
            let anomaly_index = norm
                .zip(median.zip(mad).filter(|(_, mad)| *mad > 0.0))
                .map(|(norm, (median, mad))| (norm - median).abs() / mad);
            Standing { share, ratio: share, anomaly_index }
        };
        Statistics {
            median,
            mad,
            usual_size: median,
            usual_confined_size: median,
            classes: typical.len(),
            converged: converged.len(),
            standings: norms.iter().map(standing).collect(),
        }
    }

    /// The same with ratios of `sizes` instead of norms, one for each class, to the lower quartile of those that are `typical` of all.
    ///
    /// The lower quartile, and not the median: what a class must stand out from is those that come next. Where sizes spread widely by nature, the smallest is far
    /// from the median, too.
    pub fn with_sizes(mut self, sizes: &[Option<f64>], typical: &[Option<f64>]) -> Self {
        self.usual_size = lower_quartile(typical);
        self.usual_confined_size = self.usual_size;
        for (standing, &size) in self.standings.iter_mut().zip(sizes) {
            standing.ratio = ratio(size, self.usual_size);
        }
        self
    }

    /// The same with the median of `sizes`, of confined triggers for classes that are not suspicious, as the usual one of such triggers, where that is less than the usual size.
    /// Of each class the geometric mean of its looks counts, of which there is at least one; a look without a trigger, or with a larger one, counts as the usual size. Without classes it is that.
    ///
    /// Images differ in what a window does to natural triggers: with greyscale ones these grow or vanish, with colour photographs they shrink, though less than patches do.
    pub fn with_confined_sizes(mut self, sizes: &[Vec<Option<f64>>]) -> Self {
        self.usual_confined_size = self.usual_size.map(|usual| {
            let at_most_usual = |size: &Option<f64>| size.map_or(usual, |size| size.min(usual));
            let of_class = |looks: &Vec<Option<f64>>| geometric_mean(looks.iter().map(at_most_usual));
            median(&sizes.iter().map(of_class).collect::<Vec<_>>()).unwrap_or(usual)
        });
        self
    }

    /// The ratio of a further trigger of this size.
    pub(crate) fn ratio_of(&self, size: f64) -> Option<f64> {
        ratio(Some(size), self.usual_size)
    }

    /// Likewise of one that is confined.
    pub(crate) fn confined_ratio_of(&self, size: f64) -> Option<f64> {
        ratio(Some(size), self.usual_confined_size)
    }

    /// The class with the smallest ratio, of those that converged.
    pub fn smallest(&self) -> Option<usize> {
        let ratios = self.standings.iter().enumerate().filter_map(|(i, standing)| Some((i, standing.ratio?)));
        ratios.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
    }
}

fn ratio(value: Option<f64>, usual: Option<f64>) -> Option<f64> {
    value.zip(usual).filter(|(_, usual)| *usual > 0.0).map(|(value, usual)| value / usual)
}

/// What a quarter of `values` is below, by linear interpolation, where what is `None` is above all others; `None` if it is not below that.
pub(crate) fn lower_quartile(values: &[Option<f64>]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().flatten().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let place = values.len().checked_sub(1)? as f64 / 4.0;
    let (below, above) = (*sorted.get(place.floor() as usize)?, *sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

/// The median absolute deviation of `values` from their `median`, made [consistent](CONSISTENCY); `None` if there are none.
pub(crate) fn mad(values: &[f64], median: f64) -> Option<f64> {
    let deviations: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
    self::median(&deviations).map(|mad| CONSISTENCY * mad)
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
    fn ratios_are_those_of_sizes_to_their_lower_quartile() {
        let norms = [Some(10.0), Some(20.0), None, Some(20.0), Some(40.0)];
        let sizes = [Some(2.0), Some(8.0), None, Some(12.0), Some(40.0)];
        let statistics = Statistics::of(&norms).with_sizes(&sizes, &sizes);
        let ratios: Vec<Option<f64>> = statistics.standings.iter().map(|standing| standing.ratio).collect();
        assert_eq!((statistics.median, statistics.usual_size), (Some(20.0), Some(8.0)));
        assert_eq!(ratios, [Some(0.25), Some(1.0), None, Some(1.5), Some(5.0)]);
        assert_eq!(statistics.standings[0].share, Some(0.5));
        assert_eq!(statistics.ratio_of(4.0), Some(0.5));
    }

    #[test]
    fn confined_triggers_are_compared_with_confined_ones_where_those_are_smaller() {
        let usual = |sizes: &[&[Option<f64>]]| {
            let all = [Some(20.0); 5];
            let sizes: Vec<_> = sizes.iter().map(|looks| looks.to_vec()).collect();
            Statistics::of(&all).with_sizes(&all, &all).with_confined_sizes(&sizes).usual_confined_size
        };
        let cases: [(&[&[Option<f64>]], _, _); 3] = [
            (&[&[Some(8.0)], &[Some(12.0)], &[Some(9.0)], &[None]], 10.5, "the median"),
            (&[&[Some(8.0)], &[None], &[Some(70.0)], &[None]], 20.0, "none, or larger, is as usual"),
            (&[&[Some(10.0), Some(40.0)], &[Some(2.0)], &[None, None]], 200.0_f64.sqrt(), "the mean of looks"),
        ];
        for (sizes, expected, why) in cases {
            let usual = usual(sizes).unwrap();
            assert!((usual - expected).abs() < 1e-9, "{why}: {usual}");
        }
        assert_eq!(usual(&[]), Some(20.0));
        let statistics = Statistics::of(&[Some(20.0); 5]).with_confined_sizes(&[vec![Some(10.0)]]);
        assert_eq!(statistics.ratio_of(5.0), Some(0.25));
        assert!((statistics.confined_ratio_of(5.0).unwrap() - 0.5).abs() < 1e-9);
        assert_eq!(Statistics::of(&[None; 3]).with_confined_sizes(&[vec![Some(1.0)]]).usual_confined_size, None);
    }

    #[test]
    fn what_did_not_converge_is_above_the_lower_quartile() {
        let cases = [
            (vec![], None),
            (vec![Some(3.0)], Some(3.0)),
            (vec![None, None], None),
            (vec![Some(4.0), None, Some(2.0), None], Some(3.5)),
            (vec![None, None, None, Some(2.0)], None),
            (vec![Some(5.0), Some(1.0), Some(3.0), Some(2.0), Some(4.0)], Some(2.0)),
        ];
        for (values, quartile) in cases {
            assert_eq!(lower_quartile(&values), quartile, "{values:?}");
        }
    }

    #[test]
    fn the_index_of_two_classes_is_always_the_same() {
        for norms in [[1.0, 100.0], [5.0, 6.0]] {
            let index = Statistics::of(&norms.map(Some)).standings[0].anomaly_index.unwrap();
            assert!((index - 0.6745).abs() < 1e-3, "{index}");
        }
    }
}
