use crate::{Graph, Node, Result};

/// `scale * x + shift`, with one number of each per channel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Affine {
    pub(super) scale: Vec<f64>,
    pub(super) shift: Vec<f64>,
}

impl Affine {
    /// What changes nothing.
    pub(super) fn identity(channels: usize) -> Self {
        Affine { scale: vec![1.0; channels], shift: vec![0.0; channels] }
    }

    /// First this, then `next`.
    pub(super) fn then(&self, next: &Affine) -> Self {
        let scale = self.scale.iter().zip(&next.scale).map(|(first, next)| first * next).collect();
        let shifted = self.shift.iter().zip(&next.scale).map(|(shift, scale)| shift * scale);
        Affine { scale, shift: shifted.zip(&next.shift).map(|(shifted, shift)| shifted + shift).collect() }
    }

    /// Whether every number is finite.
    pub(super) fn is_finite(&self) -> bool {
        self.scale.iter().chain(&self.shift).all(|number| number.is_finite())
    }

    /// What `node` does to its only input that is not constant, the channels being on `axis`;
    /// that input comes first. `None` if it does something else.
    pub(super) fn of<'a>(graph: &Graph, node: &'a Node, axis: usize) -> Result<Option<(&'a str, Self)>> {
        let [first, second, ..] = &node.inputs[..] else { return Ok(None) };
        let affine = match node.op.as_str() {
            "BatchNormalization" if axis == 1 => {
                return Ok(Affine::of_batch_norm(graph, node).map(|affine| (first.as_str(), affine)));
            }
            "Add" | "Sub" | "Mul" | "Div" => {
                let constant_first = graph.initializer(first).is_some();
                let (input, constant) = if constant_first { (second, first) } else { (first, second) };
                // The constant may not enlarge the value.
                if graph.value_type(input)? != graph.value_type(&node.outputs[0])? {
                    return Ok(None);
                }
                let Some(numbers) = per_channel(graph, constant, graph.shape(input)?, axis) else { return Ok(None) };
                let ones = vec![1.0; numbers.len()];
                let zeros = vec![0.0; numbers.len()];
                let negative = || numbers.iter().map(|number| -number).collect();
                let affine = match (node.op.as_str(), constant_first) {
                    ("Add", _) => Affine { scale: ones, shift: numbers },
                    ("Sub", false) => Affine { scale: ones, shift: negative() },
                    ("Sub", true) => Affine { scale: vec![-1.0; numbers.len()], shift: numbers },
                    ("Mul", _) => Affine { scale: numbers, shift: zeros },
                    ("Div", false) => Affine { scale: numbers.iter().map(|n| 1.0 / n).collect(), shift: zeros },
                    _ => return Ok(None),
                };
                (input.as_str(), affine)
            }
            _ => return Ok(None),
        };
        Ok(Some(affine).filter(|(_, affine)| affine.is_finite()))
    }

    /// What a BatchNormalization with constant parameters does to the channels on axis 1.
    pub(super) fn of_batch_norm(graph: &Graph, node: &Node) -> Option<Self> {
        let parameter = |i| Some(graph.initializer(node.input(i)?)?.to_f64());
        let [scale, bias, mean, variance] = [parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?];
        let epsilon = f64::from(node.float("epsilon", 1e-5));
        let scale: Vec<f64> =
            scale.iter().zip(&variance).map(|(s, variance)| s / (variance + epsilon).sqrt()).collect();
        let shift = bias.iter().zip(&mean).zip(&scale).map(|((bias, mean), scale)| bias - mean * scale).collect();
        Some(Affine { scale, shift }).filter(Affine::is_finite)
    }
}

/// The elements of a constant that broadcasts to `shape` and differs along `axis` alone.
fn per_channel(graph: &Graph, constant: &str, shape: &[usize], axis: usize) -> Option<Vec<f64>> {
    let tensor = graph.initializer(constant)?;
    let new_axes = shape.len().checked_sub(tensor.shape().len())?;
    let differs = |&(i, &extent): &(usize, &usize)| extent != 1 && i + new_axes != axis;
    if !tensor.element().is_float() || tensor.shape().iter().enumerate().any(|at| differs(&at)) {
        return None;
    }
    let values = tensor.to_f64();
    Some(if values.len() == 1 { vec![values[0]; shape[axis]] } else { values })
}
