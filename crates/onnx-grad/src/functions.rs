//! Functions that a model defines itself: every call is replaced by what it stands for.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use prost::Message;

use crate::check::{is_default_domain, node_error};
use crate::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto};
use crate::{Error, Result};

/// How deep functions may call each other.
const MAX_DEPTH: usize = 64;

/// How many nodes the calls may stand for in all, and how large these may be in the file's format. A few
/// functions that call each other twice could otherwise stand for any number.
const MAX_NODES: usize = 1 << 18;
const MAX_BYTES: usize = 1 << 28;

/// The model's graph without calls of the model's own functions.
///
/// # Errors
/// If functions call themselves, stand for too many nodes, or are written for another opset than the model.
pub(crate) fn inlined<'a>(model: &'a ModelProto, graph: &'a GraphProto) -> Result<Cow<'a, GraphProto>> {
    if model.functions.is_empty() {
        return Ok(Cow::Borrowed(graph));
    }
    let mut functions = HashMap::new();
    for function in &model.functions {
        if functions.insert(key(function.domain(), function.name(), function.overload()), function).is_some() {
            return Err(Error::Model(format!("it defines the function `{}` twice", function.name())));
        }
    }
    let mut inliner = Inliner { model, functions, stack: Vec::new(), calls: 0, nodes: 0, bytes: 0 };
    let mut graph = graph.clone();
    inliner.inline_all(&mut graph.node)?;
    Ok(Cow::Owned(graph))
}

type Key<'a> = (&'a str, &'a str, &'a str);

fn key<'a>(domain: &'a str, name: &'a str, overload: &'a str) -> Key<'a> {
    (domain, name, overload)
}

struct Inliner<'a> {
    model: &'a ModelProto,
    functions: HashMap<Key<'a>, &'a FunctionProto>,
    /// The functions in whose bodies the current node is.
    stack: Vec<&'a FunctionProto>,
    calls: usize,
    nodes: usize,
    bytes: usize,
}

impl<'a> Inliner<'a> {
    /// Replaces the calls among `nodes` and within their subgraphs.
    fn inline_all(&mut self, nodes: &mut Vec<NodeProto>) -> Result<()> {
        let mut inlined = Vec::with_capacity(nodes.len());
        for mut node in std::mem::take(nodes) {
            match self.functions.get(&key(node.domain(), node.op_type(), node.overload())).copied() {
                Some(function) => inlined.extend(self.call(&node, function)?),
                None => {
                    for graph in node.attribute.iter_mut().flat_map(graphs_mut) {
                        self.inline_all(&mut graph.node)?;
                    }
                    inlined.push(node);
                }
            }
        }
        *nodes = inlined;
        Ok(())
    }

    /// The nodes that the call stands for.
    fn call(&mut self, call: &NodeProto, function: &'a FunctionProto) -> Result<Vec<NodeProto>> {
        self.check(call, function)?;
        self.calls += 1;
        let body = Body::new(call, function, self.calls);
        let mut nodes = Vec::with_capacity(function.node.len());
        for node in &function.node {
            self.nodes += 1;
            self.bytes = self.bytes.saturating_add(node.encoded_len());
            if self.nodes > MAX_NODES || self.bytes > MAX_BYTES {
                return Err(node_error(call, "is one of too many calls of functions that the model defines itself"));
            }
            nodes.push(body.node(node));
        }
        nodes.extend(body.passed_through(call));
        self.stack.push(function);
        self.inline_all(&mut nodes)?;
        self.stack.pop();
        Ok(nodes)
    }

    fn check(&self, call: &NodeProto, function: &FunctionProto) -> Result<()> {
        let refuse = |problem: String| Err(node_error(call, problem));
        if is_default_domain(function.domain.as_deref()) {
            return refuse("is a function that the model defines under the name of an operator of ONNX".to_owned());
        }
        if self.stack.iter().any(|&outer| std::ptr::eq(outer, function)) {
            return refuse("is a function that calls itself".to_owned());
        }
        if self.stack.len() >= MAX_DEPTH {
            return refuse(format!("is a function called by {MAX_DEPTH} others, one within the other"));
        }
        if call.input.len() > function.input.len() || call.output.len() > function.output.len() {
            let (inputs, outputs) = (function.input.len(), function.output.len());
            return refuse(format!("has more inputs or outputs than its function, which has {inputs} and {outputs}"));
        }
        match (version(&function.opset_import), version(&self.model.opset_import)) {
            (Some(of_function), Some(of_model)) if of_function != of_model => {
                refuse(format!("is a function for opset {of_function} in a model for opset {of_model}"))
            }
            _ => Ok(()),
        }
    }
}

