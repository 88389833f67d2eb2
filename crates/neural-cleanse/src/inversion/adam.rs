/// Adam (Kingma & Ba, 2015) with the moments of the Neural Cleanse paper, β = (0.5, 0.9).
#[derive(Debug, Clone)]
pub struct Adam {
    learning_rate: f64,
    first_moment: Vec<f64>,
    second_moment: Vec<f64>,
    steps: i32,
}

const BETA_1: f64 = 0.5;
const BETA_2: f64 = 0.9;
const EPSILON: f64 = 1e-8;

impl Adam {
    /// An optimiser for `len` variables.
    pub fn new(learning_rate: f64, len: usize) -> Self {
        Adam { learning_rate, first_moment: vec![0.0; len], second_moment: vec![0.0; len], steps: 0 }
    }

    /// Moves `variables` one step against `gradient`; both as long as the optimiser was made for.
    pub fn step(&mut self, variables: &mut [f64], gradient: &[f64]) {
        self.steps = self.steps.saturating_add(1);
        let correction_1 = 1.0 - BETA_1.powi(self.steps);
        let correction_2 = 1.0 - BETA_2.powi(self.steps);
        let moments = self.first_moment.iter_mut().zip(&mut self.second_moment);
        for ((variable, &g), (m, v)) in variables.iter_mut().zip(gradient).zip(moments) {
            *m = BETA_1 * *m + (1.0 - BETA_1) * g;
            *v = BETA_2 * *v + (1.0 - BETA_2) * g * g;
            *variable -= self.learning_rate * (*m / correction_1) / ((*v / correction_2).sqrt() + EPSILON);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_has_the_length_of_the_learning_rate() {
        let mut variables = [1.0, -1.0, 0.0];
        Adam::new(0.1, 3).step(&mut variables, &[1e-3, -50.0, 0.0]);
        let expected = [0.9, -0.9, 0.0];
        for (value, expected) in variables.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-5, "{value} is not {expected}");
        }
    }

    #[test]
    fn a_parabola_is_descended_to_its_bottom() {
        let mut x = [5.0];
        let mut adam = Adam::new(0.1, 1);
        for _ in 0..300 {
            let gradient = [2.0 * (x[0] - 2.0)];
            adam.step(&mut x, &gradient);
        }
        assert!((x[0] - 2.0).abs() < 1e-2, "{}", x[0]);
    }
}
