//! Descent by gradients, for triggers and for weights.

mod adam;
mod sgd;

use num_traits::{AsPrimitive, Float};

pub(crate) use adam::Adam;
pub(crate) use sgd::Sgd;

/// How variables follow their gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimiser {
    /// Stochastic gradient descent; `momentum`, in 0..1, is the share of the last step that is taken again.
    Sgd {
        /// 0 for none; 0.9 is usual.
        momentum: f64,
    },
    /// Adam (Kingma & Ba, 2015), whose steps do not depend on the scale of the gradients.
    Adam {
        /// The shares of the gradient's and its square's running means that are kept, each in 0..1; (0.9, 0.999) is
        /// usual.
        betas: (f64, f64),
    },
}

impl Optimiser {
    /// Adam as its authors recommend it, with β = (0.9, 0.999).
    pub const ADAM: Optimiser = Optimiser::Adam { betas: (0.9, 0.999) };

    /// Gradient descent with the usual momentum of 0.9.
    pub const SGD: Optimiser = Optimiser::Sgd { momentum: 0.9 };

    /// Checks that every parameter is in its range.
    ///
    /// # Errors
    /// A sentence which names the first parameter that is not.
    pub fn validate(&self) -> Result<(), String> {
        let share = |name: &str, value: f64| {
            if (0.0..1.0).contains(&value) { Ok(()) } else { Err(format!("{name} must be at least 0 and below 1")) }
        };
        match *self {
            Optimiser::Sgd { momentum } => share("momentum", momentum),
            Optimiser::Adam { betas } => share("the first beta", betas.0).and(share("the second beta", betas.1)),
        }
    }

    /// The descent of one tensor of `len` elements, from rest.
    pub(crate) fn start<T: Element>(self, len: usize) -> Box<dyn Descent<T>>
    where
        f64: AsPrimitive<T>,
    {
        match self {
            Optimiser::Sgd { momentum } => Box::new(Sgd::new(momentum, len)),
            Optimiser::Adam { betas } => Box::new(Adam::new(betas, len)),
        }
    }
}

/// What variables and moments are stored as: f32 or f64. Steps are computed in f64.
pub(crate) trait Element: Float + AsPrimitive<f64> {}

impl Element for f32 {}
impl Element for f64 {}

/// The optimiser of one tensor with what it remembers of former steps.
pub(crate) trait Descent<T> {
    /// Moves `variables` one step of `learning_rate` against `gradient`; both as long as the descent was made for.
    fn step(&mut self, learning_rate: f64, variables: &mut [T], gradient: &[T]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parabola_is_descended_to_its_bottom() {
        for optimiser in [Optimiser::ADAM, Optimiser::Sgd { momentum: 0.0 }, Optimiser::Sgd { momentum: 0.9 }] {
            let (mut x, mut y) = ([5.0_f32], [-3.0_f32]);
            let mut descents = [optimiser.start(1), optimiser.start(1)];
            for _ in 0..600 {
                let gradients = [[2.0 * (x[0] - 2.0)], [8.0 * (y[0] + 1.0)]];
                descents[0].step(0.05, &mut x, &gradients[0]);
                descents[1].step(0.05, &mut y, &gradients[1]);
            }
            assert!((x[0] - 2.0).abs() < 1e-2 && (y[0] + 1.0).abs() < 1e-2, "{optimiser:?}: {x:?} {y:?}");
        }
    }

    #[test]
    fn each_parameter_out_of_range_is_named() {
        assert!(Optimiser::ADAM.validate().is_ok() && Optimiser::Sgd { momentum: 0.9 }.validate().is_ok());
        assert!(Optimiser::Sgd { momentum: 1.0 }.validate().unwrap_err().contains("momentum"));
        assert!(Optimiser::Adam { betas: (-0.1, 0.9) }.validate().unwrap_err().contains("first beta"));
        assert!(Optimiser::Adam { betas: (0.9, f64::NAN) }.validate().unwrap_err().contains("second beta"));
    }
}
