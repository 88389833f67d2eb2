//! Products of matrices.

use std::collections::BTreeMap;

use crate::infer::{Call, broadcast, check};
use crate::{Attribute, ElementType, Result, ValueType};

/// `alpha * A * B + beta * C`, A and B possibly transposed, C broadcast to the product.
pub(super) fn gemm(call: &Call) -> Result<ValueType> {
    call.takes_at_most(3)?;
    call.check_floats(&["alpha", "beta"])?;
    let a = call.float_input(0)?;
    let b = call.input_like(1, a)?;
    let (rows, inner) = matrix(call, a, "transA")?;
    let (inner_of_b, columns) = matrix(call, b, "transB")?;
    check!(call, inner == inner_of_b, "multiplies {rows}×{inner} by {inner_of_b}×{columns}");
    let product = ValueType::new(a.element, [rows, columns]);
    if call.optional(2)?.is_some() {
        let c = call.input_like(2, a)?;
        let fits = broadcast(&c.shape, &product.shape).is_some_and(|shape| shape == product.shape);
        check!(call, fits, "adds {c}, which does not broadcast to {product}");
    }
    Ok(product)
}

fn matrix(call: &Call, ty: &ValueType, transposed: &str) -> Result<(usize, usize)> {
    let transposed = call.flag(transposed, false)?;
    match ty.shape[..] {
        [rows, columns] => Ok(if transposed { (columns, rows) } else { (rows, columns) }),
        _ => Err(call.error(format!("needs matrices, but has an input {ty}"))),
    }
}

/// As `numpy.matmul`: leading axes broadcast, a vector counts as a row on the left and as a
/// column on the right, and its axis is gone from the product.
pub(super) fn matmul(call: &Call) -> Result<ValueType> {
    call.takes_at_most(2)?;
    let a = call.input(0)?;
    check!(call, a.element != ElementType::Bool, "needs numbers, but its input is {a}");
    let b = call.input_like(1, a)?;
    check!(call, a.rank() > 0 && b.rank() > 0, "multiplies a scalar");
    let (a_batch, a_matrix) = a.shape.split_at(a.rank().saturating_sub(2));
    let (b_batch, b_matrix) = b.shape.split_at(b.rank().saturating_sub(2));
    let inner = a_matrix[a_matrix.len() - 1];
    check!(call, inner == b_matrix[0], "multiplies {a} by {b}");
    let Some(mut shape) = broadcast(a_batch, b_batch) else {
        return Err(call.error(format!("multiplies {a} by {b}, whose leading axes do not broadcast")));
    };
    shape.extend(&a_matrix[..a_matrix.len() - 1]);
    shape.extend(&b_matrix[1..]);
    Ok(ValueType::new(a.element, shape))
}

/// Einstein's sum.
pub(super) fn einsum(call: &Call) -> Result<ValueType> {
    let Equation { terms, result } = Equation::of(call)?;
    let inputs = call.variadic()?;
    let mut axes: BTreeMap<char, usize> = BTreeMap::new();
    for (i, (term, ty)) in terms.iter().zip(&inputs).enumerate() {
        call.input_like(i, inputs[0])?;
        check!(call, ty.element != ElementType::Bool, "needs numbers, but input {i} is {ty}");
        check!(call, term.len() == ty.rank(), "reads input {i}, {ty}, as \"{term}\"");
        for (letter, &extent) in term.chars().zip(&ty.shape) {
            let known = *axes.entry(letter).or_insert(extent);
            check!(call, known == extent, "has axes `{letter}` of {known} and of {extent} elements");
        }
    }
    let mut shape = Vec::with_capacity(result.len());
    for (i, letter) in result.char_indices() {
        check!(call, !result[..i].contains(letter), "repeats `{letter}` in its result \"{result}\"");
        match axes.get(&letter) {
            Some(&extent) => shape.push(extent),
            None => return Err(call.error(format!("has no input with the axis `{letter}` of its result"))),
        }
    }
    Ok(ValueType::new(inputs[0].element, shape))
}

/// What an Einsum computes, in plain letters and without ellipsis.
pub(crate) struct Equation {
    /// The axes of each input.
    pub(crate) terms: Vec<String>,
    /// The axes of the output; where the equation leaves them out, the letters that occur once, in
    /// alphabetical order.
    pub(crate) result: String,
}

impl Equation {
    /// The attribute `equation`, with one term per input.
    pub(crate) fn of(call: &Call) -> Result<Self> {
        let Some(Attribute::String(equation)) = call.node.attributes.get("equation") else {
            return Err(call.error("lacks the attribute `equation`"));
        };
        let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
        let (terms, result) = match equation.split_once("->") {
            Some((terms, result)) => (terms, Some(result)),
            None => (equation.as_str(), None),
        };
        let letters = |term: &str| term.chars().all(|c| c.is_ascii_alphabetic());
        let terms: Vec<String> = terms.split(',').map(str::to_owned).collect();
        let plain = terms.iter().all(|term| letters(term)) && result.is_none_or(letters);
        check!(call, plain, "has the equation \"{equation}\"; supported are letters, commas and an arrow");
        let inputs = call.node.inputs.len();
        check!(call, terms.len() == inputs, "has {inputs} inputs for the equation \"{equation}\"");
        let mut uses: BTreeMap<char, usize> = BTreeMap::new();
        terms.iter().flat_map(|term| term.chars()).for_each(|letter| *uses.entry(letter).or_insert(0) += 1);
        let once = uses.iter().filter(|(_, uses)| **uses == 1).map(|(letter, _)| *letter);
        let result = result.map_or_else(|| once.collect(), str::to_owned);
        Ok(Equation { terms, result })
    }
}
