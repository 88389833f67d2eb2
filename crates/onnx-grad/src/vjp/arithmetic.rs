//! Elementwise arithmetic, with broadcasting.

use super::Pullback;
use crate::Result;
use crate::opset::STRAIGHT_THROUGH;

pub(super) fn add(p: &mut Pullback) -> Result<()> {
    sum(p)
}

pub(super) fn sum(p: &mut Pullback) -> Result<()> {
    let g = p.cotangent()?;
    give_all(p, g)
}

pub(super) fn mean(p: &mut Pullback) -> Result<()> {
    let count = p.node().inputs.len() as f64;
    let g = p.scaled(p.cotangent()?, 1.0 / count)?;
    give_all(p, &g)
}

fn give_all(p: &mut Pullback, g: &str) -> Result<()> {
    for i in 0..p.node().inputs.len() {
        if p.needs(i) {
            p.give_summed(i, g)?;
        }
    }
    Ok(())
}

pub(super) fn sub(p: &mut Pullback) -> Result<()> {
    let g = p.cotangent()?;
    if p.needs(0) {
        p.give_summed(0, g)?;
    }
    if p.needs(1) {
        let shape = p.shape(p.input(1)?)?;
        let sum = p.sum_to(g, &shape)?;
        let db = p.neg(&sum)?;
        p.give(1, &db)?;
    }
    Ok(())
}

pub(super) fn mul(p: &mut Pullback) -> Result<()> {
    let (a, b, g) = (p.input(0)?, p.input(1)?, p.cotangent()?);
    if p.needs(0) {
        let da = p.mul(g, b)?;
        p.give_summed(0, &da)?;
    }
    if p.needs(1) {
        let db = p.mul(g, a)?;
        p.give_summed(1, &db)?;
    }
    Ok(())
}

pub(super) fn div(p: &mut Pullback) -> Result<()> {
    let (b, y, g) = (p.input(1)?, p.output()?, p.cotangent()?);
    let da = p.div(g, b)?;
    if p.needs(0) {
        p.give_summed(0, &da)?;
    }
    if p.needs(1) {
        let product = p.mul(&da, y)?;
        let db = p.neg(&product)?;
        p.give_summed(1, &db)?;
    }
    Ok(())
}

/// The exponent may be of another type than the base, even an integer.
pub(super) fn pow(p: &mut Pullback) -> Result<()> {
    if p.needs(0) {
        pow_base(p)?;
    }
    if p.needs(1) {
        pow_exponent(p)?;
    }
    Ok(())
}

/// `b·a^(b-1)`, which is 0 for `b = 0` even at `a = 0`.
fn pow_base(p: &mut Pullback) -> Result<()> {
    let (a, b, g) = (p.input(0)?, p.input(1)?, p.cotangent()?);
    let constant = p.constant_value(b).map(|tensor| tensor.to_f64());
    if constant.as_deref() == Some(&[2.0]) {
        let twice = p.scaled(a, 2.0)?;
        let da = p.mul(g, &twice)?;
        return p.give_summed(0, &da);
    }
    let b = like(p, b, a)?;
    let exponent = p.shifted(&b, -1.0)?;
    let power = p.apply("Pow", &[a, &exponent], ())?;
    let mut slope = p.mul(&b, &power)?;
    if constant.is_none_or(|values| values.contains(&0.0)) {
        let zero = p.scalar(&b, 0.0)?;
        let is_zero = p.apply("Equal", &[&b, &zero], ())?;
        slope = p.apply("Where", &[&is_zero, &zero, &slope], ())?;
    }
    let da = p.mul(g, &slope)?;
    p.give_summed(0, &da)
}

/// `y·log(a)`, which is 0 at `a = 0`.
fn pow_exponent(p: &mut Pullback) -> Result<()> {
    let (a, b, y, g) = (p.input(0)?, p.input(1)?, p.output()?, p.cotangent()?);
    let log = p.apply("Log", &[a], ())?;
    let slope = p.mul(y, &log)?;
    let zero = p.scalar(a, 0.0)?;
    let is_zero = p.apply("Equal", &[a, &zero], ())?;
    let slope = p.apply("Where", &[&is_zero, &zero, &slope], ())?;
    let db = p.mul(g, &slope)?;
    let db = like(p, &db, b)?;
    p.give_summed(1, &db)
}

