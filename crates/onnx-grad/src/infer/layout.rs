//! Operators that rearrange elements without choosing among them.

use crate::infer::{Call, check};
use crate::{Result, ValueType};

/// Without `perm` the axes are reversed.
pub(super) fn transpose(call: &Call) -> Result<ValueType> {
    call.takes_at_most(1)?;
    let ty = call.input(0)?;
    let mut shape: Vec<usize> = ty.shape.iter().rev().copied().collect();
    if let Some(perm) = call.ints("perm")? {
        check!(call, perm.len() == ty.rank(), "has `perm` = {perm:?} for its input {ty}");
        check!(call, perm.iter().all(|&axis| axis >= 0), "has a negative axis in `perm` = {perm:?}");
        shape = call.axes(perm, ty.rank())?.into_iter().map(|axis| ty.shape[axis]).collect();
    }
    Ok(ValueType::new(ty.element, shape))
}

pub(super) fn concat(call: &Call) -> Result<ValueType> {
    let inputs = call.variadic()?;
    let first = inputs[0];
    let axis = call.optional_int("axis")?.ok_or_else(|| call.error("lacks the attribute `axis`"))?;
    let axis = call.axis(axis, first.rank())?;
    let mut total = 0usize;
    for (i, ty) in inputs.iter().enumerate() {
        call.input_like(i, first)?;
        let fits = ty.rank() == first.rank() && (0..ty.rank()).all(|a| a == axis || ty.shape[a] == first.shape[a]);
        check!(call, fits, "joins {first} and {ty} along axis {axis}");
        total = total.saturating_add(ty.shape[axis]);
    }
    let mut joined = first.clone();
    joined.shape[axis] = total;
    Ok(joined)
}

/// `[N, C b², H, W]` to `[N, C, H b, W b]`.
pub(super) fn depth_to_space(call: &Call) -> Result<ValueType> {
    call.choice("mode", &["DCR", "CRD"])?;
    let (ty, [batch, channels, height, width], block) = image(call)?;
    // A block is at most MAX_LEN, below 2^31, so that these products stay within 2^62.
    check!(call, channels % (block * block) == 0, "divides {channels} channels among blocks of {block}×{block}");
    Ok(ValueType::new(ty.element, [batch, channels / (block * block), height * block, width * block]))
}

/// `[N, C, H b, W b]` to `[N, C b², H, W]`.
pub(super) fn space_to_depth(call: &Call) -> Result<ValueType> {
    let (ty, [batch, channels, height, width], block) = image(call)?;
    let divides = height % block == 0 && width % block == 0;
    check!(call, divides, "divides {height}×{width} elements into blocks of {block}×{block}");
    let depth = channels.checked_mul(block * block).ok_or_else(|| call.error("makes too many channels"))?;
    Ok(ValueType::new(ty.element, [batch, depth, height / block, width / block]))
}

fn image<'a>(call: &Call<'a>) -> Result<(&'a ValueType, [usize; 4], usize)> {
    call.takes_at_most(1)?;
    let ty = call.input(0)?;
    let block = call.optional_int("blocksize")?.ok_or_else(|| call.error("lacks the attribute `blocksize`"))?;
    check!(call, block > 0, "has `blocksize` = {block}");
    let block = call.extent(block)?;
    match ty.shape[..] {
        [batch, channels, height, width] => Ok((ty, [batch, channels, height, width], block)),
        _ => Err(call.error(format!("needs an input [N, C, H, W], not {ty}"))),
    }
}

/// Trilu: the upper or lower triangles of matrices.
pub(super) fn triangle(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    call.flag("upper", true)?;
    let ty = call.input(0)?;
    check!(call, ty.rank() >= 2, "needs matrices, not {ty}");
    if let Some(k) = call.optional_constant_ints(1, "k")? {
        check!(call, k.len() == 1, "has a `k` that is not one number");
    }
    Ok(ty.clone())
}
