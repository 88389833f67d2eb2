//! Adding to a user's model: nodes and outputs after its own.

use std::collections::HashSet;

use crate::node_proto::value_names;
use crate::proto::{Dimension, GraphProto, NodeProto, TensorShapeProto, TensorType, TypeProto, ValueInfoProto};
use crate::{ElementType, Error, Extent, Model, Node, Result, export, tensor_proto};

impl Model {
    /// `stem` or, where a value of the model has that name, `stem` with a number.
    pub fn unused_name(&self, stem: &str) -> String {
        let taken: HashSet<&str> = self.proto.graph.iter().flat_map(value_names).collect();
        let numbered = (1..).map(|number| format!("{stem}.{number}"));
        std::iter::once(stem.to_owned()).chain(numbered).find(|name| !taken.contains(&**name)).unwrap_or_default()
    }

    /// Appends `node`, which is an operator of the model's own opset. It runs after all others and may read
    /// whatever they define; constants are added as nodes of the operator `Constant`, which every version of the
    /// format allows.
    ///
    /// # Errors
    /// If an input is not a value of the model's graph, or the name of an output is taken.
    pub fn append(&mut self, node: &Node) -> Result<()> {
        let graph = self.graph_mut()?;
        if let Some(missing) = node.inputs.iter().find(|name| !name.is_empty() && !defines(graph, name)) {
            return Err(Error::node(node, format!("reads `{missing}`, which the model does not define")));
        }
        let taken: HashSet<&str> = value_names(graph).into_iter().collect();
        if let Some(output) = node.outputs.iter().find(|name| taken.contains(name.as_str())) {
            return Err(Error::node(node, format!("puts out `{output}`, which is already defined")));
        }
        graph.node.push(NodeProto {
            input: node.inputs.clone(),
            output: node.outputs.clone(),
            name: Some(node.name.clone()).filter(|name| !name.is_empty()),
            op_type: Some(node.op.clone()),
            attribute: node.attributes.iter().map(|(name, value)| export::attribute(name, value)).collect(),
            ..NodeProto::default()
        });
        Ok(())
    }

    /// Makes the value called `name` the model's last output and declares it to have elements of type `element`
    /// and the extents `shape`.
    ///
    /// # Errors
    /// If the model's graph does not define it.
    pub fn add_output(&mut self, name: &str, element: ElementType, shape: &[Extent]) -> Result<()> {
        let graph = self.graph_mut()?;
        if !defines(graph, name) {
            return Err(Error::value(name, "is not a value of the model"));
        }
        let tensor_type = TensorType {
            elem_type: Some(tensor_proto::data_type(element) as i32),
            shape: Some(TensorShapeProto { dim: shape.iter().map(dimension).collect() }),
        };
        graph.output.push(ValueInfoProto {
            name: Some(name.to_owned()),
            r#type: Some(TypeProto { tensor_type: Some(tensor_type), ..TypeProto::default() }),
            ..ValueInfoProto::default()
        });
        Ok(())
    }

    pub(crate) fn graph_mut(&mut self) -> Result<&mut GraphProto> {
        self.proto.graph.as_mut().ok_or_else(|| Error::Model("it has no graph".to_owned()))
    }
}

/// Whether `name` is a value of `graph` itself, not of a graph within it.
fn defines(graph: &GraphProto, name: &str) -> bool {
    graph.input.iter().any(|input| input.name() == name)
        || graph.initializer.iter().any(|tensor| tensor.name() == name)
        || graph.node.iter().flat_map(|node| &node.output).any(|output| output == name)
}

fn dimension(extent: &Extent) -> Dimension {
    match extent {
        Extent::Fixed(extent) => Dimension { dim_value: Some(*extent as i64), ..Dimension::default() },
        Extent::Named(name) => Dimension { dim_param: Some(name.clone()), ..Dimension::default() },
        Extent::Unknown => Dimension::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Graph, ImportOptions, Tensor, ValueType};

    /// y = Relu(x)
    fn model() -> Model {
        let mut graph = Graph::new();
        graph.add_input("x", ValueType::new(ElementType::F32, [2, 3])).unwrap();
        graph.push(Node::new("Relu", &["x"], "y", ())).unwrap();
        graph.add_output("y").unwrap();
        Model::from_bytes(&graph.to_model_bytes("model").unwrap()).unwrap()
    }

    #[test]
    fn what_is_added_comes_after_what_is_there() {
        let mut model = model();
        model.append(&Node::new("Constant", &[], "limit", [("value", Tensor::scalar(ElementType::F32, 1.0))])).unwrap();
        model.append(&Node::new("Greater", &["y", "limit"], "large", ())).unwrap();
        model.add_output("large", ElementType::Bool, &[Extent::Named("N".into()), Extent::Fixed(3)]).unwrap();
        let outputs: Vec<String> = model.outputs().iter().map(ToString::to_string).collect();
        assert_eq!(outputs, ["y: float32[2, 3]", "large: bool[N, 3]"]);

        let options = ImportOptions { batch: 2, input_shapes: Default::default(), fold_weights: true };
        let read = Model::from_bytes(&model.to_bytes()).unwrap();
        let graph = Graph::import(&read, &options).unwrap();
        assert_eq!(graph.value_type("large"), Ok(&ValueType::new(ElementType::Bool, [2, 3])));
    }

    #[test]
    fn names_are_defined_once_and_before_they_are_read() {
        let mut model = model();
        assert_eq!((model.unused_name("z"), model.unused_name("y")), ("z".to_owned(), "y.1".to_owned()));
        let error = |result: Result<()>| result.unwrap_err().to_string();
        assert!(
            error(model.append(&Node::new("Relu", &["z"], "w", ()))).contains("reads `z`, which the model does not")
        );
        assert!(
            error(model.append(&Node::new("Relu", &["x"], "y", ()))).contains("puts out `y`, which is already defined")
        );
        assert!(error(model.add_output("z", ElementType::F32, &[])).contains("is not a value of the model"));
    }
}
