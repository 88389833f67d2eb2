//! What a model says about itself, for people to read.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use crate::check::{self, subgraphs};
use crate::proto::{Dimension, GraphProto, ValueInfoProto};
use crate::{Model, tensor_proto};

/// An input or output as a model declares it. Displayed as `images: float32[N, 3, 32, 32]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueSummary {
    /// The value's name.
    pub name: String,
    /// What its elements are, for instance `float32` or `uint8`; `None` if it is not a tensor.
    pub element: Option<String>,
    /// The extent of each axis; `None` if the model does not say how many axes there are.
    pub shape: Option<Vec<Extent>>,
}

/// The extent of an axis as a model declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// So many elements.
    Fixed(usize),
    /// Open, under a name such as `batch`.
    Named(String),
    /// Open.
    Unknown,
}

impl Model {
    /// The version of the ONNX file format.
    pub fn ir_version(&self) -> i64 {
        self.proto.ir_version()
    }

    /// The program that wrote the model, with its version: `pytorch 2.9.0`; empty if it does not say.
    pub fn producer(&self) -> String {
        format!("{} {}", self.proto.producer_name(), self.proto.producer_version()).trim().to_owned()
    }

    /// The operator sets that the model is written for: domain (empty for ONNX's own) and version.
    pub fn opsets(&self) -> Vec<(&str, i64)> {
        self.proto.opset_import.iter().map(|import| (import.domain(), import.version())).collect()
    }

    /// What has to be fed, in order: initializers that are declared as inputs are not among it.
    pub fn inputs(&self) -> Vec<ValueSummary> {
        let Some(graph) = &self.proto.graph else { return Vec::new() };
        let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
        graph.input.iter().filter(|input| !constants.contains(input.name())).map(summarise).collect()
    }

    /// What the model computes, in order.
    pub fn outputs(&self) -> Vec<ValueSummary> {
        self.proto.graph.iter().flat_map(|graph| &graph.output).map(summarise).collect()
    }

    /// How often each operator occurs, also within control flow. Operators outside of ONNX's own domain
    /// have theirs before them: `com.microsoft.FusedConv`.
    pub fn operators(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        self.proto.graph.iter().for_each(|graph| count_operators(graph, &mut counts));
        counts
    }

    /// Names and extents of the initializers, in the order of the file.
    pub fn initializers(&self) -> Vec<(&str, &[i64])> {
        let tensors = self.proto.graph.iter().flat_map(|graph| &graph.initializer);
        tensors.map(|tensor| (tensor.name(), &tensor.dims[..])).collect()
    }

    /// The model's own keys and values, such as class names.
    pub fn metadata(&self) -> Vec<(&str, &str)> {
        self.proto.metadata_props.iter().map(|entry| (entry.key(), entry.value())).collect()
    }
}

fn summarise(info: &ValueInfoProto) -> ValueSummary {
    let tensor = info.r#type.as_ref().and_then(|ty| ty.tensor_type.as_ref());
    let extent = |dim: &Dimension| match (dim.dim_value.map(usize::try_from), dim.dim_param()) {
        (Some(Ok(extent)), _) if extent > 0 => Extent::Fixed(extent),
        (_, "") => Extent::Unknown,
        (_, name) => Extent::Named(name.to_owned()),
    };
    ValueSummary {
        name: info.name().to_owned(),
        element: tensor.map(|tensor| tensor_proto::type_name(tensor.elem_type())),
        shape: tensor.and_then(|tensor| tensor.shape.as_ref()).map(|shape| shape.dim.iter().map(extent).collect()),
    }
}

fn count_operators(graph: &GraphProto, counts: &mut BTreeMap<String, usize>) {
    for node in &graph.node {
        *counts.entry(check::operator(node)).or_default() += 1;
        subgraphs(node).for_each(|subgraph| count_operators(subgraph, counts));
    }
}

impl fmt::Display for ValueSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.element.as_deref().unwrap_or("not a tensor"))?;
        match &self.shape {
            Some(shape) => {
                let extents: Vec<String> = shape.iter().map(Extent::to_string).collect();
                write!(f, "[{}]", extents.join(", "))
            }
            None if self.element.is_some() => f.write_str("[...]"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Extent::Fixed(extent) => write!(f, "{extent}"),
            Extent::Named(name) => f.write_str(name),
            Extent::Unknown => f.write_str("?"),
        }
    }
}
