//! Random shapes and geometries, run in float32 on the embedded engine.
//!
//! The operators here are linear, or homogeneous of degree 1, in the operands that are
//! differentiated. Then `⟨y, u⟩ = Σ ⟨x, ∂⟨y, u⟩/∂x⟩` for every `u`, exactly: an identity that ties
//! what the engine computes forward to what it computes backward, without any finite difference.

use onnx_grad::{Attributes, ElementType, Graph, Tensor, TensorData, ValueType, differentiate};
use proptest::prelude::*;
use rten_tensor::prelude::*;

/// Numbers that look random and depend on `seed` alone, in [-1, 1].
fn noise(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::floats(ElementType::F32, shape, &values)
}

/// An operator on some operands, which are inputs or constants of the graph.
struct Application {
    op: &'static str,
    operands: Vec<Tensor>,
    attributes: Attributes,
    /// Whether the operands after the first are constants that no gradient is asked for.
    constant_rest: bool,
}

/// What the engine computed: the output, the weights `u` of its elements, and the gradients.
struct Outcome {
    output: Vec<f32>,
    weights: Tensor,
    gradients: Vec<Vec<f32>>,
}

impl Application {
    fn differentiated(&self) -> &[Tensor] {
        if self.constant_rest { &self.operands[..1] } else { &self.operands }
    }

    fn run(&self) -> Outcome {
        let mut graph = Graph::new();
        let names: Vec<String> = (0..self.operands.len()).map(|i| format!("x{i}")).collect();
        for (i, (name, operand)) in names.iter().zip(&self.operands).enumerate() {
            if i < self.differentiated().len() {
                graph.add_input(name, operand.value_type()).unwrap();
            } else {
                graph.add_initializer(name, operand.clone()).unwrap();
            }
        }
        let inputs: Vec<&str> = names.iter().map(String::as_str).collect();
        let y = graph.apply(self.op, &inputs, self.attributes.clone()).unwrap();
        let shape = graph.shape(&y).unwrap().to_vec();
        let weights = noise(&shape, 99);
        graph.add_input("u", ValueType::new(ElementType::F32, shape)).unwrap();
        let product = graph.apply("Mul", &[&y, "u"], ()).unwrap();
        graph.set_outputs(&[&y]).unwrap();

        let gradients = differentiate(&graph, &[&product], &inputs[..self.differentiated().len()]).unwrap();
        let fed: Vec<(&str, &Tensor)> =
            inputs.iter().copied().zip(self.differentiated()).chain([("u", &weights)]).collect();
        let mut outputs = evaluate(&gradients.graph, &fed);
        let output = outputs.remove(0);
        Outcome { output, weights, gradients: outputs }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let outcome = self.run();
        let forward = dot(&outcome.output, floats(&outcome.weights));
        let operands = self.differentiated().iter().zip(&outcome.gradients);
        let backward: f64 = match self.op {
            // Linear in both operands at once.
            "Add" | "Sub" | "Sum" | "Max" => operands.map(|(x, gradient)| dot(floats(x), gradient)).sum(),
            // Linear in each operand: every one gives the whole.
            _ => {
                for (x, gradient) in operands {
                    close(dot(floats(x), gradient), forward, norm(&outcome.output) * norm(floats(&outcome.weights)))?;
                }
                return Ok(());
            }
        };
        close(backward, forward, norm(&outcome.output) * norm(floats(&outcome.weights)))
    }
}

/// Checks `⟨y, u⟩ = ⟨x, ∂⟨y, u⟩/∂x⟩` for a graph that is linear from its input `x` to `y`.
fn adjoint(mut graph: Graph, y: &str) -> Result<(), TestCaseError> {
    let (x, u) = (noise(graph.shape("x").unwrap(), 1), noise(graph.shape(y).unwrap(), 2));
    graph.add_initializer("u", u.clone()).unwrap();
    let product = graph.apply("Mul", &[y, "u"], ()).unwrap();
    graph.set_outputs(&[y]).unwrap();
    let graph = differentiate(&graph, &[&product], &["x"]).unwrap().graph;
    let outputs = evaluate(&graph, &[("x", &x)]);
    let scale = norm(&outputs[0]) * norm(floats(&u));
    close(dot(floats(&x), &outputs[1]), dot(&outputs[0], floats(&u)), scale)
}

fn close(backward: f64, forward: f64, scale: f64) -> Result<(), TestCaseError> {
    prop_assert!((backward - forward).abs() <= 1e-4 * scale.max(1e-3), "backward {backward}, forward {forward}");
    Ok(())
}

