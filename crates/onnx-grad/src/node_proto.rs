//! Conversion of nodes and their attributes from the ONNX message.

use std::sync::Arc;

use crate::check::{node_error, subgraphs};
use crate::external::ExternalFiles;
use crate::proto::{AttributeProto, AttributeType, GraphProto, NodeProto};
use crate::{Attribute, Attributes, Node, Result, tensor_proto};

/// The node that `proto` stands for.
pub(crate) fn read(proto: &NodeProto, files: &ExternalFiles) -> Result<Node> {
    let mut attributes = Attributes::new();
    for attribute in &proto.attribute {
        let value = match &attribute.t {
            Some(tensor) if kind(attribute) == AttributeType::Tensor => {
                Attribute::Tensor(Arc::new(tensor_proto::read(tensor, attribute.name(), files)?))
            }
            _ => attribute_value(attribute)
                .map_err(|problem| node_error(proto, format!("has an attribute `{}` {problem}", attribute.name())))?,
        };
        if attributes.get(attribute.name()).is_some() {
            return Err(node_error(proto, format!("has the attribute `{}` twice", attribute.name())));
        }
        attributes.set(attribute.name(), value);
    }
    let mut node = Node {
        name: proto.name().to_owned(),
        op: proto.op_type().to_owned(),
        inputs: proto.input.clone(),
        outputs: proto.output.clone(),
        attributes,
    };
    while node.inputs.last().is_some_and(String::is_empty) {
        node.inputs.pop();
    }
    Ok(node)
}

/// The value of an attribute that is not a tensor, or what is wrong with it as an end of a sentence.
pub(crate) fn attribute_value(proto: &AttributeProto) -> Result<Attribute, String> {
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).map_err(|_| "that is not UTF-8 text".to_owned());
    if !proto.ref_attr_name().is_empty() {
        return Err("that refers to a function's attribute outside of one".to_owned());
    }
    match kind(proto) {
        AttributeType::Float => Ok(Attribute::Float(proto.f())),
        AttributeType::Int => Ok(Attribute::Int(proto.i())),
        AttributeType::String => Ok(Attribute::String(text(&proto.s.clone().unwrap_or_default())?)),
        AttributeType::Floats => Ok(Attribute::Floats(proto.floats.clone())),
        AttributeType::Ints => Ok(Attribute::Ints(proto.ints.clone())),
        AttributeType::Strings => Ok(Attribute::Strings(proto.strings.iter().map(text).collect::<Result<_, _>>()?)),
        _ => Err("of a kind that is not supported".to_owned()),
    }
}

/// The names of all values in `graph` and in the graphs in it.
pub(crate) fn value_names(graph: &GraphProto) -> Vec<&str> {
    let mut names: Vec<&str> = graph.input.iter().map(|input| input.name()).collect();
    names.extend(graph.initializer.iter().map(|tensor| tensor.name()));
    for node in &graph.node {
        names.extend(node.output.iter().map(String::as_str));
        names.extend(subgraphs(node).flat_map(value_names));
    }
    names
}

/// Which field is in use. Models of the first IR versions do not say, but fill only that one.
fn kind(proto: &AttributeProto) -> AttributeType {
    match proto.r#type() {
        AttributeType::Undefined if proto.f.is_some() => AttributeType::Float,
        AttributeType::Undefined if proto.i.is_some() => AttributeType::Int,
        AttributeType::Undefined if proto.s.is_some() => AttributeType::String,
        AttributeType::Undefined if proto.t.is_some() => AttributeType::Tensor,
        AttributeType::Undefined if !proto.floats.is_empty() => AttributeType::Floats,
        AttributeType::Undefined if !proto.ints.is_empty() => AttributeType::Ints,
        AttributeType::Undefined if !proto.strings.is_empty() => AttributeType::Strings,
        stated => stated,
    }
}
