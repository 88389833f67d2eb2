use super::with_nodes;
use crate::opset::Rewrite;
use crate::window::Window;
use crate::{Attributes, Graph, Node, Result, Tensor};

/// Writes rare operators in terms of common ones, because not every engine has them: LRN, Selu, Celu, Mish,
/// ThresholdedRelu, SpaceToDepth, and MaxPool with dilations.
pub(super) fn into_primitives(mut graph: Graph) -> Result<Graph> {
    let mut nodes = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes().to_vec() {
        nodes.extend(primitives(&mut graph, node)?);
    }
    with_nodes(graph, nodes)
}

fn primitives(graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    match node.op.as_str() {
        "LRN" => local_response(graph, node),
        "Selu" => selu(graph, node),
        "Celu" => celu(graph, node),
        "Mish" => mish(graph, node),
        "ThresholdedRelu" => thresholded_relu(graph, node),
        "SpaceToDepth" => space_to_depth(graph, node),
        "MaxPool" if node.outputs.len() == 1 => {
            let window = Window::of(graph, &node)?;
            let dilated = window.dilations.iter().any(|&dilation| dilation != 1);
            if dilated { dilated_max_pool(graph, node, &window) } else { Ok(vec![node]) }
        }
        _ => Ok(vec![node]),
    }
}

/// `x / (bias + α·mean(x²))^β`, the mean being over the channels around each, as an AveragePool of columns.
fn local_response(graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let number = |name, default| f64::from(node.float(name, default));
    let (alpha, beta, bias) = (number("alpha", 1e-4), number("beta", 0.75), number("bias", 1.0));
    let size = node.int("size", 1);
    let mut rewrite = Rewrite::new(graph, node);
    let (x, element, shape) = rewrite.input(0)?;
    // A window that reaches beyond all channels need not be as large as it says.
    let (before, after) = (((size - 1) / 2).min(shape[1] as i64), (size / 2).min(shape[1] as i64));
    let alpha = alpha * (before + 1 + after) as f64 / size as f64;
    let rest: usize = shape[2..].iter().product();
    let columns = rewrite.constant(Tensor::ints(&[shape[0], 1, shape[1], rest].map(|extent| extent as i64)));
    let whole = rewrite.constant(Tensor::ints(&signed(&shape)));
    let [alpha, beta, bias] = [alpha, beta, bias].map(|value| rewrite.constant(Tensor::scalar(element, value)));
    let pooling = Attributes::new()
        .with("kernel_shape", vec![before + 1 + after, 1])
        .with("pads", vec![before, 0, after, 0])
        .with("count_include_pad", 1);

    let square = rewrite.apply("Mul", &[&x, &x], ());
    let square = rewrite.apply("Reshape", &[&square, &columns], ());
    let mean = rewrite.apply("AveragePool", &[&square], pooling);
    let mean = rewrite.apply("Reshape", &[&mean, &whole], ());
    let scaled = rewrite.apply("Mul", &[&mean, &alpha], ());
    let sum = rewrite.apply("Add", &[&scaled, &bias], ());
    let divisor = rewrite.apply("Pow", &[&sum, &beta], ());
    Ok(rewrite.finish("Div", &[&x, &divisor], ()))
}

/// `γ·elu(x)`
fn selu(graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let (alpha, gamma) = (node.float("alpha", 1.673_263_2), node.float("gamma", 1.050_701));
    let mut rewrite = Rewrite::new(graph, node);
    let (x, element, _) = rewrite.input(0)?;
    let gamma = rewrite.constant(Tensor::scalar(element, f64::from(gamma)));
    let elu = rewrite.apply("Elu", &[&x], [("alpha", alpha)]);
    Ok(rewrite.finish("Mul", &[&elu, &gamma], ()))
}

/// `α·elu(x/α)`, where `elu` has the slope 1 at 0.
fn celu(graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let alpha = f64::from(node.float("alpha", 1.0));
    let mut rewrite = Rewrite::new(graph, node);
    let (x, element, _) = rewrite.input(0)?;
    if alpha == 1.0 {
        return Ok(rewrite.finish("Elu", &[&x], ()));
    }
    let alpha = rewrite.constant(Tensor::scalar(element, alpha));
    let scaled = rewrite.apply("Div", &[&x, &alpha], ());
    let elu = rewrite.apply("Elu", &[&scaled], ());
    Ok(rewrite.finish("Mul", &[&elu, &alpha], ()))
}

