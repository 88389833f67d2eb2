//! Einstein's sum.

use super::Pullback;
use crate::infer::{Call, Equation};
use crate::{Attributes, Result};

/// The gradient of an operand is Einstein's sum of the cotangent and the other operands.
pub(super) fn einsum(p: &mut Pullback) -> Result<()> {
    let Equation { terms, result } = Equation::of(&Call { graph: p.graph(), node: p.node() })?;
    for i in (0..terms.len()).filter(|&i| p.needs(i)).collect::<Vec<_>>() {
        let term = &terms[i];
        if term.char_indices().any(|(at, letter)| term[..at].contains(letter)) {
            return Err(p.error(format!("takes the diagonal \"{term}\", which has no derivative in this program")));
        }
        let (mut factors, mut operands) = (Vec::new(), Vec::new());
        let g = p.cotangent()?;
        if !result.is_empty() {
            factors.push(result.as_str());
            operands.push(g);
        }
        for (j, other) in terms.iter().enumerate().filter(|&(j, _)| j != i) {
            factors.push(other);
            operands.push(p.input(j)?);
        }
        // An axis that is only summed over has the same gradient all along.
        let known = |letter: &char| factors.iter().any(|factor| factor.contains(*letter));
        let kept: String = term.chars().filter(known).collect();
        let mut product = g.to_owned();
        if !factors.is_empty() {
            let equation = format!("{}->{kept}", factors.join(","));
            product = p.apply("Einsum", &operands, Attributes::new().with("equation", &*equation))?;
            if result.is_empty() {
                product = p.mul(&product, g)?;
            }
        }
        let shape = p.shape(p.input(i)?)?;
        let extents = term.chars().zip(&shape);
        let extents: Vec<usize> =
            extents.map(|(letter, &extent)| if kept.contains(letter) { extent } else { 1 }).collect();
        let product = p.reshaped(&product, &extents)?;
        let gradient = p.expanded(&product, &shape)?;
        p.give(i, &gradient)?;
    }
    Ok(())
}
