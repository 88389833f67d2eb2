//! Matrix products.

use super::Pullback;
use crate::{Attributes, Result};

/// `α A'B' + βC`, where `A'` and `B'` are A and B, transposed if the attributes say so.
pub(super) fn gemm(p: &mut Pullback) -> Result<()> {
    let node = p.node();
    let (a, b, g) = (p.input(0)?, p.input(1)?, p.cotangent()?);
    let (flip_a, flip_b) = (node.int("transA", 0) != 0, node.int("transB", 0) != 0);
    let alpha = node.float("alpha", 1.0);
    if p.needs(0) {
        // Constant weights get a copy in the other order: OpenVINO 2026.4 mixes up the packed forms of one square matrix
        // that is used both as it is and transposed.
        let (b, flip_b) = match p.constant_value(b) {
            Some(_) => (matrices_transposed(p, b)?, !flip_b),
            None => (b.to_owned(), flip_b),
        };
        let da =
            if flip_a { product(p, alpha, &b, flip_b, g, true) } else { product(p, alpha, g, false, &b, !flip_b) }?;
        p.give(0, &da)?;
    }
    if p.needs(1) {
        let db = if flip_b { product(p, alpha, g, true, a, flip_a) } else { product(p, alpha, a, !flip_a, g, false) }?;
        p.give(1, &db)?;
    }
    if p.needs(2) {
        let shape = p.shape(p.input(2)?)?;
        let sum = p.sum_to(g, &shape)?;
        let dc = p.scaled(&sum, f64::from(node.float("beta", 1.0)))?;
        p.give(2, &dc)?;
    }
    Ok(())
}

fn product(p: &mut Pullback, alpha: f32, a: &str, flip_a: bool, b: &str, flip_b: bool) -> Result<String> {
    let attributes =
        Attributes::new().with("alpha", alpha).with("transA", i64::from(flip_a)).with("transB", i64::from(flip_b));
    p.apply("Gemm", &[a, b], attributes)
}

/// As NumPy's `matmul`: leading axes are broadcast, and a vector stands for one row or one column.
pub(super) fn mat_mul(p: &mut Pullback) -> Result<()> {
    let (a, b, g) = (p.input(0)?, p.input(1)?, p.cotangent()?);
    let (a_shape, b_shape) = (p.shape(a)?, p.shape(b)?);
    let mut g_shape = p.shape(g)?;
    if a_shape.len() == 1 {
        g_shape.insert(g_shape.len() - usize::from(b_shape.len() > 1), 1);
    }
    if b_shape.len() == 1 {
        g_shape.push(1);
    }
    let g = p.reshaped(g, &g_shape)?;
    if p.needs(0) {
        let b = if b_shape.len() == 1 { p.reshaped(b, &[b_shape[0], 1])? } else { b.to_owned() };
        let flipped = matrices_transposed(p, &b)?;
        let da = p.apply("MatMul", &[&g, &flipped], ())?;
        give_matrix(p, 0, &da)?;
    }
    if p.needs(1) {
        let a = if a_shape.len() == 1 { p.reshaped(a, &[1, a_shape[0]])? } else { a.to_owned() };
        // Where B is one matrix for a whole batch of A, the sum over the batch is part of the product.
        let (a, g) = if b_shape.len() <= 2 { (rows(p, &a)?, rows(p, &g)?) } else { (a, g) };
        let flipped = matrices_transposed(p, &a)?;
        let db = p.apply("MatMul", &[&flipped, &g], ())?;
        give_matrix(p, 1, &db)?;
    }
    Ok(())
}

/// Gives input `i` its cotangent, for which a vector was made a matrix.
fn give_matrix(p: &mut Pullback, i: usize, value: &str) -> Result<()> {
    let shape = p.shape(p.input(i)?)?;
    let matrix = match (i, shape.as_slice()) {
        (0, &[length]) => vec![1, length],
        (_, &[length]) => vec![length, 1],
        _ => shape.clone(),
    };
    let sum = p.sum_to(value, &matrix)?;
    let cotangent = p.reshaped(&sum, &shape)?;
    p.give(i, &cotangent)
}

/// `a` with its last two axes swapped.
fn matrices_transposed(p: &mut Pullback, a: &str) -> Result<String> {
    let rank = p.shape(a)?.len();
    let mut permutation: Vec<usize> = (0..rank).collect();
    permutation.swap(rank - 2, rank - 1);
    let Some(constant) = p.constant_value(a) else { return p.transposed(a, &permutation) };
    let mut shape = constant.shape().to_vec();
    shape.swap(rank - 2, rank - 1);
    let (rows, columns) = (shape[rank - 2], shape[rank - 1]);
    let place = |i: usize| i - i % (rows * columns) + i % columns * rows + i / columns % rows;
    let sources: Vec<usize> = (0..shape.iter().product()).map(place).collect();
    Ok(p.constant(constant.gathered(shape, &sources)))
}

/// All rows of a batch of matrices, as one matrix.
fn rows(p: &mut Pullback, a: &str) -> Result<String> {
    let shape = p.shape(a)?;
    let (&columns, leading) = shape.split_last().ok_or_else(|| p.error("multiplies a scalar"))?;
    p.reshaped(a, &[leading.iter().product(), columns])
}
