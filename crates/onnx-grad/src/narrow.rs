//! A model with fewer inputs and outputs, and fewer open axes, than its file has.

use std::collections::HashSet;

use crate::proto::{Dimension, GraphProto, NodeProto, TensorShapeProto, TensorType, ValueInfoProto};
use crate::{ElementType, Error, Model, Result, Tensor, TensorData, check, order, tensor_proto};

impl Model {
    /// The model with its values called `names` as its only outputs, and without the inputs that these do not need.
    ///
    /// # Errors
    /// If the model has no such value, or its graph is malformed.
    pub fn with_outputs(mut self, names: &[&str]) -> Result<Model> {
        let graph = self.graph_mut()?;
        graph.output = names.iter().map(|name| declaration(graph, name)).collect();
        let read: HashSet<String> = {
            let inputs = graph.input.iter().map(|input| input.name());
            let given: HashSet<&str> = inputs.chain(graph.initializer.iter().map(|tensor| tensor.name())).collect();
            let nodes = order::live_nodes(graph, |name| given.contains(name))?;
            nodes.into_iter().flat_map(order::reads).chain(names.iter().copied()).map(str::to_owned).collect()
        };
        graph.input.retain(|input| read.contains(input.name()));
        Ok(self)
    }

    /// The model with its input called `name` as a constant, each element of which is `value`. Open axes have one element.
    ///
    /// # Errors
    /// If it has no such input, or one of a type that is not supported.
    pub fn with_constant_input(mut self, name: &str, value: f64) -> Result<Model> {
        let refuse = |problem: String| Error::value(name, problem);
        let graph = self.graph_mut()?;
        let position = input_position(graph, name)?;
        let ty = tensor_type(&mut graph.input[position])?;
        let element = tensor_proto::element_type(ty.elem_type()).map_err(refuse)?;
        let dims: Vec<i64> = ty.shape.iter().flat_map(|shape| &shape.dim).map(|dim| dim.dim_value().max(1)).collect();
        let shape = check::shape(&dims).map_err(refuse)?;
        let len = shape.iter().product();
        let data = match element {
            ElementType::F32 => TensorData::F32(vec![value as f32; len]),
            ElementType::F64 => TensorData::F64(vec![value; len]),
            ElementType::I64 => TensorData::I64(vec![value as i64; len]),
            ElementType::I32 => TensorData::I32(vec![value as i32; len]),
            ElementType::Bool => TensorData::Bool(vec![value != 0.0; len]),
        };
        graph.input.remove(position);
        graph.initializer.push(tensor_proto::write(&Tensor::new(shape, data), name));
        Ok(self)
    }

    /// The model with the axes of its input called `name` after the first fixed to `extents`.
    ///
    /// # Errors
    /// If it has no such input, or one that is declared with other axes or extents.
    pub fn with_input_extents(mut self, name: &str, extents: &[usize]) -> Result<Model> {
        let graph = self.graph_mut()?;
        let position = input_position(graph, name)?;
        let shape = &mut tensor_type(&mut graph.input[position])?.shape;
        let dims = shape.get_or_insert_with(|| TensorShapeProto { dim: vec![Dimension::default(); 1 + extents.len()] });
        let fits = |(dim, extent): (&Dimension, &usize)| dim.dim_value() <= 0 || dim.dim_value() == *extent as i64;
        if dims.dim.len() != 1 + extents.len() || !dims.dim[1..].iter().zip(extents).all(fits) {
            return Err(Error::value(
                name,
                format!("is an input that cannot have the extents {extents:?} after the first"),
            ));
        }
        for (dim, &extent) in dims.dim[1..].iter_mut().zip(extents) {
            *dim = Dimension { dim_value: Some(extent as i64), ..Dimension::default() };
        }
        Ok(self)
    }

    /// The tensor of floats behind the value called `name`: what a `ZipMap`, as scikit-learn's converter writes it, makes a
    /// sequence of maps from classes to scores of, or what is quantised and dequantised again to become it. It is `name`
    /// itself for other values.
    pub fn unwrapped<'a>(&'a self, name: &'a str) -> &'a str {
        let behind = || {
            let node = self.node_of(name)?;
            let input = node.input.first()?;
            match check::operator(node).as_str() {
                "ai.onnx.ml.ZipMap" => Some(input),
                "DequantizeLinear" => {
                    let quantize = self.node_of(input).filter(|node| node.op_type() == "QuantizeLinear")?;
                    quantize.input.first()
                }
                _ => None,
            }
        };
        behind().map_or(name, String::as_str)
    }