/// `value` in the element type of `model`.
fn like(p: &mut Pullback, value: &str, model: &str) -> Result<String> {
    let element = p.element(model)?;
    if p.element(value)? == element {
        return Ok(value.to_owned());
    }
    super::layout::cast_to(p, value, element)
}

pub(super) fn neg(p: &mut Pullback) -> Result<()> {
    let dx = p.neg(p.cotangent()?)?;
    p.give(0, &dx)
}

/// `g / 2y`
pub(super) fn sqrt(p: &mut Pullback) -> Result<()> {
    let half = p.scaled(p.cotangent()?, 0.5)?;
    let dx = p.div(&half, p.output()?)?;
    p.give(0, &dx)
}

pub(super) fn abs(p: &mut Pullback) -> Result<()> {
    let sign = p.apply("Sign", &[p.input(0)?], ())?;
    times(p, &sign)
}

pub(super) fn exp(p: &mut Pullback) -> Result<()> {
    let y = p.output()?;
    times(p, y)
}

pub(super) fn log(p: &mut Pullback) -> Result<()> {
    let dx = p.div(p.cotangent()?, p.input(0)?)?;
    p.give(0, &dx)
}

/// `-y²`
pub(super) fn reciprocal(p: &mut Pullback) -> Result<()> {
    let y = p.output()?;
    let square = p.mul(y, y)?;
    let slope = p.neg(&square)?;
    times(p, &slope)
}

pub(super) fn sin(p: &mut Pullback) -> Result<()> {
    let slope = p.apply("Cos", &[p.input(0)?], ())?;
    times(p, &slope)
}

pub(super) fn cos(p: &mut Pullback) -> Result<()> {
    let sin = p.apply("Sin", &[p.input(0)?], ())?;
    let slope = p.neg(&sin)?;
    times(p, &slope)
}

/// `2/√π · exp(-x²)`
pub(super) fn erf(p: &mut Pullback) -> Result<()> {
    let x = p.input(0)?;
    let square = p.mul(x, x)?;
    let exponent = p.neg(&square)?;
    let bell = p.apply("Exp", &[&exponent], ())?;
    let slope = p.scaled(&bell, std::f64::consts::FRAC_2_SQRT_PI)?;
    times(p, &slope)
}

/// Piecewise constant functions: no gradient.
pub(super) fn step(_: &mut Pullback) -> Result<()> {
    Ok(())
}

/// `Round`, which counts as the identity where it quantises.
pub(super) fn round(p: &mut Pullback) -> Result<()> {
    let straight_through = p.node().int(STRAIGHT_THROUGH, 0) != 0;
    if straight_through { p.give(0, p.cotangent()?) } else { Ok(()) }
}

/// Gives the only input the cotangent times `slope`, the derivative at each element.
pub(super) fn times(p: &mut Pullback, slope: &str) -> Result<()> {
    let dx = p.mul(p.cotangent()?, slope)?;
    p.give(0, &dx)
}

/// `Max` and `Min` of several operands: the first that attains the extremum takes the gradient.
pub(super) fn extremum(p: &mut Pullback) -> Result<()> {
    let (y, g) = (p.output()?, p.cotangent()?);
    let operands = p.node().inputs.len();
    let mut free: Option<String> = None;
    for i in 0..operands {
        let attains = p.apply("Equal", &[p.input(i)?, y], ())?;
        let chosen = match &free {
            Some(free) => p.apply("And", &[free, &attains], ())?,
            None => attains.clone(),
        };
        if p.needs(i) {
            let dx = p.masked(&chosen, g)?;
            p.give_summed(i, &dx)?;
        }
        if i + 1 < operands {
            let misses = p.apply("Not", &[&attains], ())?;
            free = Some(match &free {
                Some(free) => p.apply("And", &[free, &misses], ())?,
                None => misses,
            });
        }
    }
    Ok(())
}

/// `Where`
pub(super) fn choose(p: &mut Pullback) -> Result<()> {
    let (condition, g) = (p.input(0)?, p.cotangent()?);
    if p.needs(1) {
        let da = p.masked(condition, g)?;
        p.give_summed(1, &da)?;
    }
    if p.needs(2) {
        let zero = p.scalar(g, 0.0)?;
        let db = p.apply("Where", &[condition, &zero, g], ())?;
        p.give_summed(2, &db)?;
    }
    Ok(())
}
