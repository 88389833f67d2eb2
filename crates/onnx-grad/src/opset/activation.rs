//! Activations that are newer than opset 18.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use super::Rewrite;
use crate::{Error, Graph, Node, Result, Tensor};

/// x/2 · (1 + erf(x/√2)), or with `approximate` = `tanh` x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))).
pub(super) fn gelu(graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let approximate = node.string("approximate", "none").to_owned();
    if !matches!(approximate.as_str(), "none" | "tanh") {
        return Err(Error::node(&node, format!("has `approximate` = `{approximate}`")));
    }
    let mut rewrite = Rewrite::new(graph, node);
    let (x, element, _) = rewrite.input(0)?;
    let mut scalar = |value: f64| rewrite.constant(Tensor::scalar(element, value));
    let (half, one) = (scalar(0.5), scalar(1.0));
    let curve = if approximate == "none" {
        let scale = scalar(FRAC_1_SQRT_2);
        let scaled = rewrite.apply("Mul", &[&x, &scale], ());
        rewrite.apply("Erf", &[&scaled], ())
    } else {
        let (scale, cubic) = (scalar(FRAC_2_PI.sqrt()), scalar(0.044715));
        let square = rewrite.apply("Mul", &[&x, &x], ());
        let cube = rewrite.apply("Mul", &[&square, &x], ());
        let cube = rewrite.apply("Mul", &[&cube, &cubic], ());
        let sum = rewrite.apply("Add", &[&x, &cube], ());
        let scaled = rewrite.apply("Mul", &[&sum, &scale], ());
        rewrite.apply("Tanh", &[&scaled], ())
    };
    let gate = rewrite.apply("Add", &[&curve, &one], ());
    let halved = rewrite.apply("Mul", &[&x, &half], ());
    Ok(rewrite.finish("Mul", &[&halved, &gate], ()))
}

/// x · sigmoid(alpha · x).
pub(super) fn swish(graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let alpha = node.float("alpha", 1.0);
    let mut rewrite = Rewrite::new(graph, node);
    let (x, element, _) = rewrite.input(0)?;
    let mut scaled = x.clone();
    if alpha != 1.0 {
        let alpha = rewrite.constant(Tensor::scalar(element, f64::from(alpha)));
        scaled = rewrite.apply("Mul", &[&x, &alpha], ());
    }
    let gate = rewrite.apply("Sigmoid", &[&scaled], ());
    Ok(rewrite.finish("Mul", &[&x, &gate], ()))
}
