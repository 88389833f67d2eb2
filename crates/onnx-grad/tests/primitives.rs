//! What simplifying makes of operators that the embedded engine lacks, run on that engine.

use onnx_grad::{Attributes, ElementType, Graph, ValueType, simplify};
use rten_tensor::prelude::*;

/// `op` applied to `x`, a value of `shape`, on the embedded engine.
fn evaluate(op: &str, attributes: Attributes, shape: &[usize], x: &[f32]) -> Vec<f32> {
    let mut graph = Graph::new();
    graph.add_input("x", ValueType::new(ElementType::F32, shape)).unwrap();
    let y = graph.apply(op, &["x"], attributes).unwrap();
    graph.set_outputs(&[&y]).unwrap();
    let bytes = simplify(graph).unwrap().to_model_bytes("primitives").unwrap();
    let model = rten::ModelOptions::with_all_ops().load(bytes).unwrap();
    let x = rten_tensor::Tensor::from_data(shape, x.to_vec());
    let values = model.run(vec![(model.node_id("x").unwrap(), x.into())], &[model.node_id(&y).unwrap()], None).unwrap();
    values.into_iter().next().unwrap().into_tensor::<f32>().unwrap().to_vec()
}

fn assert_close(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let close = got.iter().zip(want).all(|(got, want)| (got - want).abs() <= 1e-5 * want.abs().max(1.0));
    assert!(close, "{what}: {got:?} instead of {want:?}");
}

#[test]
fn activations() {
    type Case = (&'static str, &'static [(&'static str, f32)], fn(f32) -> f32);
    let cases: [Case; 8] = [
        ("Selu", &[], |x| 1.050_701 * if x > 0.0 { x } else { 1.673_263_2 * x.exp_m1() }),
        ("Selu", &[("alpha", 1.5), ("gamma", 0.5)], |x| 0.5 * if x > 0.0 { x } else { 1.5 * x.exp_m1() }),
        ("Celu", &[], |x| if x > 0.0 { x } else { x.exp_m1() }),
        ("Celu", &[("alpha", 2.0)], |x| if x > 0.0 { x } else { 2.0 * (x / 2.0).exp_m1() }),
        ("Celu", &[("alpha", 0.25)], |x| if x > 0.0 { x } else { 0.25 * (x / 0.25).exp_m1() }),
        ("Mish", &[], |x| x * if x > 50.0 { 1.0 } else { x.exp().ln_1p().tanh() }),
        ("ThresholdedRelu", &[], |x| if x > 1.0 { x } else { 0.0 }),
        ("ThresholdedRelu", &[("alpha", -0.5)], |x| if x > -0.5 { x } else { 0.0 }),
    ];
    let x = [-100.0, -3.0, -0.5, -0.1, 0.0, 0.1, 1.0, 3.0, 100.0];
    for (op, numbers, expected) in cases {
        let attributes = numbers.iter().fold(Attributes::new(), |all, &(name, value)| all.with(name, value));
        assert_close(op, &evaluate(op, attributes, &[x.len()], &x), &x.map(expected));
    }
}

#[test]
fn local_response_normalization() {
    let x = [1.0, -2.0, 3.0, -4.0f32];
    let squares = [1.0, 4.0, 9.0, 16.0f32];
    // Of an even number of channels one more comes after.
    for (size, sums) in [(1, squares), (3, [5.0, 14.0, 29.0, 25.0]), (2, [5.0, 13.0, 25.0, 16.0]), (9, [30.0; 4])] {
        let attributes = Attributes::new().with("size", size as i64).with("alpha", 0.5f32).with("bias", 2.0f32);
        let expected: Vec<f32> =
            x.iter().zip(sums).map(|(x, sum)| x / (2.0 + 0.5 / size as f32 * sum).powf(0.75)).collect();
        assert_close(&format!("{size} channels"), &evaluate("LRN", attributes, &[1, 4, 1, 1], &x), &expected);
    }
}

#[test]
fn space_to_depth() {
    let x: Vec<f32> = (0..8).map(|i| i as f32).collect();
    let y = evaluate("SpaceToDepth", Attributes::new().with("blocksize", 2), &[1, 1, 2, 4], &x);
    assert_close("blocks of two by two", &y, &[0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
}

#[test]
fn dilated_max_pool() {
    let x: Vec<f32> = (0..25).map(|i| -1.0 - (i * 7 % 25) as f32).collect();
    for (pad, stride) in [(0, 1), (1, 1), (0, 2), (1, 2)] {
        let attributes = Attributes::new()
            .with("kernel_shape", vec![2, 2])
            .with("dilations", vec![2, 2])
            .with("strides", vec![stride, stride])
            .with("pads", vec![pad; 4]);
        let count = (5 + 2 * pad - 3) / stride + 1;
        let at = |row: i64, column: i64| {
            let inside = (0..5).contains(&row) && (0..5).contains(&column);
            if inside { x[(row * 5 + column) as usize] } else { f32::NEG_INFINITY }
        };
        let corner = |i: i64| (i / count * stride - pad, i % count * stride - pad);
        let expected: Vec<f32> = (0..count * count)
            .map(corner)
            .map(|(row, column)| {
                at(row, column).max(at(row + 2, column)).max(at(row, column + 2)).max(at(row + 2, column + 2))
            })
            .collect();
        let what = format!("padded by {pad}, strided by {stride}");
        assert_close(&what, &evaluate("MaxPool", attributes, &[1, 1, 5, 5], &x), &expected);
    }
}
