//! Operators that move or repeat elements, or change their type.

use super::Pullback;
use crate::{ElementType, Result};

/// `Reshape`, `Flatten`, `Squeeze` and `Unsqueeze`
pub(super) fn reshape(p: &mut Pullback) -> Result<()> {
    let shape = p.shape(p.input(0)?)?;
    let dx = p.reshaped(p.cotangent()?, &shape)?;
    p.give(0, &dx)
}

pub(super) fn transpose(p: &mut Pullback) -> Result<()> {
    let rank = p.shape(p.input(0)?)?.len();
    let permutation: Vec<usize> = match p.node().ints("perm") {
        Some(axes) => axes.iter().map(|&axis| p.axis(axis, rank)).collect::<Result<_>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut inverse = vec![0; rank];
    for (i, &axis) in permutation.iter().enumerate() {
        inverse[axis] = i;
    }
    let dx = p.transposed(p.cotangent()?, &inverse)?;
    p.give(0, &dx)
}

pub(super) fn identity(p: &mut Pullback) -> Result<()> {
    let g = p.cotangent()?;
    p.give(0, g)
}

/// Dropout as it is at inference: nothing is dropped.
pub(super) fn dropout(p: &mut Pullback) -> Result<()> {
    if let Some(mode) = p.node().input(2) {
        let training = p.constant_value(mode).is_none_or(|flag| flag.to_f64().iter().any(|&on| on != 0.0));
        if training {
            return Err(p.error("is in training mode, where its derivative is random"));
        }
    }
    identity(p)
}

/// `Cast` and `CastLike`
pub(super) fn cast(p: &mut Pullback) -> Result<()> {
    let element = p.element(p.input(0)?)?;
    let dx = cast_to(p, p.cotangent()?, element)?;
    p.give(0, &dx)
}

/// `value` converted to another element type.
pub(super) fn cast_to(p: &mut Pullback, value: &str, element: ElementType) -> Result<String> {
    // The codes of TensorProto.DataType.
    let code: i64 = match element {
        ElementType::F32 => 1,
        ElementType::F64 => 11,
        ElementType::I64 => 7,
        ElementType::I32 => 6,
        ElementType::Bool => 9,
    };
    p.apply("Cast", &[value], [("to", code)])
}

pub(super) fn expand(p: &mut Pullback) -> Result<()> {
    let g = p.cotangent()?;
    p.give_summed(0, g)
}

/// Splits each axis into repeats and elements and sums over the repeats.
pub(super) fn tile(p: &mut Pullback) -> Result<()> {
    let (shape, tiled) = (p.shape(p.input(0)?)?, p.shape(p.cotangent()?)?);
    if shape.contains(&0) {
        return p.filled(p.element(p.input(0)?)?, &shape, 0.0).and_then(|zeros| p.give(0, &zeros));
    }
    let split: Vec<usize> = shape.iter().zip(&tiled).flat_map(|(&extent, &all)| [all / extent, extent]).collect();
    let repeats: Vec<usize> = (0..shape.len()).map(|axis| 2 * axis).filter(|&axis| split[axis] != 1).collect();
    let g = p.reshaped(p.cotangent()?, &split)?;
    let sum = p.summed(&g, &repeats, false)?;
    let dx = p.reshaped(&sum, &shape)?;
    p.give(0, &dx)
}

/// Written with Transpose, since not every engine has SpaceToDepth in both modes.
pub(super) fn depth_to_space(p: &mut Pullback) -> Result<()> {
    let block = block_size(p)?;
    let shape = p.shape(p.input(0)?)?;
    let &[n, c, h, w] = shape.as_slice() else { return Err(p.error("takes images of four axes")) };
    let depth = c / (block * block);
    let g = p.reshaped(p.cotangent()?, &[n, depth, h, block, w, block])?;
    let order = if p.node().string("mode", "DCR") == "CRD" { [0, 1, 3, 5, 2, 4] } else { [0, 3, 5, 1, 2, 4] };
    let moved = p.transposed(&g, &order)?;
    let dx = p.reshaped(&moved, &shape)?;
    p.give(0, &dx)
}

pub(super) fn space_to_depth(p: &mut Pullback) -> Result<()> {
    let block = block_size(p)? as i64;
    let dx = p.apply("DepthToSpace", &[p.cotangent()?], [("blocksize", block)])?;
    p.give(0, &dx)
}

/// What the triangle leaves out has no gradient.
pub(super) fn triangle(p: &mut Pullback) -> Result<()> {
    let mut inputs = vec![p.cotangent()?];
    inputs.extend(p.node().input(1));
    let dx = p.apply("Trilu", &inputs, p.node().attributes.clone())?;
    p.give(0, &dx)
}

fn block_size(p: &Pullback) -> Result<usize> {
    match usize::try_from(p.node().int("blocksize", 0)) {
        Ok(block) if block > 0 => Ok(block),
        _ => Err(p.error("lacks a positive `blocksize`")),
    }
}
