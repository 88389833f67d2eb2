use num_traits::AsPrimitive;
use serde::{Deserialize, Serialize};

use super::{Descent, Element};

/// Adam (Kingma & Ba, 2015).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Adam<T> {
    betas: (f64, f64),
    first_moment: Vec<T>,
    second_moment: Vec<T>,
    steps: i32,
}

const EPSILON: f64 = 1e-8;

impl<T: Element> Adam<T> {
    /// An optimiser for `len` variables.
    pub(crate) fn new(betas: (f64, f64), len: usize) -> Self {
        let zeros = vec![T::zero(); len];
        Adam { betas, first_moment: zeros.clone(), second_moment: zeros, steps: 0 }
    }
}

impl<T: Element> Descent<T> for Adam<T>
where
    f64: AsPrimitive<T>,
{
    fn step(&mut self, learning_rate: f64, variables: &mut [T], gradient: &[T]) {
        self.steps = self.steps.saturating_add(1);
        let (beta_1, beta_2) = self.betas;
        let correction_1 = 1.0 - beta_1.powi(self.steps);
        let correction_2 = 1.0 - beta_2.powi(self.steps);
        let moments = self.first_moment.iter_mut().zip(&mut self.second_moment);
        for ((variable, g), (first, second)) in variables.iter_mut().zip(gradient).zip(moments) {
            let g: f64 = g.as_();
            let m = beta_1 * first.as_() + (1.0 - beta_1) * g;
            let v = beta_2 * second.as_() + (1.0 - beta_2) * g * g;
            let change = learning_rate * (m / correction_1) / ((v / correction_2).sqrt() + EPSILON);
            *first = m.as_();
            *second = v.as_();
            *variable = (variable.as_() - change).as_();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_has_the_length_of_the_learning_rate() {
        let mut variables = [1.0_f64, -1.0, 0.0];
        Adam::new((0.5, 0.9), 3).step(0.1, &mut variables, &[1e-3, -50.0, 0.0]);
        let expected = [0.9, -0.9, 0.0];
        for (value, expected) in variables.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-5, "{value} is not {expected}");
        }
    }

    #[test]
    fn steps_are_those_of_the_paper() {
        // Worked out by hand: m = (0.2, 0.08), v = (0.004, 0.004996) for gradients of 2 and -1.
        let mut variable = [1.0_f64];
        let mut adam = Adam::new((0.9, 0.999), 1);
        adam.step(0.1, &mut variable, &[2.0]);
        adam.step(0.1, &mut variable, &[-1.0]);
        let second = 0.1 * (0.08 / 0.19) / (0.004996_f64 / 0.001999).sqrt();
        assert!((variable[0] - (1.0 - 0.1 - second)).abs() < 1e-7, "{}", variable[0]);
    }
}
