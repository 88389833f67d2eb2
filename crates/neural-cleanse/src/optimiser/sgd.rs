use num_traits::AsPrimitive;

use super::{Descent, Element};

/// Stochastic gradient descent with momentum: `v ← momentum · v + g`, `x ← x − learning_rate · v`.
#[derive(Debug, Clone)]
pub(crate) struct Sgd<T> {
    momentum: f64,
    velocity: Vec<T>,
}

impl<T: Element> Sgd<T> {
    /// An optimiser for `len` variables.
    pub(crate) fn new(momentum: f64, len: usize) -> Self {
        Sgd { momentum, velocity: vec![T::zero(); len] }
    }
}

impl<T: Element> Descent<T> for Sgd<T>
where
    f64: AsPrimitive<T>,
{
    fn step(&mut self, learning_rate: f64, variables: &mut [T], gradient: &[T]) {
        for ((variable, g), velocity) in variables.iter_mut().zip(gradient).zip(&mut self.velocity) {
            let v = self.momentum * velocity.as_() + g.as_();
            *velocity = v.as_();
            *variable = (variable.as_() - learning_rate * v).as_();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn momentum_takes_a_share_of_the_last_step_again() {
        let mut variable = [1.0_f64];
        let mut sgd = Sgd::new(0.5, 1);
        let mut after = |gradient: f64| {
            sgd.step(0.1, &mut variable, &[gradient]);
            variable[0]
        };
        assert!((after(2.0) - 0.8).abs() < 1e-12);
        assert!((after(0.0) - 0.7).abs() < 1e-12);
        assert!((after(-1.0) - 0.75).abs() < 1e-12);
    }
}
