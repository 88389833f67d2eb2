//! Evaluation of nodes whose inputs are constants.

mod element;
mod elementwise;
mod layout;
mod number;
mod reduce;
mod strided;

use std::collections::BTreeSet;

use crate::infer::{Call, infer};
use crate::{Graph, Node, Result, Tensor, TensorData, ValueType};

/// The number of elements up to which a result may be larger than what it is computed from.
/// Beyond it a node stays in the graph: a few bytes of a hostile model could otherwise ask for
/// gigabytes of constants.
const GROWTH_LIMIT: usize = 1 << 16;

/// The outputs of `node` if they are known before anything runs: its inputs are constants of
/// `graph`, or it only asks for their shape. `None` where that is not so or the operator has
/// no evaluation here.
pub(crate) fn fold(graph: &Graph, node: &Node) -> Result<Option<Vec<Tensor>>> {
    let call = Call { graph, node };
    match node.op.as_str() {
        "Shape" => return shape(&call).map(one),
        "Size" => return size(&call).map(one),
        _ => {}
    }
    let is_constant = |name: &String| name.is_empty() || graph.initializer(name).is_some();
    if !node.inputs.iter().all(is_constant) {
        return Ok(None);
    }
    let outputs = infer(graph, node)?;
    let names: BTreeSet<&str> = (0..node.inputs.len()).filter_map(|i| node.input(i)).collect();
    let available: usize = names.iter().filter_map(|name| graph.initializer(name)).map(|t| t.data().len()).sum();
    if outputs.iter().map(ValueType::len).sum::<usize>() > available.max(GROWTH_LIMIT) {
        return Ok(None);
    }
    evaluate(&Operands { call, outputs })
}

/// A node whose inputs are constants, with the types that its outputs will have.
struct Operands<'a> {
    call: Call<'a>,
    outputs: Vec<ValueType>,
}

impl<'a> Operands<'a> {
    /// The constant that is input `i`, if it is given.
    fn optional(&self, i: usize) -> Option<&'a Tensor> {
        self.call.node.input(i).and_then(|name| self.call.graph.initializer(name)).map(AsRef::as_ref)
    }

    /// The constant that is input `i`.
    fn input(&self, i: usize) -> Result<&'a Tensor> {
        self.optional(i).ok_or_else(|| self.call.error(format!("lacks input {i}")))
    }

    /// The extents of the first output.
    fn shape(&self) -> &[usize] {
        self.outputs.first().map_or(&[], |ty| &ty.shape)
    }

    /// The first output with these elements.
    fn output(&self, data: TensorData) -> Tensor {
        Tensor::new(self.shape(), data)
    }
}

fn evaluate(operands: &Operands) -> Result<Option<Vec<Tensor>>> {
    Ok(match operands.call.node.op.as_str() {
        "Identity" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
            one(operands.output(operands.input(0)?.data().clone()))
        }
        "Dropout" => {
            let kept = operands.input(0)?.clone();
            let mask = Tensor::new(kept.shape(), TensorData::Bool(vec![true; kept.data().len()]));
            Some(vec![kept, mask])
        }
        "Cast" | "CastLike" => one(operands.output(elementwise::cast(operands)?)),
        "Neg" | "Abs" | "Sign" | "Relu" | "Sqrt" | "Reciprocal" | "Exp" | "Log" | "Floor" | "Ceil" | "Round"
        | "Sin" | "Cos" => one(operands.output(elementwise::unary(operands)?)),
        "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Pow" | "Max" | "Min" | "Sum" => {
            one(operands.output(elementwise::arithmetic(operands)?))
        }
        "Clip" => one(operands.output(elementwise::clip(operands)?)),
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" => {
            one(operands.output(elementwise::compare(operands)?))
        }
        "And" | "Or" | "Xor" | "Not" => one(operands.output(elementwise::logic(operands)?)),
        "Where" => one(operands.output(elementwise::select(operands)?)),

        "Transpose" => one(operands.output(layout::transpose(operands)?)),
        "Expand" => one(operands.output(layout::expand(operands)?)),
        "Tile" => one(operands.output(layout::tile(operands)?)),
        "Slice" => one(operands.output(layout::slice(operands)?)),
        "Split" => Some(layout::split(operands)?),
        "Concat" => one(operands.output(layout::concat(operands)?)),
        "Gather" => one(operands.output(layout::gather(operands)?)),
        "Trilu" => one(operands.output(layout::triangle(operands)?)),
        "ConstantOfShape" => one(operands.output(layout::constant_of_shape(operands)?)),
        "Range" => one(operands.output(layout::range(operands)?)),

        "ReduceSum" | "ReduceProd" | "ReduceMax" | "ReduceMin" | "ReduceMean" => {
            one(operands.output(reduce::reduce(operands)?))
        }
        "CumSum" => one(operands.output(reduce::cumulative_sum(operands)?)),
        _ => None,
    })
}

fn shape(call: &Call) -> Result<Tensor> {
    let of_shape = infer(call.graph, call.node)?.remove(0).len();
    let shape = &call.input(0)?.shape;
    let start = call.int("start", 0)?;
    let start = (if start < 0 { start.saturating_add(shape.len() as i64) } else { start }).max(0) as usize;
    let extents: Vec<i64> = shape.iter().skip(start).take(of_shape).map(|&extent| extent as i64).collect();
    Ok(Tensor::ints(&extents))
}

fn size(call: &Call) -> Result<Tensor> {
    infer(call.graph, call.node)?;
    Ok(Tensor::new([], TensorData::I64(vec![call.input(0)?.len() as i64])))
}

fn one(tensor: Tensor) -> Option<Vec<Tensor>> {
    Some(vec![tensor])
}

#[cfg(test)]
mod tests;
