//! What is refused, and the words for it.
//!
//! A model under scan is untrusted: every size is checked before it is multiplied or allocated,
//! and what cannot be honoured is refused by name rather than guessed at.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::proto::{AttributeProto, GraphProto, ModelProto, NodeProto};
use crate::{ElementType, Error, Node, OPSET, Result, ValueType};

/// The oldest opset that is understood: before it, broadcasting was an attribute.
const OLDEST_OPSET: i64 = 7;

/// The newest opset whose changes since [`OPSET`] are known.
const NEWEST_OPSET: i64 = 25;

/// The opset that the model is written for.
pub(crate) fn opset(model: &ModelProto) -> Result<i64> {
    let versions: BTreeSet<i64> = model
        .opset_import
        .iter()
        .filter(|import| is_default_domain(import.domain.as_deref()))
        .map(|import| import.version.unwrap_or_default())
        .collect();
    match versions.into_iter().collect::<Vec<_>>()[..] {
        [version] if (OLDEST_OPSET..=NEWEST_OPSET).contains(&version) => Ok(version),
        [version] => Err(Error::Model(format!(
            "it is written for opset {version}; opsets {OLDEST_OPSET} to {NEWEST_OPSET} are supported, \
             {OPSET} being the best choice for an export"
        ))),
        [] => Err(Error::Model("it does not say which version of the ONNX operators (opset) it uses".to_owned())),
        _ => Err(Error::Model("it imports the ONNX operators in several versions (opsets)".to_owned())),
    }
}

/// The model's graph, if it keeps to the rules of ONNX on the whole.
pub(crate) fn graph(model: &ModelProto) -> Result<&GraphProto> {
    let graph = model.graph.as_ref().ok_or_else(|| Error::Model("it has no graph".to_owned()))?;
    if let Some(tensor) = graph.sparse_initializer.first() {
        let name = tensor.values.as_ref().map_or("", |values| values.name());
        return Err(Error::value(name, "is a sparse initializer, which is not supported; export it as a dense one"));
    }
    if graph.output.is_empty() {
        return Err(Error::Model("its graph has no outputs".to_owned()));
    }
    unique_names(graph)?;
    Ok(graph)
}

/// The shape that `dims` give, or what is wrong with them.
pub(crate) fn shape(dims: &[i64]) -> Result<Vec<usize>, String> {
    let shape: Vec<usize> = dims
        .iter()
        .map(|&dim| usize::try_from(dim).map_err(|_| format!("has an extent of {dim}")))
        .collect::<Result<_, _>>()?;
    bounded(&shape)?;
    Ok(shape)
}

/// That a value of `shape` is of a size which can be handled.
pub(crate) fn bounded(shape: &[usize]) -> Result<(), String> {
    if ValueType::new(ElementType::F32, shape).is_bounded() {
        return Ok(());
    }
    let (elements, axes) = (ValueType::MAX_LEN, ValueType::MAX_RANK);
    Err(format!("has the shape {shape:?}, and no value may have more than {elements} elements or {axes} axes"))
}

/// The most nodes that a file may have, used or not.
const MAX_STORED_NODES: usize = 1 << 18;

/// The most nodes that a graph may have, read or written. Engines take time that grows with the square of it.
const MAX_NODES: usize = 1 << 15;

/// That a file does not have more nodes than can be looked at.
pub(crate) fn stored_nodes(nodes: usize) -> Result<()> {
    at_most(MAX_STORED_NODES, nodes)
}

/// That a graph does not have more nodes than can be handled.
pub(crate) fn node_count(nodes: usize) -> Result<()> {
    at_most(MAX_NODES, nodes)
}

fn at_most(most: usize, nodes: usize) -> Result<()> {
    if nodes <= most {
        return Ok(());
    }
    Err(Error::Model(format!("its graph has {nodes} nodes, and no more than {most} are supported")))
}

/// The longest chain of nodes that a written graph may have: engines follow it by recursion.
const MAX_DEPTH: usize = 1 << 14;

/// That no chain of `nodes`, each of which reads what the one before it puts out, is longer than engines can follow.
pub(crate) fn depth(nodes: &[Node]) -> Result<()> {
    let mut depths: HashMap<&str, usize> = HashMap::new();
    for node in nodes {
        let depth =
            node.inputs.iter().filter_map(|input| depths.get(input.as_str())).max().map_or(1, |depth| depth + 1);
        if depth > MAX_DEPTH {
            return Err(Error::node(node, format!("is at the end of a chain of more than {MAX_DEPTH} nodes")));
        }
        depths.extend(node.outputs.iter().map(|output| (output.as_str(), depth)));
    }
    Ok(())
}

/// That every name is defined once: inputs, constants and what the nodes put out.
fn unique_names(graph: &GraphProto) -> Result<()> {
    let mut constants = HashSet::new();
    for tensor in &graph.initializer {
        if !constants.insert(tensor.name()) {
            return Err(Error::value(tensor.name(), "is defined by two initializers"));
        }
    }
    let mut inputs = HashSet::new();
    for input in &graph.input {
        if !inputs.insert(input.name()) {
            return Err(Error::value(input.name(), "is declared as an input twice"));
        }
    }
    let mut computed = HashSet::new();
    for node in &graph.node {
        for output in node.output.iter().map(String::as_str).filter(|output| !output.is_empty()) {
            if !computed.insert(output) || constants.contains(output) || inputs.contains(output) {
                return Err(node_error(node, format!("puts out `{output}`, which is already defined")));
            }
        }
    }
    Ok(())
}

