//! Softmax and its logarithm, over one axis.

use super::Pullback;
use crate::Result;

/// `y (g - Σ g·y)`
pub(super) fn softmax(p: &mut Pullback) -> Result<()> {
    let (y, g, axis) = (p.output()?, p.cotangent()?, axis(p)?);
    let weighted = p.mul(g, y)?;
    let sum = p.summed(&weighted, &[axis], true)?;
    let share = p.mul(y, &sum)?;
    let dx = p.sub(&weighted, &share)?;
    p.give(0, &dx)
}

/// `g - exp(y) Σ g`
pub(super) fn log_softmax(p: &mut Pullback) -> Result<()> {
    let (y, g, axis) = (p.output()?, p.cotangent()?, axis(p)?);
    let sum = p.summed(g, &[axis], true)?;
    let softmax = p.apply("Exp", &[y], ())?;
    let share = p.mul(&softmax, &sum)?;
    let dx = p.sub(g, &share)?;
    p.give(0, &dx)
}

fn axis(p: &Pullback) -> Result<usize> {
    let rank = p.shape(p.input(0)?)?.len();
    p.axis(p.node().int("axis", -1), rank)
}
