use crate::{Attributes, ElementType, Graph, Node, Result, Tensor};

/// The nodes that stand for another one, as they are put together.
pub(crate) struct Rewrite<'a> {
    graph: &'a mut Graph,
    original: Node,
    nodes: Vec<Node>,
}

impl<'a> Rewrite<'a> {
    pub(crate) fn new(graph: &'a mut Graph, original: Node) -> Self {
        Rewrite { graph, original, nodes: Vec::new() }
    }

    /// Type and extents of an input of the original node.
    pub(crate) fn input(&self, i: usize) -> Result<(String, ElementType, Vec<usize>)> {
        let missing = || crate::Error::node(&self.original, format!("lacks its input {i}"));
        let name = self.original.input(i).ok_or_else(missing)?;
        let ty = self.graph.value_type(name)?;
        Ok((name.to_owned(), ty.element, ty.shape.clone()))
    }

    /// The node that is to be replaced.
    pub(crate) fn original(&self) -> &Node {
        &self.original
    }

    pub(crate) fn constant(&mut self, tensor: Tensor) -> String {
        self.graph.constant(tensor)
    }

    /// A further node; the name of its output.
    pub(crate) fn apply(&mut self, op: &str, inputs: &[&str], attributes: impl Into<Attributes>) -> String {
        let output = self.graph.fresh_name(op);
        self.push(op, inputs, attributes.into(), output.clone());
        output
    }

    /// All nodes, the last of which puts out what the original did.
    pub(crate) fn finish(mut self, op: &str, inputs: &[&str], attributes: impl Into<Attributes>) -> Vec<Node> {
        let output = self.original.outputs.first().cloned().unwrap_or_default();
        self.push(op, inputs, attributes.into(), output);
        self.nodes
    }

    fn push(&mut self, op: &str, inputs: &[&str], attributes: Attributes, output: String) {
        self.nodes.push(Node {
            name: self.original.name.clone(),
            op: op.to_owned(),
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            outputs: vec![output],
            attributes,
        });
    }
}