fn floats(tensor: &Tensor) -> &[f32] {
    match tensor.data() {
        TensorData::F32(values) => values,
        _ => panic!("the operands are float32"),
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn norm(a: &[f32]) -> f64 {
    dot(a, a).sqrt()
}

/// All outputs of `graph` on the embedded engine.
fn evaluate(graph: &Graph, inputs: &[(&str, &Tensor)]) -> Vec<Vec<f32>> {
    let bytes = graph.to_model_bytes("property").unwrap();
    let model = rten::ModelOptions::with_all_ops().load(bytes).unwrap();
    let fed = inputs
        .iter()
        .map(|(name, tensor)| {
            let value = rten_tensor::Tensor::from_data(tensor.shape(), floats(tensor).to_vec());
            (model.node_id(name).unwrap(), value.into())
        })
        .collect();
    let outputs: Vec<_> = graph.outputs().iter().map(|name| model.node_id(name).unwrap()).collect();
    let values = model.run(fed, &outputs, None).unwrap();
    values.into_iter().map(|value| value.into_tensor::<f32>().unwrap().to_vec()).collect()
}

/// Kernel, stride, dilation, padding before and after, and extent of one axis.
#[derive(Debug, Clone, Copy)]
struct Axis {
    kernel: usize,
    stride: usize,
    dilation: usize,
    begin: usize,
    end: usize,
    extent: usize,
}

fn axis() -> impl Strategy<Value = Axis> {
    (1..4usize, 1..4usize, 1..3usize, 0..3usize, 0..3usize, 0..6usize).prop_map(
        |(kernel, stride, dilation, begin, end, room)| {
            let span = (kernel - 1) * dilation + 1;
            Axis { kernel, stride, dilation, begin, end, extent: (span + room).saturating_sub(begin + end).max(1) }
        },
    )
}

fn two_axes() -> impl Strategy<Value = [Axis; 2]> {
    [axis(), axis()].prop_filter("the window fits", |axes| {
        axes.iter().all(|a| (a.kernel - 1) * a.dilation < a.extent + a.begin + a.end)
    })
}

fn list(axes: &[Axis], field: impl Fn(&Axis) -> usize) -> Vec<i64> {
    axes.iter().map(|axis| field(axis) as i64).collect()
}

fn window(axes: &[Axis]) -> Attributes {
    let pads = [list(axes, |axis| axis.begin), list(axes, |axis| axis.end)].concat();
    Attributes::new()
        .with("kernel_shape", list(axes, |axis| axis.kernel))
        .with("strides", list(axes, |axis| axis.stride))
        .with("pads", pads)
}

fn shape(leading: [usize; 2], axes: &[Axis], field: impl Fn(&Axis) -> usize) -> Vec<usize> {
    leading.into_iter().chain(axes.iter().map(field)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conv(axes in two_axes(), batch in 1..3usize, group in 1..4usize, channels in 1..4usize, filters in 1..4usize, trained: bool) {
        let x = noise(&shape([batch, group * channels], &axes, |axis| axis.extent), 1);
        let weights = noise(&shape([group * filters, channels], &axes, |axis| axis.kernel), 2);
        let attributes = window(&axes).with("dilations", list(&axes, |axis| axis.dilation)).with("group", group as i64);
        Application { op: "Conv", operands: vec![x, weights], attributes, constant_rest: !trained }.check()?;
    }

    #[test]
    fn conv_to_few_channels(axes in two_axes(), batch in 1..3usize, channels in 1..5usize, room in 2..9usize) {
        let axes = axes.map(|axis| Axis { stride: 1, dilation: 1, extent: axis.extent + room, ..axis });
        let x = noise(&shape([batch, channels], &axes, |axis| axis.extent), 1);
        let weights = noise(&shape([3, channels], &axes, |axis| axis.kernel), 2);
        Application { op: "Conv", operands: vec![x, weights], attributes: window(&axes), constant_rest: true }.check()?;
    }

    #[test]
    fn strided_conv_to_few_channels(axes in two_axes(), stride in 2..5usize, channels in 1..5usize, room in 0..9usize) {
        let axes = axes.map(|axis| Axis { stride, dilation: 1, extent: axis.extent + room, ..axis });
        let x = noise(&shape([2, channels], &axes, |axis| axis.extent), 1);
        let weights = noise(&shape([3, channels], &axes, |axis| axis.kernel), 2);
        Application { op: "Conv", operands: vec![x, weights], attributes: window(&axes), constant_rest: true }.check()?;
    }

    #[test]
    fn conv_transpose(axes in two_axes(), group in 1..3usize, channels in 1..3usize, filters in 1..3usize, extra in 0..3usize) {
        let axes = axes.map(|axis| {
            // The window may not be cropped away.
            let full = (axis.extent - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1;
            if full > axis.begin + axis.end { axis } else { Axis { begin: 0, end: 0, ..axis } }
        });
        let x = noise(&shape([2, group * channels], &axes, |axis| axis.extent), 1);
        let weights = noise(&shape([group * channels, filters], &axes, |axis| axis.kernel), 2);
        let attributes = window(&axes)
            .with("dilations", list(&axes, |axis| axis.dilation))
            .with("output_padding", list(&axes, |axis| extra.min(axis.stride - 1)))
            .with("group", group as i64);
        Application { op: "ConvTranspose", operands: vec![x, weights], attributes, constant_rest: false }.check()?;
    }

    #[test]
    fn average_pool(axes in two_axes(), ceil: bool, count_padding: bool) {
        let axes = pooling(axes);
        let attributes = window(&axes).with("ceil_mode", i64::from(ceil)).with("count_include_pad", i64::from(count_padding));
        let x = noise(&shape([2, 3], &axes, |axis| axis.extent), 1);
        Application { op: "AveragePool", operands: vec![x], attributes, constant_rest: false }.check()?;
    }

    /// Few levels make ties: the first maximum in row-major order has the gradient.
    #[test]
    fn max_pool(axes in two_axes(), ceil: bool, tiles: bool, levels in 1..4u32) {
        let mut axes = pooling(axes);
        if tiles {
            axes = axes.map(|axis| Axis { stride: axis.kernel, begin: 0, end: 0, extent: axis.extent + axis.kernel, ..axis });
        }
        let attributes = window(&axes).with("ceil_mode", i64::from(ceil));
        let shape = shape([2, 2], &axes, |axis| axis.extent);
        let level = f64::from(levels);
        let values: Vec<f64> = noise(&shape, 5).to_f64().iter().map(|v| (v * level).round() / level).collect();
        let x = Tensor::floats(ElementType::F32, shape.clone(), &values);
        let application = Application { op: "MaxPool", operands: vec![x], attributes, constant_rest: false };
        let outcome = application.run();
        let expected = first_maxima(&values, &shape, &outcome.weights, &axes);
        for (got, want) in outcome.gradients[0].iter().zip(&expected) {
            prop_assert!((f64::from(*got) - want).abs() < 1e-5, "{:?} instead of {expected:?}", outcome.gradients[0]);
        }
    }

    #[test]
    fn mat_mul(batch in prop::collection::vec(1..3usize, 0..3), m in 1..4usize, k in 1..5usize, n in 1..4usize, shared_a: bool, shared_b: bool) {
        let leading = |shared: bool| if shared { Vec::new() } else { batch.clone() };
        let a = noise(&[leading(shared_a), vec![m, k]].concat(), 1);
        let b = noise(&[leading(shared_b), vec![k, n]].concat(), 2);
        Application { op: "MatMul", operands: vec![a, b], attributes: ().into(), constant_rest: false }.check()?;
    }

    #[test]
    fn gemm(m in 1..5usize, k in 1..5usize, n in 1..5usize, flip_a: bool, flip_b: bool) {
        let a = noise(&if flip_a { [k, m] } else { [m, k] }, 1);
        let b = noise(&if flip_b { [n, k] } else { [k, n] }, 2);
        let attributes = Attributes::new().with("transA", i64::from(flip_a)).with("transB", i64::from(flip_b)).with("alpha", 0.5f32);
        Application { op: "Gemm", operands: vec![a, b], attributes, constant_rest: false }.check()?;
    }

    #[test]
    fn resize(
        extents in [1..6usize, 1..6usize],
        sizes in [1..9usize, 1..9usize],
        mode in prop::sample::select(vec!["nearest", "linear"]),
        transformation in prop::sample::select(vec!["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]),
        nearest in prop::sample::select(vec!["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]),
        doublings in 0..3usize,
    ) {
        // At other scales engines differ over which of two elements is nearest, as they round differently.
        let nearest_sizes = extents.map(|extent| extent << doublings);
        let sizes = if mode == "nearest" { nearest_sizes } else { sizes };
        let attributes = Attributes::new()
            .with("mode", mode)
            .with("coordinate_transformation_mode", transformation)
            .with("nearest_mode", nearest);
        let mut graph = Graph::new();
        graph.add_input("x", ValueType::new(ElementType::F32, [2, 2, extents[0], extents[1]])).unwrap();
        graph.add_initializer("sizes", Tensor::ints(&[2, 2, sizes[0] as i64, sizes[1] as i64])).unwrap();
        let y = graph.apply("Resize", &["x", "", "", "sizes"], attributes).unwrap();
        adjoint(graph, &y)?;
    }

    #[test]
    fn selection(indices in prop::collection::vec(-3..3i64, 6), rows in 1..4usize) {
        let mut graph = Graph::new();
        graph.add_input("x", ValueType::new(ElementType::F32, [3, 3])).unwrap();
        let columns = 6 / rows;
        graph.add_initializer("i", Tensor::ints(&indices[..rows * columns]).reshaped([rows, columns])).unwrap();
        let taken = graph.apply("GatherElements", &["x", "i"], [("axis", 1)]).unwrap();
        graph.add_initializer("places", Tensor::ints(&indices).reshaped([3, 2])).unwrap();
        let listed = graph.apply("GatherND", &["x", "places"], ()).unwrap();
        let flat = graph.constant(Tensor::ints(&[-1]));
        let taken = graph.apply("Reshape", &[&taken, &flat], ()).unwrap();
        let y = graph.apply("Concat", &[&taken, &listed], [("axis", 0)]).unwrap();
        adjoint(graph, &y)?;
    }

    #[test]
    fn sums(exclusive in 0..2i64, reverse in 0..2i64, axis in 0..3i64, upper in 0..2i64, diagonal in -2..3i64) {
        let mut graph = Graph::new();
        graph.add_input("x", ValueType::new(ElementType::F32, [2, 3, 4])).unwrap();
        graph.add_initializer("axis", Tensor::ints(&[axis]).reshaped([])).unwrap();
        graph.add_initializer("k", Tensor::ints(&[diagonal]).reshaped([])).unwrap();
        graph.add_initializer("matrix", noise(&[4, 2], 3)).unwrap();
        let attributes = Attributes::new().with("exclusive", exclusive).with("reverse", reverse);
        let sums = graph.apply("CumSum", &["x", "axis"], attributes).unwrap();
        let part = graph.apply("Trilu", &[&sums, "k"], [("upper", upper)]).unwrap();
        let equation = Attributes::new().with("equation", "bij,jk->kb");
        let y = graph.apply("Einsum", &[&part, "matrix"], equation).unwrap();
        adjoint(graph, &y)?;
    }

    #[test]
    fn broadcasting(
        shape in prop::collection::vec(1..4usize, 0..4),
        collapsed in prop::collection::vec(any::<bool>(), 4),
        dropped in 0..3usize,
        op in prop::sample::select(vec!["Add", "Sub", "Mul", "Sum", "Max"]),
        swapped: bool,
    ) {
        let narrow: Vec<usize> =
            shape.iter().zip(&collapsed).map(|(&extent, &one)| if one { 1 } else { extent }).skip(dropped).collect();
        let mut operands = vec![noise(&shape, 1), noise(&narrow, 2)];
        if swapped {
            operands.reverse();
        }
        Application { op, operands, attributes: ().into(), constant_rest: false }.check()?;
    }
}

/// Windows that the pooling operators allow: no dilation, and no padding as large as the window.
fn pooling(axes: [Axis; 2]) -> [Axis; 2] {
    axes.map(|axis| {
        let (begin, end) = (axis.begin.min(axis.kernel - 1), axis.end.min(axis.kernel - 1));
        Axis { dilation: 1, begin, end, extent: axis.extent.max(axis.kernel), ..axis }
    })
}

/// The gradient of `x` where every window hands its own to the first of its maxima.
fn first_maxima(x: &[f64], shape: &[usize], weights: &Tensor, [tall, wide]: &[Axis; 2]) -> Vec<f64> {
    let (height, width) = (shape[2], shape[3]);
    let (rows, columns) = (weights.shape()[2], weights.shape()[3]);
    let mut gradient = vec![0.0; x.len()];
    for (i, weight) in weights.to_f64().into_iter().enumerate() {
        let (row, column, plane) = (i / columns % rows, i % columns, i / (rows * columns));
        let places = (0..tall.kernel).flat_map(|down| (0..wide.kernel).map(move |right| (down, right)));
        let inside = places.filter_map(|(down, right)| {
            let y = (row * tall.stride + down).checked_sub(tall.begin).filter(|&y| y < height)?;
            let x = (column * wide.stride + right).checked_sub(wide.begin).filter(|&x| x < width)?;
            Some((plane * height + y) * width + x)
        });
        if let Some(first) = inside.reduce(|best, other| if x[other] > x[best] { other } else { best }) {
            gradient[first] += weight;
        }
    }
    gradient
}
