//! Attributes that have become inputs.

use crate::{Attribute, Error, Graph, Node, Result, Tensor};

/// Gives `node` as inputs what it has as attributes.
pub(super) fn upgrade(graph: &mut Graph, node: &mut Node, version: i64) -> Result<()> {
    match node.op.as_str() {
        "Clip" if version < 11 => {
            let bounds = ["min", "max"];
            bounds.into_iter().enumerate().try_for_each(|(i, name)| number(graph, node, name, i + 1))
        }
        "Pad" if version < 11 => {
            ints(graph, node, "pads", 1)?;
            number(graph, node, "value", 2)
        }
        "Slice" if version < 10 => {
            let bounds = ["starts", "ends", "axes"];
            bounds.into_iter().enumerate().try_for_each(|(i, name)| ints(graph, node, name, i + 1))
        }
        "Squeeze" | "Unsqueeze" | "ReduceSum" if version < 13 => ints(graph, node, "axes", 1),
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax" | "ReduceMean" | "ReduceMin"
        | "ReduceProd" | "ReduceSumSquare"
            if version < 18 =>
        {
            ints(graph, node, "axes", 1)
        }
        "Split" => split(graph, node, version),
        _ => Ok(()),
    }
}

/// Without sizes the parts are equal, and since opset 18 their number is stated.
fn split(graph: &mut Graph, node: &mut Node, version: i64) -> Result<()> {
    if version < 13 {
        ints(graph, node, "split", 1)?;
    }
    if version < 18 && node.input(1).is_none() {
        node.attributes.set("num_outputs", node.outputs.len() as i64);
    }
    Ok(())
}

fn ints(graph: &mut Graph, node: &mut Node, name: &str, position: usize) -> Result<()> {
    match node.attributes.remove(name) {
        None => Ok(()),
        Some(Attribute::Ints(values)) => give(graph, node, position, Tensor::ints(&values)),
        Some(_) => Err(Error::node(node, format!("has an attribute `{name}` that is not a list of integers"))),
    }
}

/// The number takes the element type of the first input.
fn number(graph: &mut Graph, node: &mut Node, name: &str, position: usize) -> Result<()> {
    match node.attributes.remove(name) {
        None => Ok(()),
        Some(Attribute::Float(value)) => {
            let data = node.input(0).ok_or_else(|| Error::node(node, "lacks its first input"))?;
            let tensor = Tensor::scalar(graph.element(data)?, f64::from(value));
            give(graph, node, position, tensor)
        }
        Some(_) => Err(Error::node(node, format!("has an attribute `{name}` that is not a number"))),
    }
}

fn give(graph: &mut Graph, node: &mut Node, position: usize, tensor: Tensor) -> Result<()> {
    if node.inputs.len() > position {
        return Err(Error::node(node, format!("has {} inputs, more than its opset allows", node.inputs.len())));
    }
    node.inputs.resize(position, String::new());
    node.inputs.push(graph.constant(tensor));
    Ok(())
}
