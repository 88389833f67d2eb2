//! Which constants of a model are weights.

use std::collections::{BTreeSet, HashMap, HashSet};

use onnx_grad::{ElementType, Graph, Node};

/// The layers whose weights are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layers {
    /// All of them.
    All,
    /// The last few, at least 1, in the order in which the model computes them. A layer is a convolution or a matrix
    /// product with constant weights, together with the normalisation, slopes, biases and scales that follow it.
    Last(usize),
}

/// The names of the initializers of `graph`, a model imported without folding of weights, that are trained with
/// `layers`; each once, in the order in which they are used.
///
/// These are the float32 constants from which an operand of one of these is computed, directly or by way of Identity,
/// Reshape and the like:
/// - weights and biases of `Conv`, `ConvTranspose`, `Gemm` and `MatMul`;
/// - scale and bias of `BatchNormalization`, `InstanceNormalization` and `LayerNormalization`; what `PRelu` multiplies by;
/// - what `Add` and `Mul` add to a value and multiply it by after the first layer, if it is more than one number: biases
///   and scales that the exporter has spelt out, position embeddings.
///
/// Not trained are mean and variance of `BatchNormalization` and whatever is computed from the same constant; what is
/// subtracted, divided by, or applied before the first layer, which normalises the image; bounds, exponents and other
/// settings; and constants with elements that are not finite, which mask.
pub(crate) fn trainable_initializers(graph: &Graph, layers: Layers) -> Vec<String> {
    let sources = constant_sources(graph);
    let mut after_a_layer: HashSet<&str> = HashSet::new();
    let mut frozen: BTreeSet<&str> = BTreeSet::new();
    let mut found: Vec<(usize, &str)> = Vec::new();
    let mut layer = 0;
    for node in graph.nodes().iter().filter(|node| node.outputs.iter().any(|o| !sources.contains_key(o.as_str()))) {
        let sources_of = |i: usize| node.input(i).and_then(|name| sources.get(name)).into_iter().flatten().copied();
        let follows_a_layer = node.inputs.iter().any(|input| after_a_layer.contains(input.as_str()));
        if is_layer(node) && matrix_operands(node).any(|i| sources_of(i).next().is_some()) {
            layer += 1;
            after_a_layer.extend(node.outputs.iter().map(String::as_str));
        }
        if follows_a_layer {
            after_a_layer.extend(node.outputs.iter().map(String::as_str));
        }
        let operands: &[usize] = match node.op.as_str() {
            "Conv" | "ConvTranspose" | "BatchNormalization" | "InstanceNormalization" | "LayerNormalization" => &[1, 2],
            "Gemm" => &[0, 1, 2],
            "MatMul" => &[0, 1],
            "PRelu" => &[1],
            "Add" | "Mul" if follows_a_layer => &[0, 1],
            _ => &[],
        };
        let setting = |name: &str| matches!(node.op.as_str(), "Add" | "Mul") && is_one_number(graph, name);
        let weights = operands.iter().flat_map(|&i| sources_of(i)).filter(|name| !setting(name));
        found.extend(weights.map(|name| (layer, name)));
        if node.op == "BatchNormalization" {
            frozen.extend(sources_of(3).chain(sources_of(4)));
        }
    }
    let first = match layers {
        Layers::All => 0,
        Layers::Last(count) => (layer + 1).saturating_sub(count).max(1),
    };
    let mut seen = frozen;
    (found.into_iter())
        .filter(|&(layer, name)| layer >= first && is_finite_f32(graph, name) && seen.insert(name))
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// The values that do not depend on the inputs of `graph`, with the floating-point initializers that they are computed
/// from.
fn constant_sources(graph: &Graph) -> HashMap<&str, BTreeSet<&str>> {
    let mut sources: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    for (name, tensor) in graph.initializers() {
        sources.insert(name, tensor.element().is_float().then_some(name.as_str()).into_iter().collect());
    }
    for node in graph.nodes() {
        let inputs = || node.inputs.iter().map(String::as_str).filter(|name| !name.is_empty());
        if inputs().all(|input| sources.contains_key(input)) {
            let all: BTreeSet<&str> = inputs().flat_map(|input| &sources[input]).copied().collect();
            for output in &node.outputs {
                sources.insert(output, all.clone());
            }
        }
    }
    sources
}

fn is_layer(node: &Node) -> bool {
    matches!(node.op.as_str(), "Conv" | "ConvTranspose" | "Gemm" | "MatMul")
}

/// The operands of a layer that are its weights, if they are constant.
fn matrix_operands(node: &Node) -> impl Iterator<Item = usize> {
    let first = if matches!(node.op.as_str(), "Gemm" | "MatMul") { 0 } else { 1 };
    first..=1
}

fn is_one_number(graph: &Graph, name: &str) -> bool {
    graph.initializer(name).is_some_and(|tensor| tensor.data().len() == 1)
}

fn is_finite_f32(graph: &Graph, name: &str) -> bool {
    graph.initializer(name).is_some_and(|tensor| {
        tensor.element() == ElementType::F32 && tensor.to_f64().iter().all(|number| number.is_finite())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use onnx_grad::{Tensor, ValueType};

    /// (x − mean) · scale, then convolution, batch normalisation, and a matrix product with a bias and a temperature.
    fn graph() -> Graph {
        let mut graph = Graph::new();
        graph.add_input("x", ValueType::new(ElementType::F32, [2, 3, 4, 4])).unwrap();
        let sizes: [(&str, &[usize]); 11] = [
            ("mean", &[1, 3, 1, 1]),
            ("scale", &[1, 3, 1, 1]),
            ("kernel", &[5, 3, 3, 3]),
            ("gamma", &[5]),
            ("shared", &[5]),
            ("running_mean", &[5]),
            ("running_var", &[5]),
            ("matrix", &[7, 20]),
            ("bias", &[7]),
            ("temperature", &[1]),
            ("mask", &[7]),
        ];
        for (name, shape) in sizes {
            let fill = if name == "mask" { f64::NEG_INFINITY } else { 1.0 };
            let values = vec![fill; shape.iter().product()];
            graph.add_initializer(name, Tensor::floats(ElementType::F32, shape, &values)).unwrap();
        }
        let x = graph.apply("Sub", &["x", "mean"], ()).unwrap();
        let x = graph.apply("Mul", &[&x, "scale"], ()).unwrap();
        let x = graph.apply("Conv", &[&x, "kernel"], ()).unwrap();
        let beta = graph.apply("Identity", &["shared"], ()).unwrap();
        let x = graph.apply("BatchNormalization", &[&x, "gamma", &beta, "running_mean", "running_var"], ()).unwrap();
        let x = graph.apply("Flatten", &[&x], ()).unwrap();
        let matrix = graph.apply("Transpose", &["matrix"], ()).unwrap();
        let x = graph.apply("MatMul", &[&x, &matrix], ()).unwrap();
        let x = graph.apply("Add", &[&x, "bias"], ()).unwrap();
        let x = graph.apply("Mul", &[&x, "temperature"], ()).unwrap();
        let x = graph.apply("Add", &[&x, "mask"], ()).unwrap();
        graph.add_output(&x).unwrap();
        graph
    }

    #[test]
    fn weights_are_trained_and_what_normalises_or_masks_is_not() {
        assert_eq!(trainable_initializers(&graph(), Layers::All), ["kernel", "gamma", "shared", "matrix", "bias"]);
    }

    #[test]
    fn the_last_layers_are_counted_from_the_output() {
        assert_eq!(trainable_initializers(&graph(), Layers::Last(1)), ["matrix", "bias"]);
        let all = trainable_initializers(&graph(), Layers::All);
        for count in [2, 3, usize::MAX] {
            assert_eq!(trainable_initializers(&graph(), Layers::Last(count)), all);
        }
    }

    #[test]
    fn a_constant_that_is_also_a_running_mean_is_frozen() {
        let mut graph = graph();
        let last = graph.outputs()[0].clone();
        let row = graph.constant(Tensor::ints(&[2, 7, 1, 1]));
        let x = graph.apply("Reshape", &[&last, &row], ()).unwrap();
        let seven = |graph: &mut Graph| graph.constant(Tensor::floats(ElementType::F32, [7], &[2.0; 7]));
        let (gamma, beta, variance) = (seven(&mut graph), seven(&mut graph), seven(&mut graph));
        let x = graph.apply("BatchNormalization", &[&x, &gamma, &beta, "bias", &variance], ()).unwrap();
        graph.set_outputs(&[&x]).unwrap();
        assert_eq!(trainable_initializers(&graph, Layers::Last(1)), ["matrix".to_owned(), gamma, beta]);
    }
}
