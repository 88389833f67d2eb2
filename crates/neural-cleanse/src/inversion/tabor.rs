//! Regularisers of TABOR (Guo et al., TABOR: A Highly Accurate Approach to Inspecting and Restoring Trojan Backdoors in AI
//! Systems, 2019, §4.2) that speak of mask `m` and pattern `p` alone, both in 0..=1. Each is applied to `m` and to what the
//! mask leaves of the pattern, `u = (1 − m)·p`.

use super::Config;

/// The gradient of `config.overly_large · R₁ + config.scattered · R₂` with respect to the mask, and that with respect to the pattern.
/// R₁ is the elastic net Σv + Σv², R₂ the sum of the squared differences of neighbours in rows and columns.
pub fn gradient(
    config: &Config,
    mask: &[f64],
    pattern: &[f64],
    [channels, height, width]: [usize; 3],
) -> (Vec<f64>, Vec<f64>) {
    let pixels = height * width;
    // A mask that the channels share is the same for each of them.
    let place = |i: usize| if mask.len() == pixels { i % pixels } else { i };
    let left: Vec<f64> = pattern.iter().enumerate().map(|(i, p)| (1.0 - mask[place(i)]) * p).collect();
    let mut by_mask = of_values(config, mask, [mask.len() / pixels, height, width]);
    let by_left = of_values(config, &left, [channels, height, width]);
    for (i, (by_left, p)) in by_left.iter().zip(pattern).enumerate() {
        by_mask[place(i)] -= by_left * p;
    }
    let by_pattern = by_left.iter().enumerate().map(|(i, by_left)| by_left * (1.0 - mask[place(i)])).collect();
    (by_mask, by_pattern)
}

fn of_values(config: &Config, values: &[f64], [channels, height, width]: [usize; 3]) -> Vec<f64> {
    let mut gradient: Vec<f64> = values.iter().map(|v| config.overly_large * (1.0 + 2.0 * v)).collect();
    let mut difference = |a: usize, b: usize| {
        let change = 2.0 * config.scattered * (values[a] - values[b]);
        gradient[a] += change;
        gradient[b] -= change;
    };
    for row in 0..channels * height {
        for x in 0..width {
            let at = row * width + x;
            if x + 1 < width {
                difference(at, at + 1);
            }
            if row % height + 1 < height {
                difference(at, at + width);
            }
        }
    }
    gradient
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [2, 3, 2];

    /// R₁ and R₂, as the paper writes them.
    fn value(config: &Config, mask: &[f64], pattern: &[f64]) -> f64 {
        let [_, height, width] = SHAPE;
        let pixels = height * width;
        let left: Vec<f64> = (0..pattern.len())
            .map(|i| (1.0 - mask[if mask.len() == pixels { i % pixels } else { i }]) * pattern[i])
            .collect();
        let of = |values: &[f64]| {
            let elastic: f64 = values.iter().map(|v| v.abs() + v * v).sum();
            let mut smooth = 0.0;
            for channel in values.chunks(pixels) {
                let at = |y: usize, x: usize| channel[y * width + x];
                smooth += (0..height).map(|y| (at(y, 0) - at(y, 1)).powi(2)).sum::<f64>();
                smooth +=
                    (0..width).map(|x| (at(0, x) - at(1, x)).powi(2) + (at(1, x) - at(2, x)).powi(2)).sum::<f64>();
            }
            config.overly_large * elastic + config.scattered * smooth
        };
        of(mask) + of(&left)
    }

    #[test]
    fn the_gradients_agree_with_finite_differences() {
        let config = Config { overly_large: 0.7, scattered: 1.3, ..Config::default() };
        let value_at = |i: usize| (i * 37 % 19) as f64 / 20.0 + 0.02;
        let pattern: Vec<f64> = (0..12).map(value_at).collect();
        for mask_len in [6, 12] {
            let mask: Vec<f64> = (20..20 + mask_len).map(value_at).collect();
            let (by_mask, by_pattern) = gradient(&config, &mask, &pattern, SHAPE);
            let gradient = [by_mask, by_pattern].concat();
            for (i, gradient) in gradient.into_iter().enumerate() {
                let moved = |by: f64| {
                    let (mut mask, mut pattern) = (mask.clone(), pattern.clone());
                    *mask.iter_mut().chain(&mut pattern).nth(i).unwrap() += by;
                    value(&config, &mask, &pattern)
                };
                let difference = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!((gradient - difference).abs() < 1e-6, "{mask_len}, entry {i}: {gradient} and {difference}");
            }
        }
    }
}
