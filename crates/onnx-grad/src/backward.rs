//! The reverse sweep.

use crate::{Graph, Result};

/// A graph with the gradients of `differentiate` as further outputs.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// The forward graph's nodes and outputs, then the gradients.
    pub graph: Graph,
    /// For each value in `with_respect_to`, the name of the output that is its gradient.
    pub names: Vec<String>,
}

/// The gradients of the sum of all elements of `outputs` with respect to each of
/// `with_respect_to` (inputs, initializers or intermediate values; floating point).
pub fn differentiate(graph: &Graph, outputs: &[&str], with_respect_to: &[&str]) -> Result<Gradients> {
    let _ = (graph, outputs, with_respect_to);
    Err(crate::Error::Model("not differentiable yet".into()))
}
