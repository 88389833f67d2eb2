//! Normalisation.

use super::Pullback;
use crate::{Attributes, Result};

/// Batch normalisation as it is at inference, with given mean and variance per channel.
pub(super) fn batch(p: &mut Pullback) -> Result<()> {
    if p.node().int("training_mode", 0) != 0 {
        return Err(p.error("is in training mode; export the model for inference"));
    }
    let (x, g) = (p.input(0)?, p.cotangent()?);
    let shape = p.shape(x)?;
    let channels = per_channel(&shape);
    let scale = p.reshaped(p.input(1)?, &channels)?;
    let mean = p.reshaped(p.input(3)?, &channels)?;
    let variance = p.reshaped(p.input(4)?, &channels)?;
    let deviation = deviation(p, &variance)?;
    let slope = p.div(&scale, &deviation)?;
    if p.needs(0) {
        let dx = p.mul(g, &slope)?;
        p.give(0, &dx)?;
    }

    let rest: Vec<usize> = (0..shape.len()).filter(|&axis| axis != 1).collect();
    if p.needs(2) {
        let dbias = p.summed(g, &rest, false)?;
        p.give(2, &dbias)?;
    }
    if p.needs(3) {
        let sum = p.summed(g, &rest, true)?;
        let product = p.mul(&sum, &slope)?;
        let dmean = p.neg(&product)?;
        give_per_channel(p, 3, &dmean)?;
    }
    if p.needs(1) || p.needs(4) {
        let centred = p.sub(x, &mean)?;
        let product = p.mul(g, &centred)?;
        let sum = p.summed(&product, &rest, true)?;
        let dscale = p.div(&sum, &deviation)?;
        if p.needs(1) {
            give_per_channel(p, 1, &dscale)?;
        }
        if p.needs(4) {
            // d/dv (v + ε)^(-1/2) = -1/2 (v + ε)^(-3/2)
            let product = p.mul(&dscale, &slope)?;
            let quotient = p.div(&product, &deviation)?;
            let dvariance = p.scaled(&quotient, -0.5)?;
            give_per_channel(p, 4, &dvariance)?;
        }
    }
    Ok(())
}

/// Normalisation over the axes from `axis` on; scale and bias are broadcast.
pub(super) fn layer(p: &mut Pullback) -> Result<()> {
    let rank = p.shape(p.input(0)?)?.len();
    let first = p.axis(p.node().int("axis", -1), rank)?;
    let scale = p.input(1)?.to_owned();
    normalized(p, &scale, &(first..rank).collect::<Vec<_>>())
}

/// Normalisation over the spatial axes, with a scale and a bias per channel.
pub(super) fn instance(p: &mut Pullback) -> Result<()> {
    let shape = p.shape(p.input(0)?)?;
    let scale = p.reshaped(p.input(1)?, &per_channel(&shape))?;
    normalized(p, &scale, &(2..shape.len()).collect::<Vec<_>>())
}

/// `y = n·scale + bias` with `n = (x - mean) / deviation`, both of them over `axes`. With `h` the
/// cotangent of `n` that of `x` is `(h - mean(h) - n·mean(h·n)) / deviation`.
fn normalized(p: &mut Pullback, scale: &str, axes: &[usize]) -> Result<()> {
    let (x, g) = (p.input(0)?, p.cotangent()?);
    let mean = p.reduced("ReduceMean", x, axes, true)?;
    let centred = p.sub(x, &mean)?;
    let square = p.mul(&centred, &centred)?;
    let variance = p.reduced("ReduceMean", &square, axes, true)?;
    let deviation = deviation(p, &variance)?;
    let n = p.div(&centred, &deviation)?;
    if p.needs(0) {
        let h = p.mul(g, scale)?;
        let mean_h = p.reduced("ReduceMean", &h, axes, true)?;
        let product = p.mul(&h, &n)?;
        let mean_product = p.reduced("ReduceMean", &product, axes, true)?;
        let along = p.mul(&n, &mean_product)?;
        let rest = p.sub(&h, &mean_h)?;
        let rest = p.sub(&rest, &along)?;
        let dx = p.div(&rest, &deviation)?;
        p.give(0, &dx)?;
    }
    let scale_shape = p.shape(scale)?;
    if p.needs(1) {
        let product = p.mul(g, &n)?;
        let dscale = p.sum_to(&product, &scale_shape)?;
        give_per_channel(p, 1, &dscale)?;
    }
    if p.needs(2) {
        let bias_shape = p.shape(p.input(2)?)?;
        let shape = if p.node().op == "InstanceNormalization" { scale_shape } else { bias_shape };
        let dbias = p.sum_to(g, &shape)?;
        give_per_channel(p, 2, &dbias)?;
    }
    Ok(())
}

