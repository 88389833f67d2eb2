//! A filter inside the model that it is for.

use onnx_grad::{Attributes, ElementType, Extent, Model, Node, Tensor, TensorData};

use super::filtering::Profile;
use super::{Filter, Penultimate};
use crate::error::{Error, Result};
use crate::interface::{ABSTAIN, abstain_output};
use crate::network::Network;

/// The model of `network` with `filter` in it: the same nodes and outputs, and after them nodes for one more output, `abstain`, bool `[N]`,
/// which is true where the filter abstains. (With a number after the name where the model has such a value already.)
///
/// The nodes are of the model's own opset and work on float32 whatever the model's type is, so that any engine
/// which runs the model runs its filter.
///
/// # Errors
/// If the filter is for another model, or the model has a filter already.
pub fn embed_filter(network: &Network, filter: &Filter) -> Result<Model> {
    let penultimate = Penultimate::find(network)?;
    filter.check_fits(&penultimate)?;
    let model = network.model();
    if abstain_output(model).is_some() {
        return Err(Error::Classifier(
            "the model already has a filter in it: embed the new one in the model without".into(),
        ));
    }
    let output = model.unused_name(ABSTAIN);
    let mut extension = Extension { model: model.clone() };
    let features = extension.apply("Cast", &[penultimate.features()], [("to", FLOAT)])?;
    let features = extension.apply("Flatten", &[&features], [("axis", 1)])?;
    let mut abstain: Option<String> = None;
    for profile in &filter.profiles {
        let above = extension.is_above(&features, &penultimate, profile)?;
        abstain = Some(match abstain {
            Some(others) => extension.apply("Or", &[&others, &above], ())?,
            None => above,
        });
    }
    let abstain = abstain.ok_or_else(|| Error::Config("the filter has no profile".into()))?;
    let shape = extension.constant(Tensor::ints(&[-1]))?;
    extension.push("Reshape", &[&abstain, &shape], &output, ())?;
    let batch = model.outputs().into_iter().find_map(|output| output.shape?.into_iter().next());
    extension.model.add_output(&output, ElementType::Bool, &[batch.unwrap_or(Extent::Unknown)])?;
    Ok(extension.model)
}

/// `TensorProto.FLOAT`, as the operator Cast has it.
const FLOAT: i64 = 1;

struct Extension {
    model: Model,
}

impl Extension {
    /// Whether each image's profile is above the threshold, `[N, 1]`, given its features, `[N, features]`.
    fn is_above(&mut self, features: &str, penultimate: &Penultimate, profile: &Profile) -> Result<String> {
        let positions = penultimate.positions() as f32;
        let count = penultimate.features_per_image();
        let weights = (0..count).map(|i| profile.weights[penultimate.neuron_of(i)] / positions).collect();
        let weights = self.constant(Tensor::new([count, 1], TensorData::F32(weights)))?;
        let threshold = self.constant(Tensor::new([], TensorData::F32(vec![profile.threshold])))?;
        let sum = self.apply("MatMul", &[features, &weights], ())?;
        self.apply("Greater", &[&sum, &threshold], ())
    }

    fn constant(&mut self, tensor: Tensor) -> Result<String> {
        self.apply("Constant", &[], [("value", tensor)])
    }

    fn apply(&mut self, op: &str, inputs: &[&str], attributes: impl Into<Attributes>) -> Result<String> {
        let output = self.model.unused_name(&format!("{ABSTAIN}/{op}"));
        self.push(op, inputs, &output, attributes)?;
        Ok(output)
    }

    fn push(&mut self, op: &str, inputs: &[&str], output: &str, attributes: impl Into<Attributes>) -> Result<()> {
        Ok(self.model.append(&Node {
            name: output.to_owned(),
            op: op.to_owned(),
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            outputs: vec![output.to_owned()],
            attributes: attributes.into(),
        })?)
    }
}
