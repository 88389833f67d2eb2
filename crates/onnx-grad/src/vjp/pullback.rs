//! What a rule works with: the node, the cotangents of its outputs, and short ways to emit.

use std::sync::Arc;

use crate::window::Window;
use crate::{Attributes, ElementType, Error, Graph, Node, Result, Tensor, ValueType};

/// The most elements that a constant may have which a rule adds.
const MAX_CONSTANT: usize = 1 << 24;

/// The most elements that all constants may have together, when one is added that is not small.
const MAX_CONSTANTS: usize = 1 << 29;

const SMALL_CONSTANT: usize = 1 << 12;

/// One node whose cotangents are being pulled back from its outputs to its inputs.
pub(crate) struct Pullback<'a> {
    graph: &'a mut Graph,
    node: &'a Node,
    cotangents: &'a [Option<String>],
    needed: &'a dyn Fn(&str) -> bool,
    with_respect_to: &'a [&'a str],
    results: Vec<(usize, String)>,
}

impl<'a> Pullback<'a> {
    /// `cotangents` are those of the outputs of `node`; `needed` says which values need one.
    pub(crate) fn new(
        graph: &'a mut Graph,
        node: &'a Node,
        cotangents: &'a [Option<String>],
        needed: &'a dyn Fn(&str) -> bool,
        with_respect_to: &'a [&'a str],
    ) -> Self {
        Pullback { graph, node, cotangents, needed, with_respect_to, results: Vec::new() }
    }

    /// The cotangents that the rule gave: input and value.
    pub(crate) fn into_results(self) -> Vec<(usize, String)> {
        self.results
    }

    /// The node that is being differentiated.
    pub(crate) fn node(&self) -> &'a Node {
        self.node
    }

    /// The graph as far as it is emitted.
    pub(crate) fn graph(&self) -> &Graph {
        self.graph
    }

    /// The geometry of a convolution or pooling node.
    pub(crate) fn window(&self) -> Result<Window> {
        Window::of(self.graph, self.node)
    }

    /// An error about the node.
    pub(crate) fn error(&self, problem: impl Into<String>) -> Error {
        Error::node(self.node, problem)
    }

    /// The name of input `i`, which the operator requires.
    pub(crate) fn input(&self, i: usize) -> Result<&'a str> {
        self.node.input(i).ok_or_else(|| self.error(format!("lacks its input {i}")))
    }

    /// The name of the node's first output.
    pub(crate) fn output(&self) -> Result<&'a str> {
        (self.node.outputs.first()).map(String::as_str).ok_or_else(|| self.error("has no output"))
    }

    /// Whether input `i` is there and needs a cotangent.
    pub(crate) fn needs(&self, i: usize) -> bool {
        self.node.input(i).is_some_and(|name| (self.needed)(name))
    }

    /// The cotangent of the node's first output.
    pub(crate) fn cotangent(&self) -> Result<&'a str> {
        self.cotangent_of(0).ok_or_else(|| self.error("is differentiable through its first output only"))
    }

    /// The cotangent of output `i`, unless nothing depends on it.
    pub(crate) fn cotangent_of(&self, i: usize) -> Option<&'a str> {
        self.cotangents.get(i)?.as_deref()
    }

    /// Makes `value` the cotangent of input `i`.
    pub(crate) fn give(&mut self, i: usize, value: &str) -> Result<()> {
        let input = self.graph.value_type(self.input(i)?)?;
        let given = self.graph.value_type(value)?;
        if input != given {
            return Err(self.error(format!("got a gradient of type {given} for its input {i} of type {input}")));
        }
        self.results.push((i, value.to_owned()));
        Ok(())
    }

    /// Makes `value`, summed over the axes that input `i` was broadcast along, its cotangent.
    pub(crate) fn give_summed(&mut self, i: usize, value: &str) -> Result<()> {
        let shape = self.shape(self.input(i)?)?;
        let sum = self.sum_to(value, &shape)?;
        self.give(i, &sum)
    }

    /// The shape of a value.
    pub(crate) fn shape(&self, name: &str) -> Result<Vec<usize>> {
        Ok(self.graph.shape(name)?.to_vec())
    }

    /// The element type of a value.
    pub(crate) fn element(&self, name: &str) -> Result<ElementType> {
        self.graph.element(name)
    }

    /// The tensor behind `name` if it is a constant: an initializer that no gradient is wanted for.
    pub(crate) fn constant_value(&self, name: &str) -> Option<Arc<Tensor>> {
        if self.with_respect_to.contains(&name) { None } else { self.graph.initializer(name).cloned() }
    }

    /// Checks that there is room for a constant of these extents: a few bytes of a model can ask for any number of elements.
    ///
    /// # Errors
    /// If it has more than [`MAX_CONSTANT`] elements, or all constants together have more than [`MAX_CONSTANTS`].
    pub(crate) fn room(&self, extents: &[usize]) -> Result<()> {
        let elements = extents.iter().fold(1usize, |product, &extent| product.saturating_mul(extent));
        // What is small is bounded by the number of nodes, and need not be counted.
        let counted =
            || self.graph.initializers().values().map(|tensor| tensor.shape().iter().product::<usize>()).sum::<usize>();
        if elements > MAX_CONSTANT || (elements > SMALL_CONSTANT && elements.saturating_add(counted()) > MAX_CONSTANTS)
        {
            return Err(
                self.error(format!("needs a constant of {elements} elements to be differentiated, which is too large"))
            );
        }
        Ok(())
    }

    /// Adds a constant.
    pub(crate) fn constant(&mut self, tensor: impl Into<Arc<Tensor>>) -> String {
        self.graph.constant(tensor)
    }

    /// Adds a scalar constant of the element type of `like`.
    pub(crate) fn scalar(&mut self, like: &str, value: f64) -> Result<String> {
        let element = self.element(like)?;
        Ok(self.graph.constant(Tensor::scalar(element, value)))
    }

    /// Appends an operator with one output.
    pub(crate) fn apply(&mut self, op: &str, inputs: &[&str], attributes: impl Into<Attributes>) -> Result<String> {
        self.graph.apply(op, inputs, attributes)
    }

    /// `a + b`
    pub(crate) fn add(&mut self, a: &str, b: &str) -> Result<String> {
        self.apply("Add", &[a, b], ())
    }

    /// `a - b`
    pub(crate) fn sub(&mut self, a: &str, b: &str) -> Result<String> {
        self.apply("Sub", &[a, b], ())
    }

    /// `a · b`
    pub(crate) fn mul(&mut self, a: &str, b: &str) -> Result<String> {
        self.apply("Mul", &[a, b], ())
    }

    /// `a / b`
    pub(crate) fn div(&mut self, a: &str, b: &str) -> Result<String> {
        self.apply("Div", &[a, b], ())
    }

    /// `-a`
    pub(crate) fn neg(&mut self, a: &str) -> Result<String> {
        self.apply("Neg", &[a], ())
    }

    /// `factor · a`, which is `a` itself where the factor is 1.
    pub(crate) fn scaled(&mut self, a: &str, factor: f64) -> Result<String> {
        if factor == 1.0 {
            return Ok(a.to_owned());
        }
        let factor = self.scalar(a, factor)?;
        self.mul(a, &factor)
    }

    /// `addend + a`
    pub(crate) fn shifted(&mut self, a: &str, addend: f64) -> Result<String> {
        let addend = self.scalar(a, addend)?;
        self.add(a, &addend)
    }

    /// `a` where `condition` holds and 0 elsewhere, for finite `a`. A product, since `Where` is the
    /// slowest elementwise operator of several engines.
    pub(crate) fn masked(&mut self, condition: &str, a: &str) -> Result<String> {
        let mask = super::layout::cast_to(self, condition, self.element(a)?)?;
        self.mul(a, &mask)
    }

    /// `a` where `condition` holds and 0 elsewhere, even where `a` is not a number.
    pub(crate) fn only_where(&mut self, condition: &str, a: &str) -> Result<String> {
        let zero = self.scalar(a, 0.0)?;
        self.apply("Where", &[condition, a, &zero], ())
    }

    /// The truth value of `a > threshold`, `a < threshold`, ... as `comparison` says.
    pub(crate) fn compare(&mut self, a: &str, comparison: &str, threshold: f64) -> Result<String> {
        let threshold = self.scalar(a, threshold)?;
        self.apply(comparison, &[a, &threshold], ())
    }

    /// The same elements under another shape.
    pub(crate) fn reshaped(&mut self, a: &str, shape: &[usize]) -> Result<String> {
        if self.graph.shape(a)? == shape {
            return Ok(a.to_owned());
        }
        let shape = self.constant(Tensor::ints(&signed(shape)));
        self.apply("Reshape", &[a, &shape], ())
    }

    /// `a` with its axes in the order `permutation`.
    pub(crate) fn transposed(&mut self, a: &str, permutation: &[usize]) -> Result<String> {
        if permutation.iter().enumerate().all(|(i, &axis)| i == axis) {
            return Ok(a.to_owned());
        }
        self.apply("Transpose", &[a], [("perm", signed(permutation))])
    }

    /// `a` repeated along axes of extent 1, or along new leading axes, up to `shape`.
    pub(crate) fn expanded(&mut self, a: &str, shape: &[usize]) -> Result<String> {
        if self.graph.shape(a)? == shape {
            return Ok(a.to_owned());
        }
        let shape = self.constant(Tensor::ints(&signed(shape)));
        self.apply("Expand", &[a, &shape], ())
    }

    /// The sum of `a` over `axes`, which keep the extent 1 if `keep` says so.
    pub(crate) fn summed(&mut self, a: &str, axes: &[usize], keep: bool) -> Result<String> {
        self.reduced("ReduceSum", a, axes, keep)
    }

    /// The reduction `op` of `a` over `axes`, which keep the extent 1 if `keep` says so.
    pub(crate) fn reduced(&mut self, op: &str, a: &str, axes: &[usize], keep: bool) -> Result<String> {
        if axes.is_empty() {
            return Ok(a.to_owned());
        }
        let axes = self.constant(Tensor::ints(&signed(axes)));
        self.apply(op, &[a, &axes], [("keepdims", i64::from(keep))])
    }

    /// The sum of `a` over the axes along which `shape` would be broadcast to that of `a`.
    pub(crate) fn sum_to(&mut self, a: &str, shape: &[usize]) -> Result<String> {
        let from = self.shape(a)?;
        let new = from.len().saturating_sub(shape.len());
        let axes: Vec<usize> =
            (0..from.len()).filter(|&axis| axis < new || (shape[axis - new] == 1 && from[axis] != 1)).collect();
        let sum = self.summed(a, &axes, false)?;
        self.reshaped(&sum, shape)
    }

    /// The elements of `a` from `starts` up to `ends` (exclusive) along each axis.
    pub(crate) fn cropped(&mut self, a: &str, starts: &[usize], ends: &[usize]) -> Result<String> {
        let shape = self.shape(a)?;
        let axes: Vec<usize> = (0..shape.len()).filter(|&i| starts[i] != 0 || ends[i] != shape[i]).collect();
        if axes.is_empty() {
            return Ok(a.to_owned());
        }
        let of_axes =
            |values: &[usize]| Tensor::ints(&axes.iter().map(|&axis| values[axis] as i64).collect::<Vec<_>>());
        let (starts, ends) = (self.constant(of_axes(starts)), self.constant(of_axes(ends)));
        let axes = self.constant(Tensor::ints(&signed(&axes)));
        self.apply("Slice", &[a, &starts, &ends, &axes], ())
    }

    /// `a` with `before` and `after` zeros added along each axis.
    pub(crate) fn zero_padded(&mut self, a: &str, before: &[usize], after: &[usize]) -> Result<String> {
        if before.iter().chain(after).all(|&n| n == 0) {
            return Ok(a.to_owned());
        }
        let pads = self.constant(Tensor::ints(&signed(&[before, after].concat())));
        self.apply("Pad", &[a, &pads], ())
    }

    /// `a` with its `axis` mapped to one of `extent` elements by the matrix `weights`, whose rows, of `extent`
    /// elements, belong to the elements of the axis.
    pub(crate) fn mapped(&mut self, a: &str, axis: usize, extent: usize, weights: &[f64]) -> Result<String> {
        let (element, shape) = (self.element(a)?, self.shape(a)?);
        let (from, last) = (shape[axis], shape.len() - 1);
        if axis + 1 == last {
            let columns: Vec<f64> = (0..extent * from).map(|i| weights[i % from * extent + i / from]).collect();
            let columns = self.constant(Tensor::floats(element, [extent, from], &columns));
            return self.apply("MatMul", &[&columns, a], ());
        }
        let rows = self.constant(Tensor::floats(element, [from, extent], weights));
        let mut order: Vec<usize> = (0..=last).collect();
        order.swap(axis, last);
        let inner = self.transposed(a, &order)?;
        let product = self.apply("MatMul", &[&inner, &rows], ())?;
        self.transposed(&product, &order)
    }

    /// Values of one type, joined along `axis`.
    pub(crate) fn concatenated(&mut self, parts: &[String], axis: usize) -> Result<String> {
        match parts {
            [only] => Ok(only.clone()),
            _ => {
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                self.apply("Concat", &parts, [("axis", axis as i64)])
            }
        }
    }

    /// A value of the given type with `number` everywhere.
    pub(crate) fn filled(&mut self, element: ElementType, shape: &[usize], number: f64) -> Result<String> {
        filled(self.graph, &ValueType::new(element, shape), number)
    }

    /// An axis attribute or element as an index, counting from the end if negative.
    pub(crate) fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let resolved = if axis < 0 { axis + rank as i64 } else { axis };
        match usize::try_from(resolved) {
            Ok(index) if index < rank => Ok(index),
            _ => Err(self.error(format!("names the axis {axis} of a value with {rank} axes"))),
        }
    }
}

/// A value of type `ty` with `number` everywhere.
pub(crate) fn filled(graph: &mut Graph, ty: &ValueType, number: f64) -> Result<String> {
    let scalar = graph.constant(Tensor::scalar(ty.element, number));
    if ty.shape.is_empty() {
        return Ok(scalar);
    }
    let shape = graph.constant(Tensor::ints(&signed(&ty.shape)));
    graph.apply("Expand", &[&scalar, &shape], ())
}

/// Extents as ONNX writes them.
pub(super) fn signed(values: &[usize]) -> Vec<i64> {
    values.iter().map(|&value| value as i64).collect()
}
