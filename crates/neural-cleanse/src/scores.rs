//! What a classifier's scores are, and the logits behind them.

use onnx_grad::{Graph, Node, simplify};

use crate::error::Result;

/// What a model gives for each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scores {
    /// Any numbers, taken as they are.
    Logits,
    /// Probabilities from a Softmax, which is left off.
    Softmax,
    /// A probability for each class by itself from a Sigmoid, which is left off; where there is one alone, it is that of
    /// the second of two classes.
    Sigmoid,
    /// Probabilities that are made in another way, of which the logarithm is taken.
    Probabilities,
}

impl std::fmt::Display for Scores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Scores::Logits => "logits",
            Scores::Softmax => "probabilities (the Softmax is left off)",
            Scores::Sigmoid => "probabilities (the Sigmoid is left off)",
            Scores::Probabilities => "probabilities without a Softmax (their logarithm is taken)",
        })
    }
}

/// Operators that only rearrange the scores after a Softmax.
const REARRANGING: [&str; 5] = ["Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze"];

/// The position of the Softmax or Sigmoid that the graph's first output comes from, but for rearrangement.
pub(crate) fn trailing_activation(graph: &Graph) -> Option<(usize, Scores)> {
    let mut value = graph.outputs().first()?;
    loop {
        let position = graph.nodes().iter().rposition(|node| node.outputs.contains(value))?;
        let node: &Node = &graph.nodes()[position];
        match node.op.as_str() {
            "Softmax" => return Some((position, Scores::Softmax)),
            "Sigmoid" => return Some((position, Scores::Sigmoid)),
            op if REARRANGING.contains(&op) => value = node.inputs.first()?,
            _ => return None,
        }
    }
}

/// The graph from whose first output the Softmax or Sigmoid at the end is gone.
pub(crate) fn without_trailing_activation(graph: Graph) -> Result<Graph> {
    let Some((position, _)) = trailing_activation(&graph) else {
        return Ok(graph);
    };
    let mut rebuilt = Graph::new();
    for input in graph.inputs() {
        rebuilt.add_input(input, graph.value_type(input)?.clone())?;
    }
    for (name, tensor) in graph.initializers() {
        rebuilt.add_initializer(name, tensor.clone())?;
    }
    for (i, node) in graph.nodes().iter().enumerate() {
        let mut node = node.clone();
        if i == position {
            node.op = "Identity".to_owned();
            node.attributes = ().into();
        }
        rebuilt.push(node)?;
    }
    let outputs: Vec<&str> = graph.outputs().iter().map(String::as_str).collect();
    rebuilt.set_outputs(&outputs)?;
    Ok(simplify(rebuilt)?)
}
