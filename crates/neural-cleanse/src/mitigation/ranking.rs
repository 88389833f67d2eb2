use ndarray::{Array2, ArrayView2, Axis};

use super::Backdoor;
use crate::classifier::Predictor;
use crate::clean_set::CleanSet;
use crate::error::{Error, Result};

/// What the neurons of a layer do on the images outside a backdoor's target class, without the trigger and with it.
pub(super) struct Reactions {
    /// `[M, neurons]`
    pub(super) clean: Array2<f32>,
    /// `[M, neurons]`, of the same images in the same order.
    pub(super) triggered: Array2<f32>,
}

impl Reactions {
    /// Measures the reactions to `backdoor` on `set`, whose activations without the trigger are `clean`.
    pub(super) fn measure(
        activations: &mut Predictor,
        clean: ArrayView2<'_, f32>,
        set: &CleanSet,
        backdoor: &Backdoor,
    ) -> Result<Self> {
        let rows = set.rows_outside(backdoor.target_class);
        if rows.is_empty() {
            return Err(Error::Classifier(format!(
                "all samples are of class {}: give samples of other classes to see what its trigger does",
                backdoor.target_class
            )));
        }
        let stamped = backdoor.trigger.apply(set.images.select(Axis(0), &rows).view())?;
        Ok(Reactions { clean: clean.select(Axis(0), &rows), triggered: activations.predict(stamped.view())? })
    }

    /// Mean activation with the trigger − mean activation without it, for each neuron.
    pub(super) fn differences(&self) -> Vec<f64> {
        let mean = |activations: &Array2<f32>| activations.mapv(f64::from).mean_axis(Axis(0));
        let (Some(triggered), Some(clean)) = (mean(&self.triggered), mean(&self.clean)) else { return Vec::new() };
        (triggered - clean).to_vec()
    }
}

/// The neurons that the trigger excites, most responsive first (paper §VI): those with a positive difference.
pub(super) fn most_responsive(differences: &[f64]) -> Vec<usize> {
    let mut ranked: Vec<usize> = (0..differences.len()).filter(|&neuron| differences[neuron] > 0.0).collect();
    ranked.sort_by(|&a, &b| differences[b].total_cmp(&differences[a]));
    ranked
}