/// The version of ONNX's own operators.
fn version(imports: &[OperatorSetIdProto]) -> Option<i64> {
    imports.iter().find(|import| is_default_domain(import.domain.as_deref())).map(|import| import.version())
}

/// A function's body as it is for one call.
struct Body<'a> {
    /// The caller's names for the function's inputs and outputs.
    names: HashMap<&'a str, &'a str>,
    /// What the call sets, or else the function's defaults.
    attributes: HashMap<&'a str, &'a AttributeProto>,
    /// Goes before the names of all other values and of nodes.
    prefix: String,
    function: &'a FunctionProto,
}

impl<'a> Body<'a> {
    fn new(call: &'a NodeProto, function: &'a FunctionProto, number: usize) -> Self {
        let given = |names: &'a [String], i: usize| names.get(i).map_or("", String::as_str);
        let outputs = function.output.iter().enumerate().filter(|(i, _)| !given(&call.output, *i).is_empty());
        let mut names: HashMap<&str, &str> =
            outputs.map(|(i, output)| (output.as_str(), given(&call.output, i))).collect();
        names.extend(function.input.iter().enumerate().map(|(i, input)| (input.as_str(), given(&call.input, i))));
        let mut attributes: HashMap<&str, &AttributeProto> =
            function.attribute_proto.iter().map(|attribute| (attribute.name(), attribute)).collect();
        attributes.extend(call.attribute.iter().map(|attribute| (attribute.name(), attribute)));
        Body { names, attributes, prefix: format!("{}#{number}", function.name()), function }
    }

    /// `node` of the function as a node of the caller.
    fn node(&self, node: &NodeProto) -> NodeProto {
        NodeProto {
            input: node.input.iter().map(|name| self.name(name)).collect(),
            output: node.output.iter().map(|name| self.name(name)).collect(),
            name: node.name.as_ref().map(|name| format!("{}/{name}", self.prefix)),
            attribute: node.attribute.iter().filter_map(|attribute| self.attribute(attribute)).collect(),
            ..node.clone()
        }
    }

    fn name(&self, name: &str) -> String {
        match self.names.get(name) {
            Some(given) => (*given).to_owned(),
            None if name.is_empty() => String::new(),
            None => format!("{}/{name}", self.prefix),
        }
    }

    /// The attribute with what it refers to in its place; `None` if that was not given.
    fn attribute(&self, attribute: &AttributeProto) -> Option<AttributeProto> {
        if !attribute.ref_attr_name().is_empty() {
            let given = *self.attributes.get(attribute.ref_attr_name())?;
            return Some(AttributeProto { name: attribute.name.clone(), ..given.clone() });
        }
        let mut attribute = attribute.clone();
        graphs_mut(&mut attribute).for_each(|graph| self.rename(graph));
        Some(attribute)
    }

    fn rename(&self, graph: &mut GraphProto) {
        let values = graph.input.iter_mut().chain(&mut graph.output).map(|value| &mut value.name);
        for name in values.chain(graph.initializer.iter_mut().map(|tensor| &mut tensor.name)).flatten() {
            *name = self.name(name);
        }
        graph.node = graph.node.iter().map(|node| self.node(node)).collect();
    }

    /// What puts out the function's inputs that are outputs, too.
    fn passed_through(&self, call: &NodeProto) -> Vec<NodeProto> {
        let inputs: HashSet<&String> = self.function.input.iter().collect();
        let outputs = self.function.output.iter().zip(&call.output);
        let passed = outputs.filter(|(inner, outer)| inputs.contains(inner) && !outer.is_empty());
        passed
            .map(|(inner, outer)| NodeProto {
                op_type: Some("Identity".to_owned()),
                input: vec![self.name(inner)],
                output: vec![outer.clone()],
                ..NodeProto::default()
            })
            .collect()
    }
}

