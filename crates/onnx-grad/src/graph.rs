use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::{Attribute, Attributes, ElementType, Error, Result, Tensor, ValueType, check, infer};

/// The opset of every [`Graph`]: older and newer models are brought to it on import.
pub const OPSET: i64 = 18;

/// One operator application. Inputs and outputs are names of values; an optional input or
/// output which is not given is the empty string, as in ONNX.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// For messages; need not be unique.
    pub name: String,
    /// The operator of the default ONNX domain, at opset [`OPSET`].
    pub op: String,
    /// Names of the values that go in.
    pub inputs: Vec<String>,
    /// Names of the values that come out.
    pub outputs: Vec<String>,
    /// The operator's attributes; those left out have the default of the specification.
    pub attributes: Attributes,
}

impl Node {
    /// A node without a name and with one output.
    pub fn new(op: &str, inputs: &[&str], output: &str, attributes: impl Into<Attributes>) -> Self {
        Node {
            name: String::new(),
            op: op.to_owned(),
            inputs: inputs.iter().map(|&name| name.to_owned()).collect(),
            outputs: vec![output.to_owned()],
            attributes: attributes.into(),
        }
    }

    /// The node's name or, where it has none, its first output: what messages call it.
    pub fn label(&self) -> &str {
        if !self.name.is_empty() { &self.name } else { self.outputs.iter().find(|o| !o.is_empty()).map_or("", |o| o) }
    }

    /// The name of input `i`, unless it is left out.
    pub fn input(&self, i: usize) -> Option<&str> {
        self.inputs.get(i).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// An integer attribute, or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        match self.attributes.get(name) {
            Some(&Attribute::Int(value)) => value,
            _ => default,
        }
    }

    /// A float attribute, or its default.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        match self.attributes.get(name) {
            Some(&Attribute::Float(value)) => value,
            _ => default,
        }
    }

    /// A list of integers, if the attribute is there.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attributes.get(name) {
            Some(Attribute::Ints(values)) => Some(values),
            _ => None,
        }
    }

    /// A string attribute, or its default.
    pub fn string<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        match self.attributes.get(name) {
            Some(Attribute::String(value)) => value,
            _ => default,
        }
    }
}

/// A static-shaped, single-opset ONNX graph: nodes in topological order, constants, and the
/// type of every value. Whatever is appended is checked and its type inferred at once, so a
/// `Graph` is well-typed at all times.
///
/// ```
/// use onnx_grad::{ElementType, Graph, ValueType, differentiate};
///
/// # fn main() -> onnx_grad::Result<()> {
/// let mut graph = Graph::new();
/// graph.add_input("x", ValueType::new(ElementType::F32, [2, 3]))?;
/// let y = graph.apply("Tanh", &["x"], ())?;
/// graph.add_output(&y)?;
/// let gradients = differentiate(&graph, &[&y], &["x"])?;
/// assert_eq!(gradients.graph.shape(&gradients.names[0])?, [2, 3]);
/// let onnx: Vec<u8> = gradients.graph.to_model_bytes("tanh and its gradient")?;
/// # assert!(!onnx.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Graph {
    inputs: Vec<String>,
    outputs: Vec<String>,
    nodes: Vec<Node>,
    initializers: BTreeMap<String, Arc<Tensor>>,
    types: HashMap<String, ValueType>,
    fresh: usize,
}

impl Graph {
    /// A graph with nothing in it.
    pub fn new() -> Self {
        Graph::default()
    }

    /// Names of the graph's inputs, in order.
    pub fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// Names of the graph's outputs, in order.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// The nodes in topological order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The constants by name.
    pub fn initializers(&self) -> &BTreeMap<String, Arc<Tensor>> {
        &self.initializers
    }

    /// The constant called `name`, if it is one.
    pub fn initializer(&self, name: &str) -> Option<&Arc<Tensor>> {
        self.initializers.get(name)
    }

    /// The type of the value called `name`.
    pub fn value_type(&self, name: &str) -> Result<&ValueType> {
        self.types.get(name).ok_or_else(|| Error::value(name, "is not in the graph"))
    }

