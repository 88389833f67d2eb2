//! From a user's model to a [`Graph`]: one opset, static shapes, constants evaluated.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::batch::{self, FixedBatch};
use crate::check::{self, node_error};
use crate::external::ExternalFiles;
use crate::proto::{AttributeProto, GraphProto, NodeProto, ValueInfoProto};
use crate::{Attribute, ElementType, Error, Graph, Model, Node, Result, Tensor, TensorData, ValueType};
use crate::{fold, functions, node_proto, opset, order, tensor_proto};

/// How a model becomes a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportOptions {
    /// The extent given to every input's first axis which the model leaves open or for which it was exported
    /// with 1; with another one, if it is the same for all inputs and the model is content to have it replaced.
    pub batch: usize,
    /// The shapes of inputs whose other axes the model leaves open, by name; they are taken as
    /// they are, first axis included.
    pub input_shapes: BTreeMap<String, Vec<usize>>,
    /// Whether computations on floating-point initializers are folded. When not, each of them keeps its
    /// name and stays differentiable; shape arithmetic is folded all the same.
    pub fold_weights: bool,
}

impl Graph {
    /// The graph of `model`, checked, at opset [`OPSET`](crate::OPSET) and with static shapes. Values keep their names.
    /// float16 and bfloat16 become float32, images of type uint8 likewise, and other narrow integers int64.
    ///
    /// A model which was exported for a fixed number of samples is given `options.batch` of them if its
    /// outputs grow with them, and is otherwise imported as it is.
    ///
    /// # Errors
    /// If the model breaks a rule of ONNX or uses something that is not supported; the message names the
    /// node or the value.
    pub fn import(model: &Model, options: &ImportOptions) -> Result<Graph> {
        let graph = functions::inlined(&model.proto, check::graph(&model.proto)?)?;
        let graph = graph.as_ref();
        let is_input = |name: &String| graph.input.iter().any(|input| input.name() == name);
        if let Some(name) = options.input_shapes.keys().find(|name| !is_input(name)) {
            return Err(Error::value(name, "is given a shape, but is not an input of the model"));
        }
        let Some(fixed) = batch::fixed_batch(graph, options) else {
            return Importer::run(model, graph, options, None);
        };
        let as_exported = Importer::run(model, graph, &ImportOptions { batch: fixed.from, ..options.clone() }, None)?;
        match Importer::run(model, graph, options, Some(fixed)) {
            Ok(resized) if batch::outputs_grew(&as_exported, &resized, fixed) => Ok(resized),
            _ => Ok(as_exported),
        }
    }
}

struct Importer<'a> {
    graph: Graph,
    files: &'a ExternalFiles,
    opset: i64,
    fold_weights: bool,
    fixed_batch: Option<FixedBatch>,
    /// Floating-point initializers, which are not to be folded if `fold_weights` is off.
    weights: HashSet<String>,
    /// Names of values that some node reads or that are outputs.
    read: HashSet<String>,
    /// The ONNX types of constants, some of which a graph does not tell apart.
    onnx_types: HashMap<String, i32>,
}

impl<'a> Importer<'a> {
    fn run(
        model: &'a Model,
        graph: &GraphProto,
        options: &ImportOptions,
        fixed_batch: Option<FixedBatch>,
    ) -> Result<Graph> {
        let mut importer = Importer {
            graph: Graph::new(),
            files: &model.files,
            opset: check::opset(&model.proto)?,
            fold_weights: options.fold_weights,
            fixed_batch,
            weights: HashSet::new(),
            read: HashSet::new(),
            onnx_types: HashMap::new(),
        };
        importer.graph.keep_clear_of(node_proto::value_names(graph));
        let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
        for input in graph.input.iter().filter(|input| !constants.contains(input.name())) {
            let ty = input_type(input, options, fixed_batch)?;
            importer.graph.add_input(input.name(), ty)?;
        }
        importer.add_nodes(graph)?;
        for output in &graph.output {
            importer.graph.add_output(output.name())?;
        }
        Ok(importer.graph.without_dead_nodes())
    }