/// `y = x·s^(-β)` with `s = bias + α·mean(x²)` over the channels around each. The cotangent of `x` is
/// `g·s^(-β) - 2αβ·x·mean'(g·y/s)`, where `mean'` is over the channels in whose windows a channel is.
pub(super) fn local_response(p: &mut Pullback) -> Result<()> {
    let (x, y, g) = (p.input(0)?, p.output()?, p.cotangent()?);
    let number = |name, default| f64::from(p.node().float(name, default));
    let (alpha, beta, bias) = (number("alpha", 1e-4), number("beta", 0.75), number("bias", 1.0));
    // A window that reaches beyond all channels need not be as large as it says.
    let (size, channels) = (p.node().int("size", 1), p.shape(x)?[1] as i64);
    let (before, after) = (((size - 1) / 2).min(channels), (size / 2).min(channels));
    let alpha = alpha * (before + 1 + after) as f64 / size as f64;

    let square = p.mul(x, x)?;
    let mean = channel_mean(p, &square, before, after)?;
    let mean = p.scaled(&mean, alpha)?;
    let s = p.shifted(&mean, bias)?;
    let exponent = p.scalar(x, -beta)?;
    let slope = p.apply("Pow", &[&s, &exponent], ())?;
    let direct = p.mul(g, &slope)?;

    let product = p.mul(g, y)?;
    let quotient = p.div(&product, &s)?;
    let mean = channel_mean(p, &quotient, after, before)?;
    let product = p.mul(x, &mean)?;
    let through_s = p.scaled(&product, 2.0 * alpha * beta)?;
    let dx = p.sub(&direct, &through_s)?;
    p.give(0, &dx)
}

/// The mean over each channel, those `before` it and those `after` it; missing ones count as 0.
fn channel_mean(p: &mut Pullback, a: &str, before: i64, after: i64) -> Result<String> {
    let shape = p.shape(a)?;
    let columns = p.reshaped(a, &[shape[0], 1, shape[1], shape[2..].iter().product()])?;
    let attributes = Attributes::new()
        .with("kernel_shape", vec![before + 1 + after, 1])
        .with("pads", vec![before, 0, after, 0])
        .with("count_include_pad", 1);
    let mean = p.apply("AveragePool", &[&columns], attributes)?;
    p.reshaped(&mean, &shape)
}

/// `sqrt(variance + ε)`
fn deviation(p: &mut Pullback, variance: &str) -> Result<String> {
    let epsilon = f64::from(p.node().float("epsilon", 1e-5));
    let shifted = p.shifted(variance, epsilon)?;
    p.apply("Sqrt", &[&shifted], ())
}

/// The shape under which a value per channel is broadcast to `shape`.
fn per_channel(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|axis| if axis == 1 { shape[axis] } else { 1 }).collect()
}

/// Gives input `i` a cotangent that has the axes of extent 1 which broadcasting needed.
fn give_per_channel(p: &mut Pullback, i: usize, value: &str) -> Result<()> {
    let shape = p.shape(p.input(i)?)?;
    let cotangent = p.reshaped(value, &shape)?;
    p.give(i, &cotangent)
}