/// That the node is an operator of the default ONNX domain.
pub(crate) fn domain(node: &NodeProto) -> Result<()> {
    if is_default_domain(node.domain.as_deref()) {
        return Ok(());
    }
    Err(node_error(
        node,
        match node.domain() {
            "com.microsoft" => "is an operator of ONNX Runtime and not of ONNX; use the model as it was before ONNX \
                                Runtime optimised or quantised it"
                .to_owned(),
            "ai.onnx.ml" => "is not an operator of neural networks".to_owned(),
            domain => format!("is an operator of the domain `{domain}`; only ONNX's own operators are supported"),
        },
    ))
}

/// That the node is not quantised arithmetic, which computes on integers and so has no derivative.
pub(crate) fn not_on_integers(node: &NodeProto) -> Result<()> {
    match node.op_type() {
        "QLinearConv" | "QLinearMatMul" | "ConvInteger" | "MatMulInteger" | "DynamicQuantizeLinear" => Err(node_error(
            node,
            "computes on integers, which has no derivative; quantise the model in the QDQ form (QuantFormat.QDQ of \
             onnxruntime.quantization.quantize_static), or use it as it was before it was quantised",
        )),
        _ => Ok(()),
    }
}

/// That no attribute is a graph: control flow has no derivative here.
pub(crate) fn no_subgraph(node: &NodeProto) -> Result<()> {
    if subgraphs(node).next().is_none() {
        return Ok(());
    }
    Err(node_error(
        node,
        "is control flow, which cannot be differentiated; export the model by tracing it, so that loops and branches \
         are resolved",
    ))
}

/// The graphs among the node's attributes.
pub(crate) fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute
        .iter()
        .flat_map(|attribute: &AttributeProto| attribute.g.as_deref().into_iter().chain(&attribute.graphs))
}

/// An error about `node` as it stands in the file.
pub(crate) fn node_error(node: &NodeProto, problem: impl Into<String>) -> Error {
    let first_output = || node.output.iter().find(|output| !output.is_empty()).map_or("", String::as_str);
    Error::Node {
        node: if node.name().is_empty() { first_output() } else { node.name() }.to_owned(),
        op: operator(node),
        problem: problem.into(),
    }
}

/// The node's operator, with its domain where that is not ONNX's own.
pub(crate) fn operator(node: &NodeProto) -> String {
    match node.domain() {
        "" | "ai.onnx" => node.op_type().to_owned(),
        domain => format!("{domain}.{}", node.op_type()),
    }
}

pub(crate) fn is_default_domain(domain: Option<&str>) -> bool {
    matches!(domain, None | Some("" | "ai.onnx"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{OperatorSetIdProto, TensorProto, ValueInfoProto};

    fn node(domain: &str, output: &str) -> NodeProto {
        NodeProto {
            name: Some("n".to_owned()),
            op_type: Some("Op".to_owned()),
            domain: Some(domain.to_owned()),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    #[test]
    fn only_one_known_opset_is_accepted() {
        let with = |versions: &[(&str, i64)]| {
            let import = |&(domain, version): &(&str, i64)| OperatorSetIdProto {
                domain: Some(domain.to_owned()),
                version: Some(version),
            };
            let model = ModelProto { opset_import: versions.iter().map(import).collect(), ..ModelProto::default() };
            opset(&model).map_err(|error| error.to_string())
        };
        assert_eq!(with(&[("", 13), ("com.microsoft", 1)]), Ok(13));
        assert_eq!(with(&[("ai.onnx", 7), ("", 7)]), Ok(7));
        for (versions, expected) in [
            (&[("", 6)][..], "written for opset 6; opsets 7 to 25 are supported"),
            (&[("", 99)], "written for opset 99"),
            (&[("", 13), ("ai.onnx", 14)], "in several versions"),
            (&[("ai.onnx.ml", 3)], "does not say which version"),
        ] {
            let error = with(versions).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn foreign_operators_are_refused_with_a_way_out() {
        assert_eq!(domain(&node("ai.onnx", "y")), Ok(()));
        for (name, expected) in [
            ("com.microsoft", "node `n` (com.microsoft.Op): is an operator of ONNX Runtime and not of ONNX"),
            ("other", "node `n` (other.Op): is an operator of the domain `other`"),
        ] {
            let error = domain(&node(name, "y")).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn names_are_defined_once() {
        let tensor = TensorProto { name: Some("w".to_owned()), ..TensorProto::default() };
        let input = ValueInfoProto { name: Some("x".to_owned()), ..ValueInfoProto::default() };
        let graph = |outputs: &[&str], tensors: usize| GraphProto {
            node: outputs.iter().map(|output| node("", output)).collect(),
            initializer: vec![tensor.clone(); tensors],
            input: vec![input.clone()],
            ..GraphProto::default()
        };
        assert_eq!(unique_names(&graph(&["y", "z"], 1)), Ok(()));
        for (outputs, tensors) in [(&["y", "y"], 1), (&["w", "z"], 1), (&["x", "z"], 1), (&["y", "z"], 2)] {
            assert!(unique_names(&graph(outputs, tensors)).is_err(), "{outputs:?}");
        }
    }

    #[test]
    fn extents_are_checked_before_they_are_multiplied() {
        assert_eq!(shape(&[2, 0, 3]), Ok(vec![2, 0, 3]));
        for dims in [&[-1][..], &[i64::MAX, i64::MAX], &[1 << 31], &[0, 1 << 40], &[1; 33]] {
            assert!(shape(dims).is_err(), "{dims:?}");
        }
    }
}
