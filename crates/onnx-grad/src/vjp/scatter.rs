//! Reading and writing single elements at places that an operand names. That places do not repeat
//! where they are written to is a condition of the operators themselves.

use super::Pullback;
use crate::{Attributes, Result};

pub(super) fn gather_elements(p: &mut Pullback) -> Result<()> {
    let shape = p.shape(p.input(0)?)?;
    let (g, indices) = (p.cotangent()?, p.input(1)?);
    let axis = p.axis(p.node().int("axis", 0), shape.len())?;
    // Indices may leave out the last elements of other axes, which not every engine allows for a Scatter.
    let mut covered = p.shape(indices)?;
    covered[axis] = shape[axis];
    let zeros = p.filled(p.element(g)?, &covered, 0.0)?;
    let attributes = Attributes::new().with("axis", axis as i64).with("reduction", "add");
    let sums = p.apply("ScatterElements", &[&zeros, indices, g], attributes)?;
    let missing: Vec<usize> = shape.iter().zip(&covered).map(|(all, covered)| all - covered).collect();
    let dx = p.zero_padded(&sums, &vec![0; shape.len()], &missing)?;
    p.give(0, &dx)
}

pub(super) fn gather_nd(p: &mut Pullback) -> Result<()> {
    if p.node().int("batch_dims", 0) != 0 {
        return Err(p.error("has `batch_dims`, for which it has no derivative in this program"));
    }
    let shape = p.shape(p.input(0)?)?;
    let (g, indices) = (p.cotangent()?, p.input(1)?);
    let zeros = p.filled(p.element(g)?, &shape, 0.0)?;
    let dx = p.apply("ScatterND", &[&zeros, indices, g], Attributes::new().with("reduction", "add"))?;
    p.give(0, &dx)
}

pub(super) fn scatter_elements(p: &mut Pullback) -> Result<()> {
    let axis = p.axis(p.node().int("axis", 0), p.shape(p.input(0)?)?.len())?;
    scatter(p, Attributes::new().with("axis", axis as i64), "GatherElements")
}

pub(super) fn scatter_nd(p: &mut Pullback) -> Result<()> {
    scatter(p, Attributes::new(), "GatherND")
}

/// What is written over has no gradient; what is written, or added, has that of its place.
fn scatter(p: &mut Pullback, attributes: Attributes, gather: &str) -> Result<()> {
    let (g, indices, updates) = (p.cotangent()?, p.input(1)?, p.input(2)?);
    let reduction = p.node().string("reduction", "none");
    if !matches!(reduction, "none" | "add") {
        return Err(p.error(format!("has the reduction \"{reduction}\", which has no derivative in this program")));
    }
    if p.needs(0) && reduction == "add" {
        p.give(0, g)?;
    } else if p.needs(0) {
        let zeros = p.filled(p.element(g)?, &p.shape(updates)?, 0.0)?;
        let dx = p.apply(&p.node().op, &[g, indices, &zeros], attributes.clone())?;
        p.give(0, &dx)?;
    }
    if p.needs(2) {
        let dupdates = p.apply(gather, &[g, indices], attributes)?;
        p.give(2, &dupdates)?;
    }
    Ok(())
}
