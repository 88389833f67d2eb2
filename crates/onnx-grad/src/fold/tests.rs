use super::*;
use crate::{Attributes, ElementType};

fn folded(op: &str, inputs: &[Tensor], attributes: impl Into<Attributes>) -> Result<Option<Vec<Tensor>>> {
    let mut graph = Graph::new();
    let names: Vec<String> = inputs.iter().map(|tensor| graph.constant(tensor.clone())).collect();
    let (outputs, attributes) = (vec!["out".to_owned()], attributes.into());
    fold(&graph, &Node { name: "n".to_owned(), op: op.to_owned(), inputs: names, outputs, attributes })
}

fn f(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::floats(ElementType::F32, shape, values)
}

fn i(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::ints(values).reshaped(shape)
}

fn b(values: &[bool]) -> Tensor {
    Tensor::new([values.len()], TensorData::Bool(values.to_vec()))
}

fn v(values: &[i64]) -> Tensor {
    Tensor::ints(values)
}

#[test]
fn constants_fold_to_what_engines_compute() {
    let none = Attributes::new;
    let with = |name: &str, value: i64| Attributes::new().with(name, value);
    let grid = || i(&[2, 3], &[1, 2, 3, 4, 5, 6]);
    let cases: Vec<(&str, Vec<Tensor>, Attributes, Tensor)> = vec![
        ("Add", vec![i(&[2, 1], &[10, 20]), v(&[1, 2])], none(), i(&[2, 2], &[11, 12, 21, 22])),
        ("Sub", vec![f(&[], &[0.3]), f(&[1], &[0.1])], none(), Tensor::new([1], TensorData::F32(vec![0.3 - 0.1]))),
        ("Mul", vec![v(&[i64::MAX]), v(&[2])], none(), v(&[-2])),
        ("Div", vec![v(&[-7, 7, i64::MIN]), v(&[2, -2, -1])], none(), v(&[-3, -3, i64::MIN])),
        ("Mod", vec![v(&[-7, 7, -6, i64::MIN]), v(&[3, -3, 3, -1])], none(), v(&[2, -2, 0, 0])),
        ("Mod", vec![v(&[-7]), v(&[3])], with("fmod", 1), v(&[-1])),
        ("Mod", vec![f(&[1], &[-7.5]), f(&[1], &[2.0])], with("fmod", 1), f(&[1], &[-1.5])),
        ("Pow", vec![f(&[2], &[3.0, 4.0]), i(&[], &[2])], none(), f(&[2], &[9.0, 16.0])),
        ("Pow", vec![v(&[3, 2]), f(&[2], &[2.0, -1.0])], none(), v(&[9, 0])),
        ("Max", vec![v(&[1, 5]), v(&[3, 2]), v(&[2])], none(), v(&[3, 5])),
        ("Neg", vec![f(&[2], &[0.0, 1.0])], none(), f(&[2], &[-0.0, -1.0])),
        ("Abs", vec![v(&[i64::MIN, -2])], none(), v(&[i64::MIN, 2])),
        ("Sign", vec![f(&[3], &[-3.0, 0.0, 9.0])], none(), f(&[3], &[-1.0, 0.0, 1.0])),
        ("Round", vec![f(&[3], &[0.5, 1.5, -2.5])], none(), f(&[3], &[0.0, 2.0, -2.0])),
        ("Clip", vec![v(&[1, 5, 9]), i(&[], &[6]), i(&[], &[4])], none(), v(&[4, 4, 4])),
        ("Less", vec![v(&[1, 2, 3]), i(&[], &[2])], none(), b(&[true, false, false])),
        ("Equal", vec![b(&[true, false]), b(&[true, true])], none(), b(&[true, false])),
        ("Xor", vec![b(&[true, false]), b(&[true, true])], none(), b(&[false, true])),
        ("Not", vec![b(&[true, false])], none(), b(&[false, true])),
        ("Where", vec![b(&[true, false]), v(&[1]), i(&[2, 1], &[5, 6])], none(), i(&[2, 2], &[1, 5, 1, 6])),
        ("Cast", vec![f(&[3], &[-1.9, 1e30, f64::NAN])], with("to", 7), v(&[-1, i64::MAX, 0])),
        ("Cast", vec![v(&[0, -3])], with("to", 9), b(&[false, true])),
        ("Cast", vec![v(&[(1 << 24) + 1])], with("to", 1), f(&[1], &[16777216.0])),
        ("Transpose", vec![grid()], none(), i(&[3, 2], &[1, 4, 2, 5, 3, 6])),
        ("Expand", vec![i(&[2, 1], &[1, 2]), v(&[2, 1, 2])], none(), i(&[2, 2, 2], &[1, 1, 2, 2, 1, 1, 2, 2])),
        ("Tile", vec![i(&[1, 2], &[1, 2]), v(&[2, 2])], none(), i(&[2, 4], &[1, 2, 1, 2, 1, 2, 1, 2])),
        ("Slice", vec![grid(), v(&[-1]), v(&[i64::MIN]), v(&[1]), v(&[-2])], none(), i(&[2, 2], &[3, 1, 6, 4])),
        ("Slice", vec![v(&[1, 2]), v(&[2]), v(&[9])], none(), v(&[])),
        ("Concat", vec![grid(), i(&[2, 1], &[7, 8])], with("axis", 1), i(&[2, 4], &[1, 2, 3, 7, 4, 5, 6, 8])),
        ("Concat", vec![v(&[]), v(&[1])], with("axis", 0), v(&[1])),
        ("Concat", vec![i(&[0, 2], &[]), i(&[0, 1], &[])], with("axis", 1), i(&[0, 3], &[])),
        ("Gather", vec![grid(), i(&[2], &[-1, 0])], with("axis", 1), i(&[2, 2], &[3, 1, 6, 4])),
        ("Gather", vec![v(&[4, 5]), i(&[], &[1])], none(), i(&[], &[5])),
        ("Trilu", vec![grid(), i(&[], &[1])], none(), i(&[2, 3], &[0, 2, 3, 0, 0, 6])),
        ("Trilu", vec![grid()], with("upper", 0), i(&[2, 3], &[1, 0, 0, 4, 5, 0])),
        ("ConstantOfShape", vec![v(&[2])], Attributes::new().with("value", v(&[7])), v(&[7, 7])),
        ("ConstantOfShape", vec![v(&[])], none(), f(&[], &[0.0])),
        ("Range", vec![i(&[], &[10]), i(&[], &[-3]), i(&[], &[-4])], none(), v(&[10, 6, 2, -2])),
        ("ReduceSum", vec![grid(), v(&[0])], with("keepdims", 0), v(&[5, 7, 9])),
        ("ReduceProd", vec![grid()], none(), i(&[1, 1], &[720])),
        ("ReduceMax", vec![i(&[1, 2], &[-4, -2]), v(&[-1])], none(), i(&[1, 1], &[-2])),
        ("ReduceMean", vec![f(&[2], &[1.0, 2.0])], with("keepdims", 0), f(&[], &[1.5])),
        ("CumSum", vec![v(&[1, 2, 3]), i(&[], &[0])], with("exclusive", 1).with("reverse", 1), v(&[5, 3, 0])),
        ("CumSum", vec![grid(), i(&[], &[0])], none(), i(&[2, 3], &[1, 2, 3, 5, 7, 9])),
        ("Flatten", vec![i(&[1, 2, 2], &[1, 2, 3, 4])], with("axis", 2), i(&[2, 2], &[1, 2, 3, 4])),
    ];
    for (op, inputs, attributes, expected) in cases {
        let outputs = folded(op, &inputs, attributes.clone()).unwrap().unwrap();
        assert_eq!(outputs[0], expected, "{op} {inputs:?} {attributes:?}");
    }
}

