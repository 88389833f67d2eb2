//! Activation functions. Where the output alone tells the slope it is used, so that the input need not stay in memory.

use super::Pullback;
use super::arithmetic::times;
use crate::Result;

pub(super) fn relu(p: &mut Pullback) -> Result<()> {
    let positive = p.compare(p.output()?, "Greater", 0.0)?;
    give_where(p, &positive)
}

pub(super) fn leaky_relu(p: &mut Pullback) -> Result<()> {
    let alpha = f64::from(p.node().float("alpha", 0.01));
    let g = p.cotangent()?;
    let damped = p.scaled(g, alpha)?;
    give_either(p, g, &damped)
}

/// The slope is broadcast to the shape of the input.
pub(super) fn prelu(p: &mut Pullback) -> Result<()> {
    let (x, slope, g) = (p.input(0)?, p.input(1)?, p.cotangent()?);
    let negative = p.compare(x, "Less", 0.0)?;
    if p.needs(0) {
        let damped = p.mul(g, slope)?;
        let dx = p.apply("Where", &[&negative, &damped, g], ())?;
        p.give(0, &dx)?;
    }
    if p.needs(1) {
        let product = p.mul(g, x)?;
        let dslope = p.masked(&negative, &product)?;
        p.give_summed(1, &dslope)?;
    }
    Ok(())
}

/// The bounds themselves belong to the range, as in PyTorch.
pub(super) fn clip(p: &mut Pullback) -> Result<()> {
    let (x, g) = (p.input(0)?, p.cotangent()?);
    let (min, max) = (p.node().input(1), p.node().input(2));
    if p.needs(0) {
        let mut dx = g.to_owned();
        for (bound, comparison) in [(min, "GreaterOrEqual"), (max, "LessOrEqual")] {
            if let Some(bound) = bound {
                let inside = p.apply(comparison, &[x, bound], ())?;
                dx = p.masked(&inside, &dx)?;
            }
        }
        p.give(0, &dx)?;
    }
    for (i, bound, comparison) in [(1, min, "Less"), (2, max, "Greater")] {
        if let (Some(bound), true) = (bound, p.needs(i)) {
            let outside = p.apply(comparison, &[x, bound], ())?;
            let dbound = p.masked(&outside, g)?;
            p.give_summed(i, &dbound)?;
        }
    }
    Ok(())
}

/// `y(1 - y)`
pub(super) fn sigmoid(p: &mut Pullback) -> Result<()> {
    let y = p.output()?;
    let one = p.scalar(y, 1.0)?;
    let complement = p.sub(&one, y)?;
    let slope = p.mul(y, &complement)?;
    times(p, &slope)
}

/// `1 - y²`
pub(super) fn tanh(p: &mut Pullback) -> Result<()> {
    let y = p.output()?;
    let square = p.mul(y, y)?;
    let one = p.scalar(y, 1.0)?;
    let slope = p.sub(&one, &square)?;
    times(p, &slope)
}

/// Below 0, where `y = α(eˣ - 1)`, the slope is `y + α`.
pub(super) fn elu(p: &mut Pullback) -> Result<()> {
    let alpha = f64::from(p.node().float("alpha", 1.0));
    let g = p.cotangent()?;
    let slope = p.shifted(p.output()?, alpha)?;
    let below = p.mul(g, &slope)?;
    give_either(p, g, &below)
}

/// Below 0, where `y = γα(eˣ - 1)`, the slope is `y + γα`.
pub(super) fn selu(p: &mut Pullback) -> Result<()> {
    let alpha = f64::from(p.node().float("alpha", 1.673_263_2));
    let gamma = f64::from(p.node().float("gamma", 1.050_701));
    let g = p.cotangent()?;
    let above = p.scaled(g, gamma)?;
    let slope = p.shifted(p.output()?, alpha * gamma)?;
    let below = p.mul(g, &slope)?;
    give_either(p, &above, &below)
}

