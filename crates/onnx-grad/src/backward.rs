//! The reverse sweep.

use std::collections::{HashMap, HashSet};

use crate::vjp::{self, Pullback, Vjp};
use crate::{Error, Graph, Node, Result};

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
///
/// A value that no output depends on has a gradient of zeros. Initializers that are not in
/// `with_respect_to` count as constants: what is derived from their elements (flipped
/// convolution kernels, say) becomes a constant of the new graph.
///
/// # Errors
/// If a value is not in the graph or not floating-point, or if a node between
/// `with_respect_to` and `outputs` has no derivative here.
pub fn differentiate(graph: &Graph, outputs: &[&str], with_respect_to: &[&str]) -> Result<Gradients> {
    for &name in outputs.iter().chain(with_respect_to) {
        let element = graph.element(name)?;
        if !element.is_float() {
            return Err(Error::value(name, format!("is of type {element} and has no gradient")));
        }
    }
    let dependent = dependents(graph, with_respect_to);
    let path = path(graph, outputs, &dependent)?;

    let mut sweep = Sweep { graph: graph.clone(), contributions: HashMap::new() };
    for &output in outputs {
        let seed = sweep.filled(output, 1.0)?;
        sweep.contribute(output, seed);
    }
    for (node, vjp) in path.into_iter().rev() {
        sweep.step(node, vjp, &dependent, with_respect_to)?;
    }
    sweep.finish(with_respect_to)
}

/// The floating-point values that change when one of `sources` does.
fn dependents<'g>(graph: &'g Graph, sources: &[&'g str]) -> HashSet<&'g str> {
    let mut dependent: HashSet<&str> = sources.iter().copied().collect();
    for node in graph.nodes() {
        if node.inputs.iter().any(|input| dependent.contains(input.as_str())) {
            let floats = node.outputs.iter().filter(|output| graph.element(output).is_ok_and(|e| e.is_float()));
            dependent.extend(floats.map(String::as_str));
        }
    }
    dependent
}

/// The nodes through which a gradient flows from `outputs` to the sources of `dependent`, in
/// topological order and with their rules.
fn path<'g>(graph: &'g Graph, outputs: &[&'g str], dependent: &HashSet<&str>) -> Result<Vec<(&'g Node, Vjp)>> {
    let mut wanted: HashSet<&str> = outputs.iter().copied().collect();
    let mut path = Vec::new();
    for node in graph.nodes().iter().rev() {
        let reached = node.outputs.iter().map(String::as_str).any(|o| wanted.contains(o) && dependent.contains(o));
        if reached && node.inputs.iter().any(|input| dependent.contains(input.as_str())) {
            let rule = vjp::of(&node.op).ok_or_else(|| Error::node(node, "has no derivative in this program"))?;
            wanted.extend(node.inputs.iter().map(String::as_str));
            path.push((node, rule));
        }
    }
    path.reverse();
    Ok(path)
}

/// The graph as it grows, and what has been found of each value's cotangent.
struct Sweep {
    graph: Graph,
    contributions: HashMap<String, Vec<String>>,
}

impl Sweep {
    /// Emits the cotangents of the inputs of `node`.
    fn step(&mut self, node: &Node, vjp: Vjp, dependent: &HashSet<&str>, with_respect_to: &[&str]) -> Result<()> {
        let cotangents = node.outputs.iter().map(|output| self.total(output)).collect::<Result<Vec<_>>>()?;
        if cotangents.iter().all(Option::is_none) {
            return Ok(());
        }
        let needed = |name: &str| dependent.contains(name);
        let mut pullback = Pullback::new(&mut self.graph, node, &cotangents, &needed, with_respect_to);
        vjp(&mut pullback)?;
        for (input, cotangent) in pullback.into_results() {
            self.contribute(&node.inputs[input], cotangent);
        }
        Ok(())
    }

    fn contribute(&mut self, value: &str, cotangent: String) {
        self.contributions.entry(value.to_owned()).or_default().push(cotangent);
    }

    /// The sum of what has been contributed to the cotangent of `value`.
    fn total(&mut self, value: &str) -> Result<Option<String>> {
        let mut terms = self.contributions.remove(value).unwrap_or_default().into_iter();
        let Some(mut sum) = terms.next() else { return Ok(None) };
        for term in terms {
            sum = self.graph.apply("Add", &[&sum, &term], ())?;
        }
        self.contribute(value, sum.clone());
        Ok(Some(sum))
    }

    /// A value of the type of `like` with the same number everywhere.
    fn filled(&mut self, like: &str, number: f64) -> Result<String> {
        let ty = self.graph.value_type(like)?.clone();
        vjp::filled(&mut self.graph, &ty, number)
    }

    /// Makes the cotangents of `with_respect_to` outputs and drops what they do not need.
    fn finish(mut self, with_respect_to: &[&str]) -> Result<Gradients> {
        let mut names = Vec::with_capacity(with_respect_to.len());
        for &value in with_respect_to {
            let cotangent = match self.total(value)? {
                Some(cotangent) => cotangent,
                None => self.filled(value, 0.0)?,
            };
            let name = self.graph.fresh_name(&format!("gradient({value})"));
            self.graph.push(Node::new("Identity", &[&cotangent], &name, ()))?;
            self.graph.add_output(&name)?;
            names.push(name);
        }
        Ok(Gradients { graph: self.graph.without_dead_nodes(), names })
    }
}