/// `x·tanh(softplus(x))`
fn mish(graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let mut rewrite = Rewrite::new(graph, node);
    let (x, ..) = rewrite.input(0)?;
    let softplus = rewrite.apply("Softplus", &[&x], ());
    let gate = rewrite.apply("Tanh", &[&softplus], ());
    Ok(rewrite.finish("Mul", &[&x, &gate], ()))
}

/// `x` above α and 0 elsewhere.
fn thresholded_relu(graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let alpha = f64::from(node.float("alpha", 1.0));
    let mut rewrite = Rewrite::new(graph, node);
    let (x, element, _) = rewrite.input(0)?;
    let [alpha, zero] = [alpha, 0.0].map(|value| rewrite.constant(Tensor::scalar(element, value)));
    let above = rewrite.apply("Greater", &[&x, &alpha], ());
    Ok(rewrite.finish("Where", &[&above, &x, &zero], ()))
}

/// The rows and columns of each block go before the channels.
fn space_to_depth(graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let block = node.int("blocksize", 1).max(1) as usize;
    let mut rewrite = Rewrite::new(graph, node);
    let (x, _, shape) = rewrite.input(0)?;
    let (rows, columns) = (shape[2] / block, shape[3] / block);
    let split = rewrite.constant(Tensor::ints(&signed(&[shape[0], shape[1], rows, block, columns, block])));
    let joined = rewrite.constant(Tensor::ints(&signed(&[shape[0], shape[1] * block * block, rows, columns])));
    let apart = rewrite.apply("Reshape", &[&x, &split], ());
    let moved = rewrite.apply("Transpose", &[&apart], [("perm", vec![0, 3, 5, 1, 2, 4])]);
    Ok(rewrite.finish("Reshape", &[&moved, &joined], ()))
}

/// The maximum of slices, along one axis after the other. Beginning with the last axis, the first of several
/// equal maxima in row-major order is the first along every axis.
fn dilated_max_pool(graph: &mut Graph, node: Node, window: &Window) -> Result<Vec<Node>> {
    let mut rewrite = Rewrite::new(graph, node);
    let (mut value, element, _) = rewrite.input(0)?;
    let reach = |axis: usize| (window.output[axis] - 1) * window.strides[axis] + window.span(axis);
    let after = |axis: usize| reach(axis).saturating_sub(window.pads_begin[axis] + window.input[axis]);
    let after: Vec<usize> = (0..window.rank()).map(after).collect();
    if window.pads_begin.iter().chain(&after).any(|&pad| pad != 0) {
        let pads = [&[0, 0], &window.pads_begin[..], &[0, 0], &after].concat();
        let pads = rewrite.constant(Tensor::ints(&signed(&pads)));
        let lowest = rewrite.constant(Tensor::scalar(element, f64::NEG_INFINITY));
        value = rewrite.apply("Pad", &[&value, &pads, &lowest], ());
    }
    for axis in (0..window.rank()).rev() {
        let mut taps = Vec::with_capacity(window.kernel[axis]);
        for tap in 0..window.kernel[axis] {
            let start = tap * window.dilations[axis];
            let end = start + (window.output[axis] - 1) * window.strides[axis] + 1;
            let [start, end, axis, step] =
                [start, end, axis + 2, window.strides[axis]].map(|n| rewrite.constant(Tensor::ints(&[n as i64])));
            taps.push(rewrite.apply("Slice", &[&value, &start, &end, &axis, &step], ()));
        }
        let taps: Vec<&str> = taps.iter().map(String::as_str).collect();
        if axis == 0 {
            return Ok(rewrite.finish("Max", &taps, ()));
        }
        value = rewrite.apply("Max", &taps, ());
    }
    Ok(rewrite.finish("Identity", &[&value], ()))
}

fn signed(extents: &[usize]) -> Vec<i64> {
    extents.iter().map(|&extent| extent as i64).collect()
}