/// The graphs in an attribute.
fn graphs_mut(attribute: &mut AttributeProto) -> impl Iterator<Item = &mut GraphProto> {
    attribute.g.as_deref_mut().into_iter().chain(&mut attribute.graphs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{AttributeType, ValueInfoProto};

    fn node(op: &str, domain: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> NodeProto {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        NodeProto {
            op_type: Some(op.to_owned()),
            domain: Some(domain.to_owned()),
            input: owned(inputs),
            output: owned(outputs),
            attribute: attributes,
            ..NodeProto::default()
        }
    }

    fn function(name: &str, inputs: &[&str], outputs: &[&str], nodes: Vec<NodeProto>) -> FunctionProto {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        FunctionProto {
            name: Some(name.to_owned()),
            domain: Some("own".to_owned()),
            input: owned(inputs),
            output: owned(outputs),
            node: nodes,
            ..FunctionProto::default()
        }
    }

    fn number(name: &str, f: f32) -> AttributeProto {
        let r#type = Some(AttributeType::Float as i32);
        AttributeProto { name: Some(name.to_owned()), f: Some(f), r#type, ..AttributeProto::default() }
    }

    fn reference(name: &str, to: &str) -> AttributeProto {
        let (name, to) = (Some(name.to_owned()), Some(to.to_owned()));
        AttributeProto { name, ref_attr_name: to, ..AttributeProto::default() }
    }

    fn run(functions: Vec<FunctionProto>, nodes: Vec<NodeProto>) -> Result<Vec<NodeProto>> {
        let graph = GraphProto { node: nodes, ..GraphProto::default() };
        let model = ModelProto { functions, ..ModelProto::default() };
        inlined(&model, &graph).map(|graph| graph.into_owned().node)
    }

    fn refusal(functions: Vec<FunctionProto>, nodes: Vec<NodeProto>) -> String {
        run(functions, nodes).unwrap_err().to_string()
    }

    #[test]
    fn calls_become_the_nodes_of_the_function_with_names_of_their_own() {
        let double = function(
            "Double",
            &["a"],
            &["b"],
            vec![node("Identity", "", &["a"], &["t"], vec![]), node("Add", "", &["t", "a"], &["b"], vec![])],
        );
        let twice = function(
            "Twice",
            &["a"],
            &["b"],
            vec![node("Double", "own", &["a"], &["t"], vec![]), node("Double", "own", &["t"], &["b"], vec![])],
        );
        let nodes = run(vec![double, twice], vec![node("Twice", "own", &["x"], &["y"], vec![])]).unwrap();
        let names = |node: &NodeProto| format!("{} {:?} {:?}", node.op_type(), node.input, node.output);
        assert_eq!(
            nodes.iter().map(names).collect::<Vec<_>>(),
            [
                r#"Identity ["x"] ["Double#2/t"]"#,
                r#"Add ["Double#2/t", "x"] ["Twice#1/t"]"#,
                r#"Identity ["Twice#1/t"] ["Double#3/t"]"#,
                r#"Add ["Double#3/t", "Twice#1/t"] ["y"]"#,
            ]
        );
    }

    #[test]
    fn attributes_come_from_the_call_or_else_are_the_defaults_or_left_out() {
        let mut leaky = function(
            "Leaky",
            &["a"],
            &["b"],
            vec![node("LeakyRelu", "", &["a"], &["b"], vec![reference("alpha", "slope"), reference("beta", "other")])],
        );
        leaky.attribute_proto = vec![number("slope", 0.5)];
        let slope = |attributes| {
            let nodes = run(vec![leaky.clone()], vec![node("Leaky", "own", &["x"], &["y"], attributes)]).unwrap();
            nodes[0].attribute.clone()
        };
        assert_eq!(slope(vec![]), [number("alpha", 0.5)]);
        assert_eq!(slope(vec![number("slope", 0.25)]), [number("alpha", 0.25)]);
    }

    #[test]
    fn inputs_may_be_left_out_or_passed_through_and_branches_are_renamed() {
        let branch = GraphProto {
            node: vec![node("Relu", "", &["a"], &["inner"], vec![])],
            output: vec![ValueInfoProto { name: Some("inner".to_owned()), ..ValueInfoProto::default() }],
            ..GraphProto::default()
        };
        let branch = AttributeProto {
            name: Some("then_branch".to_owned()),
            g: Some(Box::new(branch)),
            ..AttributeProto::default()
        };
        let choose = function(
            "Choose",
            &["condition", "a", "optional"],
            &["b", "a"],
            vec![node("If", "", &["condition", "optional"], &["b"], vec![branch])],
        );
        let nodes = run(vec![choose], vec![node("Choose", "own", &["c", "x"], &["y", "z"], vec![])]).unwrap();
        assert_eq!(nodes[0].input, ["c", ""]);
        let branch = nodes[0].attribute[0].g.as_ref().unwrap();
        assert_eq!(
            (&branch.node[0].input[..], &branch.node[0].output[..]),
            (&["x".to_owned()][..], &["Choose#1/inner".to_owned()][..])
        );
        assert_eq!(branch.output[0].name(), "Choose#1/inner");
        assert_eq!((nodes[1].op_type(), &nodes[1].input[0][..], &nodes[1].output[0][..]), ("Identity", "x", "z"));
    }

    #[test]
    fn hostile_functions_are_refused() {
        let call = |name: &str| node(name, "own", &["x"], &["y"], vec![]);
        let calls = |name: &str, callee: &str| {
            let nodes = ["b", "c"].map(|output| node(callee, "own", &["a"], &[output], vec![])).to_vec();
            function(name, &["a"], &["b"], nodes)
        };
        let around = refusal(vec![calls("A", "B"), calls("B", "A")], vec![call("A")]);
        assert_eq!(around, "node `y` (own.A): is a function that calls itself");

        // Thirty functions, each of which calls the next one twice.
        let explosion = (0..30).map(|i| calls(&i.to_string(), &(i + 1).to_string())).collect();
        assert!(refusal(explosion, vec![call("0")]).contains("is one of too many calls"));

        let large = vec![0.5; MAX_BYTES / 64];
        let constant = AttributeProto { floats: large, ..number("value_floats", 0.0) };
        let heavy = function("Heavy", &["a"], &["b"], vec![node("Constant", "", &[], &["b"], vec![constant])]);
        assert!(refusal(vec![heavy], vec![call("Heavy"); 20]).contains("is one of too many calls"));

        let deep = (0..100)
            .map(|i| {
                function(
                    &i.to_string(),
                    &["a"],
                    &["b"],
                    vec![node(&(i + 1).to_string(), "own", &["a"], &["b"], vec![])],
                )
            })
            .collect();
        assert!(refusal(deep, vec![call("0")]).contains("called by 64 others"));

        let relu = FunctionProto { domain: None, ..function("Relu", &["a"], &["b"], vec![]) };
        assert!(
            refusal(vec![relu], vec![node("Relu", "", &["x"], &["y"], vec![])])
                .contains("under the name of an operator")
        );

        let one = function("One", &["a"], &["b"], vec![]);
        assert!(
            refusal(vec![one.clone()], vec![node("One", "own", &["x", "x"], &["y"], vec![])]).contains("more inputs")
        );
        assert!(refusal(vec![one.clone(), one], vec![call("One")]).contains("defines the function `One` twice"));
    }

    #[test]
    fn functions_are_for_the_opset_of_the_model() {
        let import = |version| OperatorSetIdProto { domain: None, version: Some(version) };
        let function = FunctionProto { opset_import: vec![import(17)], ..function("Op", &["a"], &["b"], vec![]) };
        let graph = GraphProto { node: vec![node("Op", "own", &["x"], &["y"], vec![])], ..GraphProto::default() };
        let model = |version| ModelProto {
            functions: vec![function.clone()],
            opset_import: vec![import(version)],
            ..ModelProto::default()
        };
        assert!(inlined(&model(17), &graph).is_ok());
        assert!(inlined(&model(18), &graph).unwrap_err().to_string().contains("for opset 17 in a model for opset 18"));
    }
}
