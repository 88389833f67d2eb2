//! Reductions over axes.

use super::Pullback;
use super::layout::cast_to;
use crate::infer::reduced_axes;
use crate::{Attributes, ElementType, Result, Tensor};

pub(super) fn sum(p: &mut Pullback) -> Result<()> {
    let axes = axes(p)?;
    let g = kept(p, p.cotangent()?, &axes)?;
    let shape = p.shape(p.input(0)?)?;
    let dx = p.expanded(&g, &shape)?;
    p.give(0, &dx)
}

pub(super) fn mean(p: &mut Pullback) -> Result<()> {
    let axes = axes(p)?;
    let shape = p.shape(p.input(0)?)?;
    let count: usize = axes.iter().map(|&axis| shape[axis]).product();
    let share = p.scaled(p.cotangent()?, 1.0 / count as f64)?;
    let g = kept(p, &share, &axes)?;
    let dx = p.expanded(&g, &shape)?;
    p.give(0, &dx)
}

/// `ReduceMax` and `ReduceMin`: equal extrema share the gradient evenly, as in PyTorch's `amax`.
pub(super) fn extremum(p: &mut Pullback) -> Result<()> {
    let (x, axes) = (p.input(0)?, axes(p)?);
    let g = kept(p, p.cotangent()?, &axes)?;
    let y = kept(p, p.output()?, &axes)?;
    let attains = p.apply("Equal", &[x, &y], ())?;
    let ones = cast_to(p, &attains, p.element(x)?)?;
    let ties = p.summed(&ones, &axes, true)?;
    let share = p.div(&g, &ties)?;
    let dx = p.mul(&ones, &share)?;
    p.give(0, &dx)
}

pub(super) fn l1(p: &mut Pullback) -> Result<()> {
    let sign = p.apply("Sign", &[p.input(0)?], ())?;
    give_times(p, &sign)
}

/// `x / y`, and 0 for a vector of zeros.
pub(super) fn l2(p: &mut Pullback) -> Result<()> {
    let axes = axes(p)?;
    let y = kept(p, p.output()?, &axes)?;
    let direction = p.div(p.input(0)?, &y)?;
    let positive = p.compare(&y, "Greater", 0.0)?;
    let slope = p.only_where(&positive, &direction)?;
    give_times(p, &slope)
}

pub(super) fn sum_square(p: &mut Pullback) -> Result<()> {
    let slope = p.scaled(p.input(0)?, 2.0)?;
    give_times(p, &slope)
}

/// `1 / Σx = exp(-y)`
pub(super) fn log_sum(p: &mut Pullback) -> Result<()> {
    let axes = axes(p)?;
    let y = kept(p, p.output()?, &axes)?;
    let negated = p.neg(&y)?;
    let slope = p.apply("Exp", &[&negated], ())?;
    let g = kept(p, p.cotangent()?, &axes)?;
    let product = p.mul(&g, &slope)?;
    let shape = p.shape(p.input(0)?)?;
    let dx = p.expanded(&product, &shape)?;
    p.give(0, &dx)
}

/// `exp(x - y)`
pub(super) fn log_sum_exp(p: &mut Pullback) -> Result<()> {
    let axes = axes(p)?;
    let y = kept(p, p.output()?, &axes)?;
    let difference = p.sub(p.input(0)?, &y)?;
    let slope = p.apply("Exp", &[&difference], ())?;
    give_times(p, &slope)
}

/// The product of all other elements, found without division so that zeros do no harm: each
/// row is repeated with one element after the other replaced by 1.
pub(super) fn product(p: &mut Pullback) -> Result<()> {
    let (x, axes) = (p.input(0)?, axes(p)?);
    let shape = p.shape(x)?;
    let rest: Vec<usize> = (0..shape.len()).filter(|axis| !axes.contains(axis)).collect();
    let order: Vec<usize> = rest.iter().chain(&axes).copied().collect();
    let count: usize = axes.iter().map(|&axis| shape[axis]).product();
    let outer: usize = rest.iter().map(|&axis| shape[axis]).product();

    p.room(&[count, count])?;
    let moved = p.transposed(x, &order)?;
    let rows = p.reshaped(&moved, &[outer, 1, count])?;
    let diagonal: Vec<f64> = (0..count * count).map(|i| f64::from(i / count == i % count)).collect();
    let diagonal = p.constant(Tensor::floats(ElementType::Bool, [count, count], &diagonal));
    let one = p.scalar(x, 1.0)?;
    let others = p.apply("Where", &[&diagonal, &one, &rows], ())?;
    let slope = p.reduced("ReduceProd", &others, &[2], false)?;

    let moved_shape: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
    let slope = p.reshaped(&slope, &moved_shape)?;
    let mut inverse = vec![0; order.len()];
    for (i, &axis) in order.iter().enumerate() {
        inverse[axis] = i;
    }
    let slope = p.transposed(&slope, &inverse)?;
    give_times(p, &slope)
}

/// Gives the input the cotangent times `slope`, which has the input's shape.
fn give_times(p: &mut Pullback, slope: &str) -> Result<()> {
    let axes = axes(p)?;
    let g = kept(p, p.cotangent()?, &axes)?;
    let dx = p.mul(slope, &g)?;
    p.give(0, &dx)
}

/// The axes that are reduced, in ascending order.
fn axes(p: &Pullback) -> Result<Vec<usize>> {
    reduced_axes(p.graph(), p.node())
}

/// A reduced value with the reduced axes kept at extent 1.
fn kept(p: &mut Pullback, value: &str, axes: &[usize]) -> Result<String> {
    let mut shape = p.shape(p.input(0)?)?;
    for &axis in axes {
        shape[axis] = 1;
    }
    p.reshaped(value, &shape)
}

/// An element is part of all sums after it, or before it if they run in reverse.
pub(super) fn cumulative_sum(p: &mut Pullback) -> Result<()> {
    let attributes = Attributes::new()
        .with("exclusive", p.node().int("exclusive", 0))
        .with("reverse", 1 - p.node().int("reverse", 0));
    let dx = p.apply("CumSum", &[p.cotangent()?, p.input(1)?], attributes)?;
    p.give(0, &dx)
}