    /// The shape of the value called `name`.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.value_type(name)?.shape)
    }

    /// The element type of the value called `name`.
    pub fn element(&self, name: &str) -> Result<ElementType> {
        Ok(self.value_type(name)?.element)
    }

    /// Whether a value called `name` exists.
    pub fn contains(&self, name: &str) -> bool {
        self.types.contains_key(name)
    }

    /// Adds an input of the graph.
    pub fn add_input(&mut self, name: &str, ty: ValueType) -> Result<()> {
        self.define(name, ty)?;
        self.inputs.push(name.to_owned());
        Ok(())
    }

    /// Adds a constant under a name of the caller's choice.
    pub fn add_initializer(&mut self, name: &str, tensor: impl Into<Arc<Tensor>>) -> Result<()> {
        let tensor = tensor.into();
        self.define(name, tensor.value_type())?;
        self.initializers.insert(name.to_owned(), tensor);
        Ok(())
    }

    /// Adds a constant under a fresh name, which is returned.
    pub fn constant(&mut self, tensor: impl Into<Arc<Tensor>>) -> String {
        let tensor = tensor.into();
        let name = self.fresh_name("const");
        self.types.insert(name.clone(), tensor.value_type());
        self.initializers.insert(name.clone(), tensor);
        name
    }

    /// Appends a node, infers the types of its outputs and defines them.
    pub fn push(&mut self, node: Node) -> Result<()> {
        let types = infer::infer(self, &node)?;
        for (output, ty) in node.outputs.iter().zip(types) {
            if !output.is_empty() {
                self.define(output, ty)?;
            }
        }
        self.nodes.push(node);
        Ok(())
    }

    /// Appends the operator `op` with one output under a fresh name, which is returned.
    pub fn apply(&mut self, op: &str, inputs: &[&str], attributes: impl Into<Attributes>) -> Result<String> {
        let output = self.fresh_name(op);
        self.push(Node::new(op, inputs, &output, attributes))?;
        Ok(output)
    }

    /// Makes the value called `name` the graph's next output.
    pub fn add_output(&mut self, name: &str) -> Result<()> {
        self.value_type(name)?;
        self.outputs.push(name.to_owned());
        Ok(())
    }

    /// Makes the values called `names` the graph's only outputs.
    pub fn set_outputs(&mut self, names: &[&str]) -> Result<()> {
        self.outputs.clear();
        names.iter().try_for_each(|name| self.add_output(name))
    }

    /// Appends all of `other`, whose inputs become the values of this graph that `bindings` names
    /// (`(input of other, value here)`), and returns the names which `other`'s outputs have here.
    /// Values keep their names unless those are taken.
    pub fn splice(&mut self, other: &Graph, bindings: &[(&str, &str)]) -> Result<Vec<String>> {
        let mut names: HashMap<&str, String> = HashMap::new();
        for input in &other.inputs {
            let (_, value) = (bindings.iter().find(|(bound, _)| bound == input))
                .ok_or_else(|| Error::value(input, "is an input that nothing is bound to"))?;
            let (expected, given) = (other.value_type(input)?, self.value_type(value)?);
            if expected != given {
                return Err(Error::value(
                    input,
                    format!("takes {expected} and is bound to `{value}`, which is {given}"),
                ));
            }
            names.insert(input, (*value).to_owned());
        }
        for (name, tensor) in &other.initializers {
            let here = self.unused_name(name);
            self.add_initializer(&here, tensor.clone())?;
            names.insert(name, here);
        }
        for node in &other.nodes {
            let mut copy = node.clone();
            for input in copy.inputs.iter_mut().filter(|name| !name.is_empty()) {
                *input = (names.get(input.as_str()).cloned())
                    .ok_or_else(|| Error::value(input, "is used before it is defined"))?;
            }
            for (output, original) in copy.outputs.iter_mut().zip(&node.outputs).filter(|(_, o)| !o.is_empty()) {
                *output = self.unused_name(original);
                names.insert(original, output.clone());
            }
            self.push(copy)?;
        }
        let resolve = |output: &String| {
            names.get(output.as_str()).cloned().ok_or_else(|| Error::value(output, "is an output that nothing defines"))
        };
        other.outputs.iter().map(resolve).collect()
    }

    /// Takes all nodes out, to be pushed again in another form. Until then the outputs that they
    /// define are missing.
    pub(crate) fn take_nodes(&mut self) -> Vec<Node> {
        let nodes = std::mem::take(&mut self.nodes);
        for output in nodes.iter().flat_map(|node| &node.outputs) {
            self.types.remove(output);
        }
        nodes
    }

    /// Turns a constant into an input of the same name and type, so that it can be fed.
    pub fn initializer_to_input(&mut self, name: &str) -> Result<Arc<Tensor>> {
        let tensor = self.initializers.remove(name).ok_or_else(|| Error::value(name, "is not an initializer"))?;
        self.inputs.push(name.to_owned());
        Ok(tensor)
    }

    /// A name that no value has yet, with `stem` in it.
    pub fn fresh_name(&mut self, stem: &str) -> String {
        loop {
            self.fresh += 1;
            let name = format!("{stem}.{}", self.fresh);
            if !self.types.contains_key(&name) {
                return name;
            }
        }
    }

    fn unused_name(&mut self, name: &str) -> String {
        if self.types.contains_key(name) { self.fresh_name(name) } else { name.to_owned() }
    }

    /// The graph without the nodes and constants that no output needs. Inputs stay.
    pub fn without_dead_nodes(mut self) -> Self {
        let mut live: HashSet<String> = self.outputs.iter().cloned().collect();
        let mut kept = Vec::with_capacity(self.nodes.len());
        for node in std::mem::take(&mut self.nodes).into_iter().rev() {
            if node.outputs.iter().any(|output| live.contains(output)) {
                live.extend(node.inputs.iter().cloned());
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
        self.initializers.retain(|name, _| live.contains(name));
        let defined: HashSet<&String> = (self.nodes.iter().flat_map(|node| &node.outputs))
            .chain(&self.inputs)
            .chain(self.initializers.keys())
            .collect();
        self.types.retain(|name, _| defined.contains(name));
        self
    }

    /// Keeps fresh names different from `names`, which are still to be defined.
    pub(crate) fn keep_clear_of<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        let number = |name: &str| name.rsplit_once('.').and_then(|(_, digits)| digits.parse::<u32>().ok());
        let largest = names.into_iter().filter_map(number).max().unwrap_or(0);
        self.fresh = self.fresh.max(largest as usize);
    }

    fn define(&mut self, name: &str, ty: ValueType) -> Result<()> {
        if name.is_empty() {
            return Err(Error::value(name, "has an empty name"));
        }
        check::bounded(&ty.shape).map_err(|problem| Error::value(name, problem))?;
        if self.types.contains_key(name) {
            return Err(Error::value(name, "is defined twice"));
        }
        if !ty.is_bounded() {
            return Err(Error::value(name, format!("is too large ({ty})")));
        }
        self.types.insert(name.to_owned(), ty);
        Ok(())
    }
}
