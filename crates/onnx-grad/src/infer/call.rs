use std::sync::Arc;

use crate::{Attribute, Error, Graph, Node, Result, Tensor, ValueType};

/// A node together with the graph that its inputs are looked up in. Whatever is read through it
/// is checked; what fails becomes an error that names the node.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) node: &'a Node,
}

/// Returns an error that names the node unless a condition holds.
macro_rules! check {
    ($call:expr, $condition:expr, $($problem:tt)+) => {{
        let holds: bool = $condition;
        if !holds {
            return Err($call.error(format!($($problem)+)));
        }
    }};
}
pub(crate) use check;

impl<'a> Call<'a> {
    pub(crate) fn error(&self, problem: impl Into<String>) -> Error {
        Error::node(self.node, problem)
    }

    /// The type of input `i`, if it is given.
    pub(crate) fn optional(&self, i: usize) -> Result<Option<&'a ValueType>> {
        match self.node.input(i) {
            None => Ok(None),
            Some(name) => match self.graph.value_type(name) {
                Ok(ty) => Ok(Some(ty)),
                Err(_) => Err(self.error(format!("reads `{name}`, which no earlier node puts out"))),
            },
        }
    }

    /// The type of input `i`, which has to be given.
    pub(crate) fn input(&self, i: usize) -> Result<&'a ValueType> {
        self.optional(i)?.ok_or_else(|| self.error(format!("lacks input {i}")))
    }

    /// The types of all inputs of a variadic operator, which takes at least one.
    pub(crate) fn variadic(&self) -> Result<Vec<&'a ValueType>> {
        check!(self, !self.node.inputs.is_empty(), "has no inputs");
        (0..self.node.inputs.len()).map(|i| self.input(i)).collect()
    }

    /// Refuses inputs beyond the first `most`.
    pub(crate) fn takes_at_most(&self, most: usize) -> Result<()> {
        let given = self.node.inputs.len();
        check!(self, given <= most, "has {given} inputs, but takes {most} at most");
        Ok(())
    }

    /// Input `i`, which has to be given and floating-point.
    pub(crate) fn float_input(&self, i: usize) -> Result<&'a ValueType> {
        let ty = self.input(i)?;
        check!(self, ty.element.is_float(), "needs a floating-point input {i}, but it is {ty}");
        Ok(ty)
    }

    /// Input `i`, which has to be given and int32 or int64.
    pub(crate) fn integer_input(&self, i: usize) -> Result<&'a ValueType> {
        let ty = self.input(i)?;
        check!(self, ty.element.is_integer(), "needs an integer input {i}, but it is {ty}");
        Ok(ty)
    }

    /// Input `i` of the same element type as `like`.
    pub(crate) fn input_like(&self, i: usize, like: &ValueType) -> Result<&'a ValueType> {
        let ty = self.input(i)?;
        check!(self, ty.element == like.element, "has input {i} of type {ty} beside an input of type {like}");
        Ok(ty)
    }

    /// The constant that is input `i`, `what` being its name in the ONNX specification.
    pub(crate) fn optional_constant(&self, i: usize, what: &str) -> Result<Option<&'a Arc<Tensor>>> {
        if self.optional(i)?.is_none() {
            return Ok(None);
        }
        let constant = self.node.input(i).and_then(|name| self.graph.initializer(name));
        match constant {
            Some(tensor) => Ok(Some(tensor)),
            None => Err(self.error(format!("computes its `{what}` while it runs; only a constant one is supported"))),
        }
    }

    /// The integers in the constant that is input `i`, a list or a scalar.
    pub(crate) fn optional_constant_ints(&self, i: usize, what: &str) -> Result<Option<Vec<i64>>> {
        let Some(tensor) = self.optional_constant(i, what)? else { return Ok(None) };
        check!(self, tensor.shape().len() <= 1, "has a `{what}` with {} axes instead of one", tensor.shape().len());
        match tensor.to_i64() {
            Some(values) => Ok(Some(values)),
            None => Err(self.error(format!("has a `{what}` of {} instead of integers", tensor.element()))),
        }
    }

    /// As [`Call::optional_constant_ints`], for an input which has to be given.
    pub(crate) fn constant_ints(&self, i: usize, what: &str) -> Result<Vec<i64>> {
        self.optional_constant_ints(i, what)?.ok_or_else(|| self.error(format!("lacks its `{what}` (input {i})")))
    }

    /// An integer attribute, if it is there.
    pub(crate) fn optional_int(&self, name: &str) -> Result<Option<i64>> {
        match self.node.attributes.get(name) {
            None => Ok(None),
            Some(&Attribute::Int(value)) => Ok(Some(value)),
            Some(_) => Err(self.error(format!("has an attribute `{name}` that is not an integer"))),
        }
    }

    /// An integer attribute, or its default.
    pub(crate) fn int(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.optional_int(name)?.unwrap_or(default))
    }

    /// An attribute that is 0 or 1.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.int(name, i64::from(default))? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.error(format!("has `{name}` = {other} instead of 0 or 1"))),
        }
    }

    /// A list attribute, if it is there.
    pub(crate) fn ints(&self, name: &str) -> Result<Option<&'a [i64]>> {
        match self.node.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values)),
            Some(_) => Err(self.error(format!("has an attribute `{name}` that is not a list of integers"))),
        }
    }

    /// Checks that the attributes called `names` are floating-point where they are given.
    pub(crate) fn check_floats(&self, names: &[&str]) -> Result<()> {
        for name in names {
            let fine = matches!(self.node.attributes.get(name), None | Some(Attribute::Float(_)));
            check!(self, fine, "has an attribute `{name}` that is not a number");
        }
        Ok(())
    }

    /// A string attribute, one of `allowed`; the first of these where it is not given.
    pub(crate) fn choice(&self, name: &str, allowed: &[&'static str]) -> Result<&'static str> {
        let given = match self.node.attributes.get(name) {
            None => allowed.first().copied().unwrap_or_default(),
            Some(Attribute::String(value)) => value,
            Some(_) => return Err(self.error(format!("has an attribute `{name}` that is not a string"))),
        };
        match allowed.iter().copied().find(|&choice| choice == given) {
            Some(choice) => Ok(choice),
            None => Err(self.error(format!("has `{name}` = \"{given}\"; what is supported is {}", allowed.join(", ")))),
        }
    }

    /// The axis that `axis` means in a value of `rank` axes, where -1 is the last one.
    pub(crate) fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let counted = if axis < 0 { axis.checked_add_unsigned(rank as u64) } else { Some(axis) };
        match counted.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank) {
            Some(axis) => Ok(axis),
            None => Err(self.error(format!("has axis {axis} where there are {rank} axes"))),
        }
    }

    /// As [`Call::axis`] for a list without repetitions, in the order given.
    pub(crate) fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
        let mut seen = vec![false; rank];
        axes.iter()
            .map(|&given| {
                let axis = self.axis(given, rank)?;
                check!(self, !seen[axis], "names axis {given} twice");
                seen[axis] = true;
                Ok(axis)
            })
            .collect()
    }

    /// An extent that a model gives: neither negative nor beyond what a value may have.
    pub(crate) fn extent(&self, extent: i64) -> Result<usize> {
        match usize::try_from(extent).ok().filter(|&extent| extent <= ValueType::MAX_LEN) {
            Some(extent) => Ok(extent),
            None => Err(self.error(format!("asks for an axis of {extent} elements"))),
        }
    }
}
