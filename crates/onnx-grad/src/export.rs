//! Writing a graph as an ordinary ONNX model.

use std::collections::HashSet;

use prost::Message;

use crate::opset::STRAIGHT_THROUGH;
use crate::proto::{
    AttributeProto, AttributeType, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto,
    TensorType, TypeProto, ValueInfoProto,
};
use crate::{Attribute, Graph, Node, OPSET, Result, ValueType, check, tensor_proto};

/// The version of the ONNX file format that goes with [`OPSET`].
const IR_VERSION: i64 = 8;

impl Graph {
    /// The graph as the bytes of an ONNX file, for any ONNX engine; `name` is what the file calls it.
    ///
    /// # Errors
    /// If the graph has more or deeper nodes than engines can be trusted with.
    pub fn to_model_bytes(&self, name: &str) -> Result<Vec<u8>> {
        check::node_count(self.nodes().len())?;
        check::depth(self.nodes())?;
        let value_info = |name: &String| Ok(value_info(name, self.value_type(name)?));
        let mut nodes = self.nodes().iter().map(|node| self.node_message(node)).collect::<Result<Vec<_>>>()?;
        make_names_unique(&mut nodes);
        let graph = GraphProto {
            name: Some(name.to_owned()),
            node: nodes,
            initializer: self.initializers().iter().map(|(name, tensor)| tensor_proto::write(tensor, name)).collect(),
            input: self.inputs().iter().map(value_info).collect::<Result<_>>()?,
            output: self.outputs().iter().map(value_info).collect::<Result<_>>()?,
            ..GraphProto::default()
        };
        let model = ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some(env!("CARGO_PKG_NAME").to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
            ..ModelProto::default()
        };
        Ok(model.encode_to_vec())
    }

    fn node_message(&self, node: &Node) -> Result<NodeProto> {
        let shape = |i: usize| node.input(i).map(|name| self.shape(name)).transpose();
        let mut attributes: Vec<AttributeProto> = node
            .attributes
            .iter()
            .filter(|(name, _)| *name != STRAIGHT_THROUGH)
            .map(|(name, value)| attribute(name, value))
            .collect();
        if let (true, Some(data)) = (is_window(&node.op), shape(0)?) {
            let defaults = window_defaults(node, data, shape(1)?);
            attributes.extend(defaults.into_iter().map(|(name, value)| attribute(name, &value.into())));
        }
        Ok(NodeProto {
            input: node.inputs.clone(),
            output: node.outputs.clone(),
            name: Some(node.name.clone()).filter(|name| !name.is_empty()),
            op_type: Some(node.op.clone()),
            attribute: attributes,
            ..NodeProto::default()
        })
    }
}

/// Of the nodes that one was written in terms of, the first keeps its name: engines refuse two with the same.
fn make_names_unique(nodes: &mut [NodeProto]) {
    let mut names = HashSet::new();
    for node in nodes {
        node.name = node.name.take().filter(|name| names.insert(name.clone()));
    }
}

fn is_window(op: &str) -> bool {
    matches!(op, "Conv" | "ConvTranspose" | "MaxPool" | "AveragePool")
}

/// What the node's window is unless its attributes say so. ONNX gives these a default, but not every
/// engine works it out.
fn window_defaults(node: &Node, data: &[usize], weights: Option<&[usize]>) -> Vec<(&'static str, Vec<i64>)> {
    let axes = data.len().saturating_sub(2);
    let kernel = weights.map(|shape| shape.iter().skip(2).map(|&extent| extent as i64).collect());
    let defaults = [("kernel_shape", kernel), ("strides", Some(vec![1; axes]))];
    let missing = defaults.into_iter().filter(|(name, _)| node.attributes.get(name).is_none());
    missing.filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The message for an attribute.
pub(crate) fn attribute(name: &str, value: &Attribute) -> AttributeProto {
    let mut proto = AttributeProto { name: Some(name.to_owned()), ..AttributeProto::default() };
    let bytes = |text: &String| text.clone().into_bytes();
    let kind = match value {
        Attribute::Int(value) => {
            proto.i = Some(*value);
            AttributeType::Int
        }
        Attribute::Ints(values) => {
            proto.ints = values.clone();
            AttributeType::Ints
        }
        Attribute::Float(value) => {
            proto.f = Some(*value);
            AttributeType::Float
        }
        Attribute::Floats(values) => {
            proto.floats = values.clone();
            AttributeType::Floats
        }
        Attribute::String(text) => {
            proto.s = Some(bytes(text));
            AttributeType::String
        }
        Attribute::Strings(texts) => {
            proto.strings = texts.iter().map(bytes).collect();
            AttributeType::Strings
        }
        Attribute::Tensor(tensor) => {
            proto.t = Some(Box::new(tensor_proto::write(tensor, "")));
            AttributeType::Tensor
        }
    };
    proto.set_type(kind);
    proto
}

fn value_info(name: &str, ty: &ValueType) -> ValueInfoProto {
    let extent = |&dim: &usize| Dimension { dim_value: Some(dim as i64), ..Dimension::default() };
    let tensor_type = TensorType {
        elem_type: Some(tensor_proto::data_type(ty.element) as i32),
        shape: Some(TensorShapeProto { dim: ty.shape.iter().map(extent).collect() }),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { tensor_type: Some(tensor_type), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}