/// Below 0, where `y = α(exp(x/α) - 1)`, the slope is `y/α + 1`.
pub(super) fn celu(p: &mut Pullback) -> Result<()> {
    let alpha = f64::from(p.node().float("alpha", 1.0));
    let g = p.cotangent()?;
    let scaled = p.scaled(p.output()?, 1.0 / alpha)?;
    let slope = p.shifted(&scaled, 1.0)?;
    let below = p.mul(g, &slope)?;
    give_either(p, g, &below)
}

pub(super) fn hard_sigmoid(p: &mut Pullback) -> Result<()> {
    let alpha = f64::from(p.node().float("alpha", 0.2));
    let y = p.output()?;
    let (above, below) = (p.compare(y, "Greater", 0.0)?, p.compare(y, "Less", 1.0)?);
    let inside = p.apply("And", &[&above, &below], ())?;
    let scaled = p.scaled(p.cotangent()?, alpha)?;
    let dx = p.masked(&inside, &scaled)?;
    p.give(0, &dx)
}

/// 0 up to -3, `x/3 + 1/2` up to 3, then 1.
pub(super) fn hard_swish(p: &mut Pullback) -> Result<()> {
    let (x, g) = (p.input(0)?, p.cotangent()?);
    let third = p.scaled(x, 1.0 / 3.0)?;
    let slope = p.shifted(&third, 0.5)?;
    let inside = p.mul(g, &slope)?;
    let high = p.compare(x, "GreaterOrEqual", 3.0)?;
    let above_low = p.compare(x, "Greater", -3.0)?;
    let dx = p.apply("Where", &[&high, g, &inside], ())?;
    let dx = p.masked(&above_low, &dx)?;
    p.give(0, &dx)
}

pub(super) fn softplus(p: &mut Pullback) -> Result<()> {
    let slope = p.apply("Sigmoid", &[p.input(0)?], ())?;
    times(p, &slope)
}

/// `1 / (1 + |x|)²`
pub(super) fn softsign(p: &mut Pullback) -> Result<()> {
    let magnitude = p.apply("Abs", &[p.input(0)?], ())?;
    let denominator = p.shifted(&magnitude, 1.0)?;
    let square = p.mul(&denominator, &denominator)?;
    let dx = p.div(p.cotangent()?, &square)?;
    p.give(0, &dx)
}

/// With `t = tanh(softplus(x))` the slope of `x·t` is `t + x(1 - t²)·sigmoid(x)`.
pub(super) fn mish(p: &mut Pullback) -> Result<()> {
    let x = p.input(0)?;
    let softplus = p.apply("Softplus", &[x], ())?;
    let t = p.apply("Tanh", &[&softplus], ())?;
    let sigmoid = p.apply("Sigmoid", &[x], ())?;
    let square = p.mul(&t, &t)?;
    let one = p.scalar(x, 1.0)?;
    let complement = p.sub(&one, &square)?;
    let inner = p.mul(&complement, &sigmoid)?;
    let second = p.mul(x, &inner)?;
    let slope = p.add(&t, &second)?;
    times(p, &slope)
}

pub(super) fn thresholded_relu(p: &mut Pullback) -> Result<()> {
    let alpha = f64::from(p.node().float("alpha", 1.0));
    let above = p.compare(p.input(0)?, "Greater", alpha)?;
    give_where(p, &above)
}

fn give_where(p: &mut Pullback, condition: &str) -> Result<()> {
    let dx = p.masked(condition, p.cotangent()?)?;
    p.give(0, &dx)
}

/// Gives the input `above` where it is greater than 0 and `below` elsewhere.
fn give_either(p: &mut Pullback, above: &str, below: &str) -> Result<()> {
    let positive = p.compare(p.input(0)?, "Greater", 0.0)?;
    let dx = p.apply("Where", &[&positive, above, below], ())?;
    p.give(0, &dx)
}