    fn node_of(&self, name: &str) -> Option<&NodeProto> {
        let nodes = &self.proto.graph.as_ref()?.node;
        nodes.iter().find(|node| node.output.iter().any(|output| output == name))
    }
}

fn declaration(graph: &GraphProto, name: &str) -> ValueInfoProto {
    let declared = graph.output.iter().chain(&graph.value_info).find(|info| info.name() == name).cloned();
    declared.unwrap_or_else(|| ValueInfoProto { name: Some(name.to_owned()), ..ValueInfoProto::default() })
}

fn input_position(graph: &GraphProto, name: &str) -> Result<usize> {
    let position = graph.input.iter().position(|input| input.name() == name);
    position.ok_or_else(|| Error::value(name, "is not an input of the model"))
}

fn tensor_type(input: &mut ValueInfoProto) -> Result<&mut TensorType> {
    let name = input.name().to_owned();
    let ty = input.r#type.as_mut().and_then(|ty| ty.tensor_type.as_mut());
    ty.ok_or_else(|| Error::value(&name, "is an input that is not a tensor"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Extent, Graph, ImportOptions, Node, ValueType};

    /// y = x + (training ? 1 : 0) · offset, z = Relu(y)
    fn model() -> Model {
        let mut graph = Graph::new();
        graph.add_input("x", ValueType::new(ElementType::F32, [2, 3])).unwrap();
        graph.add_input("training", ValueType::new(ElementType::Bool, [])).unwrap();
        graph.add_input("offset", ValueType::new(ElementType::F32, [1, 3])).unwrap();
        let one_or_none = graph.apply("Cast", &["training"], [("to", 1)]).unwrap();
        let shift = graph.apply("Mul", &["offset", &one_or_none], ()).unwrap();
        graph.push(Node::new("Add", &["x", &shift], "y", ())).unwrap();
        graph.push(Node::new("Relu", &["x"], "z", ())).unwrap();
        graph.add_output("y").unwrap();
        graph.add_output("z").unwrap();
        Model::from_bytes(&graph.to_model_bytes("model").unwrap()).unwrap()
    }

    fn inputs(model: &Model) -> Vec<String> {
        model.inputs().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_the_inputs_that_an_output_needs_stay() {
        assert_eq!(inputs(&model().with_outputs(&["z"]).unwrap()), ["x: float32[2, 3]"]);
        let narrowed = model().with_outputs(&["y"]).unwrap();
        assert_eq!(inputs(&narrowed), ["x: float32[2, 3]", "training: bool[]", "offset: float32[1, 3]"]);
        let error = model().with_outputs(&["w"]).unwrap_err().to_string();
        assert!(error.contains("`w`"), "{error}");
    }

    #[test]
    fn an_input_can_be_made_a_constant() {
        let narrowed =
            model().with_constant_input("training", 1.0).unwrap().with_constant_input("offset", 2.5).unwrap();
        assert_eq!(inputs(&narrowed), ["x: float32[2, 3]"]);
        let options = ImportOptions { batch: 2, input_shapes: Default::default(), fold_weights: true };
        let graph = Graph::import(&narrowed.with_outputs(&["y"]).unwrap(), &options).unwrap();
        let shift = graph.nodes().iter().find(|node| node.op == "Add").unwrap().inputs[1].clone();
        assert_eq!(graph.initializer(&shift).unwrap().to_f64(), [2.5; 3]);
        assert!(model().with_constant_input("y", 0.0).is_err(), "y is no input");
    }

    #[test]
    fn open_axes_are_fixed_and_fixed_ones_respected() {
        let mut model = model();
        let open = |name: &str| Dimension { dim_param: Some(name.to_owned()), ..Dimension::default() };
        let x = &mut model.graph_mut().unwrap().input[0];
        tensor_type(x).unwrap().shape = Some(TensorShapeProto { dim: vec![open("N"), open("W")] });
        let fixed = model.with_input_extents("x", &[3]).unwrap();
        assert_eq!(fixed.inputs()[0].shape, Some(vec![Extent::Named("N".into()), Extent::Fixed(3)]));
        assert!(fixed.clone().with_input_extents("x", &[4]).is_err());
        assert!(fixed.with_input_extents("x", &[3, 1]).is_err());
    }
}