    /// Adds the constants and nodes that the outputs of `graph` need.
    fn add_nodes(&mut self, graph: &GraphProto) -> Result<()> {
        let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
        let nodes = order::live_nodes(graph, |name| constants.contains(name) || self.graph.contains(name))?;
        check::node_count(nodes.len())?;
        self.read.extend(nodes.iter().flat_map(|node| order::reads(node)).map(str::to_owned));
        self.read.extend(graph.output.iter().map(|output| output.name().to_owned()));
        for tensor in graph.initializer.iter().filter(|tensor| self.read.contains(tensor.name())) {
            let value = tensor_proto::read(tensor, tensor.name(), self.files)?;
            if value.element().is_float() && !value.shape().is_empty() {
                self.weights.insert(tensor.name().to_owned());
            }
            self.onnx_types.insert(tensor.name().to_owned(), tensor.data_type.unwrap_or_default());
            self.graph.add_initializer(tensor.name(), value)?;
        }
        nodes.into_iter().try_for_each(|node| self.add_node(node))
    }

    fn add_node(&mut self, proto: &NodeProto) -> Result<()> {
        check::domain(proto)?;
        check::not_on_integers(proto)?;
        match proto.op_type() {
            "Constant" => return self.add_constant(proto),
            "If" => return self.add_branch(proto),
            _ => check::no_subgraph(proto)?,
        }
        let mut node = node_proto::read(proto, self.files)?;
        self.drop_unread_outputs(&mut node);
        self.name_quantised_type(&mut node);
        for mut step in opset::upgrade(&mut self.graph, node, self.opset)? {
            if let Some(fixed) = self.fixed_batch {
                batch::adapt(&mut self.graph, &mut step, fixed)?;
            }
            self.place(step)?;
        }
        Ok(())
    }

    /// Appends `node`, or its outputs as constants where they can be told already.
    fn place(&mut self, node: Node) -> Result<()> {
        let on_weights = node.inputs.iter().any(|input| self.weights.contains(input));
        match fold::fold(&self.graph, &node)? {
            Some(tensors)
                if self.fold_weights || !on_weights || tensors.iter().all(|tensor| !tensor.element().is_float()) =>
            {
                for (output, tensor) in node.outputs.iter().zip(tensors).filter(|(output, _)| !output.is_empty()) {
                    self.graph.add_initializer(output, tensor)?;
                }
                Ok(())
            }
            _ => self.graph.push(node),
        }
    }

    fn add_constant(&mut self, proto: &NodeProto) -> Result<()> {
        let output = proto.output.first().ok_or_else(|| node_error(proto, "puts nothing out"))?;
        let [attribute] = &proto.attribute[..] else {
            return Err(node_error(proto, "should have exactly one attribute, its value"));
        };
        let value = match (attribute.name(), &attribute.t) {
            ("value", Some(tensor)) => {
                self.onnx_types.insert(output.clone(), tensor.data_type.unwrap_or_default());
                tensor_proto::read(tensor, output, self.files)?
            }
            (name, _) => constant_numbers(name, attribute)
                .ok_or_else(|| node_error(proto, format!("has a value of a kind (`{name}`) that is not supported")))?,
        };
        self.graph.add_initializer(output, value)
    }

    /// Adds the nodes of the branch that an `If` takes, where its condition is known.
    fn add_branch(&mut self, proto: &NodeProto) -> Result<()> {
        let condition = proto.input.first().and_then(|name| self.graph.initializer(name)).map(|tensor| tensor.data());
        let wanted = match condition {
            Some(TensorData::Bool(values)) if values[..] == [true] => "then_branch",
            Some(TensorData::Bool(values)) if values[..] == [false] => "else_branch",
            _ => return check::no_subgraph(proto),
        };
        let branch = proto.attribute.iter().find(|attribute| attribute.name() == wanted).and_then(|a| a.g.as_deref());
        let branch = branch.ok_or_else(|| node_error(proto, format!("has no `{wanted}`")))?;
        if branch.output.len() != proto.output.len() || !branch.input.is_empty() {
            return Err(node_error(proto, format!("has a `{wanted}` that does not fit it")));
        }
        self.add_nodes(branch)?;
        for (inner, outer) in branch.output.iter().zip(&proto.output) {
            self.place(Node {
                name: proto.name().to_owned(),
                op: "Identity".to_owned(),
                inputs: vec![inner.name().to_owned()],
                outputs: vec![outer.clone()],
                attributes: ().into(),
            })?;
        }
        Ok(())
    }