#[test]
fn split_folds_to_all_its_parts() {
    let mut graph = Graph::new();
    let input = graph.constant(i(&[2, 3], &[1, 2, 3, 4, 5, 6]));
    let outputs = vec!["a".to_owned(), "b".to_owned()];
    let attributes = Attributes::from([("axis", 1), ("num_outputs", 2)]);
    let node = Node { name: String::new(), op: "Split".to_owned(), inputs: vec![input], outputs, attributes };
    let parts = fold(&graph, &node).unwrap().unwrap();
    assert_eq!(parts, [i(&[2, 2], &[1, 2, 4, 5]), i(&[2, 1], &[3, 6])]);
}

#[test]
fn shapes_fold_although_the_values_are_unknown() {
    let mut graph = Graph::new();
    graph.add_input("x", ValueType::new(ElementType::F32, [2, 3, 4])).unwrap();
    let node = |op: &str, attributes: Attributes| Node {
        name: String::new(),
        op: op.to_owned(),
        inputs: vec!["x".to_owned()],
        outputs: vec!["out".to_owned()],
        attributes,
    };
    let one = |node: &Node| fold(&graph, node).unwrap().unwrap().remove(0);
    assert_eq!(one(&node("Shape", Attributes::new())), v(&[2, 3, 4]));
    assert_eq!(one(&node("Shape", Attributes::from([("start", -2), ("end", -1)]))), v(&[3]));
    assert_eq!(one(&node("Shape", Attributes::from([("start", i64::MIN)]))), v(&[2, 3, 4]));
    assert_eq!(one(&node("Size", Attributes::new())), i(&[], &[24]));
    assert_eq!(fold(&graph, &node("Relu", Attributes::new())), Ok(None));
}

#[test]
fn what_cannot_be_computed_is_an_error() {
    for (op, inputs, expected) in [
        ("Div", vec![v(&[1]), v(&[0])], "divides an integer by zero"),
        ("Mod", vec![v(&[1]), v(&[0])], "divides an integer by zero"),
        ("Gather", vec![v(&[1, 2]), v(&[2])], "has index 2 into axis 0 of 2 elements"),
        ("Gather", vec![v(&[]), v(&[0])], "has index 0 into axis 0 of 0 elements"),
    ] {
        let error = folded(op, &inputs, ()).unwrap_err();
        assert_eq!(error.to_string(), format!("node `n` ({op}): {expected}"));
    }
}

#[test]
fn a_few_bytes_do_not_become_gigabytes() {
    assert_eq!(folded("ConstantOfShape", &[v(&[1 << 30])], ()), Ok(None));
    let wide = Tensor::ints(&[0; 1 << 16]);
    assert_eq!(folded("Tile", &[wide.clone(), v(&[100])], ()), Ok(None));
    assert!(folded("Neg", &[Tensor::ints(&[0; 1 << 17])], ()).unwrap().is_some());
}
