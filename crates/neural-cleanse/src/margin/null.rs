//! Whether the largest of some statistics is larger than the others lead to expect.

use statrs::function::gamma::{digamma, gamma_ur};

/// The fewest statistics that a distribution is fitted to.
pub const FEWEST: usize = 4;

/// The gamma distribution with the largest likelihood for some positive numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Gamma {
    shape: f64,
    scale: f64,
}

impl Gamma {
    /// `None` for fewer than [`FEWEST`] numbers, and for numbers that are not positive or do not vary.
    fn fitted_to(values: &[f64]) -> Option<Self> {
        if values.len() < FEWEST || values.iter().any(|value| !(value.is_finite() && *value > 0.0)) {
            return None;
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let spread = mean.ln() - values.iter().map(|value| value.ln()).sum::<f64>() / n;
        let shape = shape_of(spread)?;
        Some(Gamma { shape, scale: mean / shape })
    }

    /// The probability of more than `value`.
    fn above(self, value: f64) -> f64 {
        gamma_ur(self.shape, value / self.scale)
    }
}

/// The shape `k` with `ln k − ψ(k) = spread`, by bisection: the left side falls from ∞ to 0.
fn shape_of(spread: f64) -> Option<f64> {
    let (mut low, mut high) = (1e-6_f64.ln(), 1e8_f64.ln());
    let too_low = |logarithm: f64| logarithm - digamma(logarithm.exp()) > spread;
    if !too_low(low) || too_low(high) {
        return None;
    }
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if too_low(middle) { low = middle } else { high = middle }
    }
    Some(low.exp())
}

/// The position of the largest statistic, and the probability that the largest of as many is as large if all are drawn from the
/// gamma distribution that is fitted to the others; `None` where there is none to fit.
pub fn order_statistic_p_value(statistics: &[f64]) -> Option<(usize, f64)> {
    let (position, &largest) = statistics.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
    let others: Vec<f64> =
        statistics.iter().enumerate().filter(|(i, _)| *i != position).map(|(_, value)| *value).collect();
    let above = Gamma::fitted_to(&others)?.above(largest);
    Some((position, -f64::exp_m1(statistics.len() as f64 * f64::ln_1p(-above))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fit_is_a_maximum_of_the_likelihood() {
        let values = [3.0, 4.5, 2.2, 6.1, 3.8, 5.0];
        let fitted = Gamma::fitted_to(&values).unwrap();
        let log_likelihood = |gamma: Gamma| -> f64 {
            let log_density = |x: &f64| {
                (gamma.shape - 1.0) * x.ln()
                    - x / gamma.scale
                    - gamma.shape * gamma.scale.ln()
                    - statrs::function::gamma::ln_gamma(gamma.shape)
            };
            values.iter().map(log_density).sum()
        };
        for (shape, scale) in [(1.01, 1.0), (0.99, 1.0), (1.0, 1.01), (1.0, 0.99)] {
            let other = Gamma { shape: fitted.shape * shape, scale: fitted.scale * scale };
            assert!(log_likelihood(other) < log_likelihood(fitted), "{other:?} and {fitted:?}");
        }
    }

    /// With shape 1 the distribution is exponential, whose tail is known.
    #[test]
    fn the_tail_of_a_gamma_distribution_of_shape_1_is_exponential() {
        let gamma = Gamma { shape: 1.0, scale: 2.0 };
        assert!((gamma.above(3.0) - (-1.5_f64).exp()).abs() < 1e-9);
    }

    #[test]
    fn an_outlier_has_a_small_p_value_and_the_largest_of_equals_none() {
        let usual = [10.0, 11.0, 9.5, 10.4, 8.8, 9.9, 10.8, 11.2, 9.1];
        let (position, p) = order_statistic_p_value(&[&usual[..], &[19.0]].concat()).unwrap();
        assert!(position == 9 && p < 1e-6, "{position}, {p}");
        let (position, p) = order_statistic_p_value(&usual).unwrap();
        assert!(position == 7 && p > 0.1, "{position}, {p}");
    }

    #[test]
    fn where_nothing_can_be_fitted_there_is_no_p_value() {
        for statistics in [&[][..], &[1.0], &[5.0; 10], &[1.0, 2.0, 3.0, 9.0], &[-1.0, 2.0, 3.0, 2.5, 3.1, 9.0]] {
            assert_eq!(order_statistic_p_value(statistics), None, "{statistics:?}");
        }
    }
}