    /// Writes the type to which a `QuantizeLinear` quantises into its attribute, if only the zero point tells it.
    fn name_quantised_type(&self, node: &mut Node) {
        let zero_point = node.input(2).and_then(|name| self.onnx_types.get(name));
        if let ("QuantizeLinear", Some(&ty)) = (node.op.as_str(), zero_point) {
            node.attributes.set(opset::OUTPUT_TYPE, i64::from(ty));
        }
    }

    /// Takes off the optional outputs at the end which nobody reads: statistics and masks of training.
    fn drop_unread_outputs(&self, node: &mut Node) {
        if matches!(node.op.as_str(), "BatchNormalization" | "Dropout" | "LayerNormalization" | "MaxPool") {
            while node.outputs.len() > 1 && node.outputs.last().is_some_and(|output| !self.read.contains(output)) {
                node.outputs.pop();
            }
        }
    }
}

/// The constant in an attribute of `Constant` that is not a tensor.
fn constant_numbers(name: &str, attribute: &AttributeProto) -> Option<Tensor> {
    match (name, node_proto::attribute_value(attribute).ok()?) {
        ("value_float", Attribute::Float(value)) => Some(Tensor::new([], TensorData::F32(vec![value]))),
        ("value_floats", Attribute::Floats(values)) => Some(Tensor::new([values.len()], TensorData::F32(values))),
        ("value_int", Attribute::Int(value)) => Some(Tensor::new([], TensorData::I64(vec![value]))),
        ("value_ints", Attribute::Ints(values)) => Some(Tensor::ints(&values)),
        _ => None,
    }
}

/// The static type of a graph input.
fn input_type(input: &ValueInfoProto, options: &ImportOptions, fixed_batch: Option<FixedBatch>) -> Result<ValueType> {
    let refuse = |problem: String| Error::value(input.name(), problem);
    let tensor_type = input.r#type.as_ref().and_then(|ty| ty.tensor_type.as_ref());
    let tensor_type = tensor_type.ok_or_else(|| refuse("is an input that is not a tensor".to_owned()))?;
    let element = match tensor_proto::element_type(tensor_type.elem_type()).map_err(refuse)? {
        ElementType::I64 if tensor_proto::is_image_type(tensor_type.elem_type()) => ElementType::F32,
        element => element,
    };
    let declared = tensor_type.shape.as_ref().map(|shape| &shape.dim[..]);
    let shape = match (options.input_shapes.get(input.name()), declared) {
        (Some(shape), Some(dims)) if shape.len() != dims.len() => {
            return Err(refuse(format!("is an input with {} axes and is given the shape {shape:?}", dims.len())));
        }
        (Some(shape), _) => shape.clone(),
        (None, None) => return Err(refuse("is an input of unknown shape; give its shape".to_owned())),
        (None, Some(dims)) => {
            let extent = |(axis, dim): (usize, &crate::proto::Dimension)| match dim.dim_value {
                Some(extent) if extent > 1 && (axis > 0 || fixed_batch.is_none()) => Ok(extent as usize),
                _ if axis == 0 => Ok(options.batch),
                Some(1) => Ok(1),
                _ => Err(refuse(format!(
                    "is an input whose axis {axis}{} has no fixed extent; give its shape",
                    dim.dim_param.as_ref().map(|name| format!(" (`{name}`)")).unwrap_or_default()
                ))),
            };
            dims.iter().enumerate().map(extent).collect::<Result<_>>()?
        }
    };
    Ok(ValueType::new(element, shape))
}
