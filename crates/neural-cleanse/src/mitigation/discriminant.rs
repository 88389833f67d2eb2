//! Fisher's linear discriminant between clean and triggered activations.

use ndarray::{Array1, Array2, ArrayView2, Axis};

/// The share of the mean variance that is added to the variance of every neuron, so that directions in which few
/// images say little do not decide.
const SHRINKAGE: f64 = 0.1;

/// The iterations and the relative residual after which the system counts as solved: weights need few digits.
const MOST_ITERATIONS: usize = 500;
const TOLERANCE: f64 = 1e-5;

/// The weights, one for each neuron, of the sum of activations that best tells the rows of `triggered` `[M, neurons]`
/// from those of `clean` `[N, neurons]`: S⁻¹·(difference of the means), where S is the mean of the two covariances
/// with shrinkage. `None` if the activations do not differ, or not from one image to another.
///
/// Fisher, "The use of multiple measurements in taxonomic problems", 1936. S is never formed: the system is solved
/// by conjugate gradients.
pub(super) fn discriminant(clean: ArrayView2<'_, f32>, triggered: ArrayView2<'_, f32>) -> Option<Array1<f64>> {
    let (clean, clean_mean) = centred(clean)?;
    let (triggered, triggered_mean) = centred(triggered)?;
    let difference = triggered_mean - clean_mean;
    let neurons = difference.len() as f64;
    let variance = |rows: &Array2<f64>| rows.iter().map(|x| x * x).sum::<f64>() / rows.nrows() as f64;
    let ridge = SHRINKAGE * (variance(&clean) + variance(&triggered)) / 2.0 / neurons;
    if ridge <= 0.0 || !ridge.is_finite() || difference.iter().all(|&d| d == 0.0) {
        return None;
    }
    let covariance = |rows: &Array2<f64>, v: &Array1<f64>| rows.t().dot(&rows.dot(v)) / rows.nrows() as f64;
    let apply = |v: &Array1<f64>| (covariance(&clean, v) + covariance(&triggered, v)) / 2.0 + v * ridge;
    Some(conjugate_gradients(apply, &difference))
}

/// `rows` less their mean, and the mean.
fn centred(rows: ArrayView2<'_, f32>) -> Option<(Array2<f64>, Array1<f64>)> {
    let rows = rows.mapv(f64::from);
    let mean = rows.mean_axis(Axis(0))?;
    Some((rows - &mean, mean))
}

/// The solution `x` of `apply(x) = target`, for a symmetric positive definite `apply`.
fn conjugate_gradients(apply: impl Fn(&Array1<f64>) -> Array1<f64>, target: &Array1<f64>) -> Array1<f64> {
    let mut x = Array1::zeros(target.len());
    let mut residual = target.clone();
    let mut direction = residual.clone();
    let mut size = residual.dot(&residual);
    let enough = size * TOLERANCE * TOLERANCE;
    for _ in 0..MOST_ITERATIONS {
        if size <= enough {
            break;
        }
        let image = apply(&direction);
        let step = size / direction.dot(&image);
        x.scaled_add(step, &direction);
        residual.scaled_add(-step, &image);
        let next = residual.dot(&residual);
        direction = &residual + &direction * (next / size);
        size = next;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_neuron_that_varies_anyway_counts_little() {
        // Neuron 0 varies much from image to image and moves by 2, neuron 1 hardly varies and moves by 1.
        let clean = array![[-9.0f32, 0.1], [9.0, -0.1], [-3.0, -0.1], [3.0, 0.1]];
        let triggered = &clean + &array![[2.0f32, 1.0]];
        let weights = discriminant(clean.view(), triggered.view()).unwrap();
        assert!(weights[1] > 3.0 * weights[0].abs(), "{weights}");
    }

    #[test]
    fn the_system_is_solved() {
        let matrix = array![[4.0, 1.0, 0.0], [1.0, 3.0, -1.0], [0.0, -1.0, 2.0]];
        let solution = conjugate_gradients(|v| matrix.dot(v), &array![1.0, 2.0, 3.0]);
        let residual = matrix.dot(&solution) - array![1.0, 2.0, 3.0];
        assert!(residual.iter().all(|r| r.abs() < 1e-4), "{residual}");
    }

    #[test]
    fn activations_that_do_not_differ_have_no_discriminant() {
        let same = array![[1.0f32, 2.0], [2.0, 1.0]];
        assert_eq!(discriminant(same.view(), same.view()), None);
        let constant = Array2::<f32>::ones((3, 2));
        assert_eq!(discriminant(constant.view(), (&constant + 1.0).view()), None);
    }
}
