use super::*;
use crate::{Attribute, Attributes, ElementType, Tensor, ValueType};

/// A graph from input `x` of `shape` to `y`, with float32 constants.
fn graph(shape: &[usize], constants: &[(&str, &[usize], &[f64])], nodes: Vec<Node>) -> Graph {
    let mut graph = Graph::new();
    graph.add_input("x", ValueType::new(ElementType::F32, shape)).unwrap();
    for (name, shape, values) in constants {
        graph.add_initializer(name, Tensor::floats(ElementType::F32, *shape, values)).unwrap();
    }
    nodes.into_iter().for_each(|node| graph.push(node).unwrap());
    if graph.contains("y") {
        graph.add_output("y").unwrap();
    }
    graph
}

fn ops(graph: &Graph) -> Vec<&str> {
    graph.nodes().iter().map(|node| node.op.as_str()).collect()
}

fn constant(graph: &Graph, name: &str) -> Vec<f64> {
    graph.initializer(name).unwrap().to_f64()
}

#[test]
fn nodes_that_do_nothing_go() {
    let zero: (&str, &[usize], &[f64]) = ("zero", &[1, 1], &[0.0]);
    let ints = |values: &[i64]| Attributes::new().with("perm", values);
    let cases = vec![
        Node::new("Identity", &["a"], "b", ()),
        Node::new("Dropout", &["a"], "b", ()),
        Node::new("Cast", &["a"], "b", [("to", 1)]),
        Node::new("Transpose", &["a"], "b", ints(&[0, 1])),
        Node::new("Flatten", &["a"], "b", ()),
        Node::new("Add", &["a", "zero"], "b", ()),
        Node::new("Concat", &["a"], "b", [("axis", 1)]),
        Node::new("Clip", &["a"], "b", ()),
        Node::new("Slice", &["a", "start", "end", "axis"], "b", ()),
        Node::new("Pad", &["a", "pads"], "b", ()),
    ];
    for case in cases {
        let mut graph = graph(&[2, 3], &[zero], vec![]);
        graph.add_initializer("start", Tensor::ints(&[0])).unwrap();
        graph.add_initializer("end", Tensor::ints(&[i64::MAX])).unwrap();
        graph.add_initializer("axis", Tensor::ints(&[1])).unwrap();
        graph.add_initializer("pads", Tensor::ints(&[0; 4])).unwrap();
        for node in [Node::new("Relu", &["x"], "a", ()), case.clone(), Node::new("Exp", &["b"], "y", ())] {
            graph.push(node).unwrap();
        }
        graph.set_outputs(&["y"]).unwrap();
        let simple = simplify(graph).unwrap();
        assert_eq!(ops(&simple), ["Relu", "Exp"], "{}", case.op);
        assert_eq!(simple.nodes()[1].inputs, ["a"]);
        assert!(simple.initializers().is_empty());
    }
}

#[test]
fn nodes_that_do_something_stay() {
    for (shape, kept) in [
        (&[2, 2][..], Node::new("Transpose", &["x"], "y", ())),
        (&[2, 2], Node::new("Cast", &["x"], "y", [("to", 11)])),
        (&[2, 2], Node::new("Add", &["x", "x"], "y", ())),
        (&[2, 1], Node::new("Add", &["x", "wide"], "y", ())),
        (&[2, 2], Node::new("Softmax", &["x"], "y", ())),
    ] {
        let simple = simplify(graph(shape, &[("wide", &[1, 2], &[0.0, 0.0])], vec![kept.clone()])).unwrap();
        assert_eq!(simple.nodes(), [kept]);
    }
    let mut reversed = graph(&[2], &[], vec![]);
    for name in ["last", "before", "step"] {
        let value = if name == "before" { i64::MIN } else { -1 };
        reversed.add_initializer(name, Tensor::ints(&[value])).unwrap();
    }
    reversed.push(Node::new("Slice", &["x", "last", "before", "", "step"], "y", ())).unwrap();
    reversed.set_outputs(&["y"]).unwrap();
    assert_eq!(ops(&simplify(reversed).unwrap()), ["Slice"]);
}

#[test]
fn outputs_keep_their_names() {
    // The name of the output passes to the node before, and to those that read it.
    let nodes = vec![
        Node::new("Relu", &["x"], "a", ()),
        Node::new("Identity", &["a"], "b", ()),
        Node::new("Exp", &["b"], "c", ()),
        Node::new("Identity", &["b"], "y", ()),
        Node::new("Neg", &["a"], "d", ()),
    ];
    let mut chain = graph(&[2], &[], nodes);
    chain.set_outputs(&["y", "c", "d"]).unwrap();
    let simple = simplify(chain).unwrap();
    assert_eq!(ops(&simple), ["Relu", "Exp", "Neg"]);
    assert_eq!(simple.outputs(), ["y", "c", "d"]);
    assert_eq!(simple.nodes()[0].outputs, ["y"]);
    assert_eq!(simple.nodes()[1].inputs, ["y"]);
    assert_eq!(simple.nodes()[2].inputs, ["y"]);

    // One value under two output names, and an input as an output: these Identities stay.
    let nodes = vec![
        Node::new("Relu", &["x"], "a", ()),
        Node::new("Identity", &["a"], "y", ()),
        Node::new("Identity", &["a"], "z", ()),
        Node::new("Identity", &["x"], "same", ()),
    ];
    let mut twice = graph(&[2], &[], nodes);
    twice.set_outputs(&["y", "z", "same"]).unwrap();
    let simple = simplify(twice).unwrap();
    assert_eq!(ops(&simple), ["Relu", "Identity", "Identity"]);
    assert_eq!(simple.nodes()[1], Node::new("Identity", &["y"], "z", ()));
    assert_eq!(simple.nodes()[2], Node::new("Identity", &["x"], "same", ()));
}

#[test]
fn constants_are_computed_even_if_they_are_outputs() {
    let nodes = vec![
        Node::new("Shape", &["x"], "shape", ()),
        Node::new("Cast", &["shape"], "extents", [("to", 1)]),
        Node::new("Mul", &["extents", "two"], "y", ()),
    ];
    let simple = simplify(graph(&[2, 3], &[("two", &[], &[2.0])], nodes)).unwrap();
    assert!(simple.nodes().is_empty());
    assert_eq!(simple.outputs(), ["y"]);
    assert_eq!(constant(&simple, "y"), [4.0, 6.0]);
}

const NORM: [(&str, &[usize], &[f64]); 4] = [
    ("gamma", &[2], &[2.0, 3.0]),
    ("beta", &[2], &[1.0, -1.0]),
    ("mean", &[2], &[4.0, 5.0]),
    ("variance", &[2], &[4.0, 9.0]),
];

/// With the constants of `NORM`: `x - 3` on the first channel and `x - 6` on the second one.
fn batch_norm(input: &str, output: &str) -> Node {
    Node::new("BatchNormalization", &[input, "gamma", "beta", "mean", "variance"], output, [("epsilon", 0.0)])
}

#[test]
fn channel_arithmetic_becomes_part_of_weights_and_bias() {
    struct Case {
        shape: &'static [usize],
        linear: Node,
        weights: (&'static [usize], &'static [f64]),
        folded: &'static [f64],
        op: &'static str,
    }
    let gemm = |attributes: Attributes| Node::new("Gemm", &["x", "w", "b"], "a", attributes);
    // After `linear` comes: batch norm (scale 1, shift [-3, -6]), times [10, 100], plus 1.
    let cases = [
        Case {
            shape: &[1, 2, 1],
            linear: Node::new("Conv", &["x", "w", "b"], "a", ()),
            weights: (&[2, 2, 1], &[1.0, 2.0, 3.0, 4.0]),
            folded: &[10.0, 20.0, 300.0, 400.0],
            op: "Conv",
        },
        Case {
            shape: &[1, 2, 1],
            linear: Node::new("ConvTranspose", &["x", "w", "b"], "a", ()),
            weights: (&[2, 2, 1], &[1.0, 2.0, 3.0, 4.0]),
            folded: &[10.0, 200.0, 30.0, 400.0],
            op: "ConvTranspose",
        },
        Case {
            shape: &[1, 4, 1],
            linear: Node::new("ConvTranspose", &["x", "w", "b"], "a", [("group", 2)]),
            weights: (&[4, 1, 1], &[1.0, 2.0, 3.0, 4.0]),
            folded: &[10.0, 20.0, 300.0, 400.0],
            op: "ConvTranspose",
        },
        Case {
            shape: &[1, 2],
            linear: gemm(Attributes::new().with("alpha", 0.5f32)),
            weights: (&[2, 2], &[1.0, 2.0, 3.0, 4.0]),
            folded: &[10.0, 200.0, 30.0, 400.0],
            op: "Gemm",
        },
        Case {
            shape: &[1, 2],
            linear: gemm(Attributes::from([("transB", 1)])),
            weights: (&[2, 2], &[1.0, 2.0, 3.0, 4.0]),
            folded: &[10.0, 20.0, 300.0, 400.0],
            op: "Gemm",
        },
    ];
    for Case { shape, linear, weights, folded, op } in cases {
        let per_channel: &[usize] = if shape.len() == 3 { &[2, 1] } else { &[2] };
        let mut constants = NORM.to_vec();
        constants.extend([
            ("w", weights.0, weights.1),
            ("b", &[2][..], &[0.5, 0.25][..]),
            ("factor", per_channel, &[10.0, 100.0]),
            ("one", &[], &[1.0]),
        ]);
        let label = linear.op.clone();
        let nodes = vec![
            linear,
            batch_norm("a", "normal"),
            Node::new("Mul", &["factor", "normal"], "product", ()),
            Node::new("Add", &["product", "one"], "y", ()),
        ];
        let simple = simplify(graph(shape, &constants, nodes)).unwrap();
        assert_eq!(ops(&simple), [op], "{label}");
        let inputs = &simple.nodes()[0].inputs;
        assert_eq!(constant(&simple, &inputs[1]), folded, "{label}");
        assert_eq!(constant(&simple, &inputs[2]), [-24.0, -574.0], "{label}");
        assert_eq!(simple.initializers().len(), 2);
    }
}

#[test]
fn gemm_folds_its_beta_into_the_bias() {
    let attributes = Attributes::new().with("beta", 2.0f32);
    let nodes = vec![Node::new("Gemm", &["x", "w", "b"], "a", attributes), batch_norm("a", "y")];
    let mut constants = NORM.to_vec();
    constants.extend([("w", &[1, 2][..], &[1.0, 1.0][..]), ("b", &[1], &[7.0])]);
    let simple = simplify(graph(&[3, 1], &constants, nodes)).unwrap();
    let gemm = &simple.nodes()[0];
    assert_eq!(gemm.attributes.get("beta"), Some(&Attribute::Float(1.0)));
    assert_eq!(constant(&simple, &gemm.inputs[2]), [11.0, 8.0]);
}

#[test]
fn a_matrix_product_becomes_gemm_when_it_gets_a_bias() {
    let weights: (&str, &[usize], &[f64]) = ("w", &[1, 2], &[1.0, 2.0]);
    let offset: (&str, &[usize], &[f64]) = ("c", &[2], &[3.0, 4.0]);
    let nodes = |op: &str| vec![Node::new("MatMul", &["x", "w"], "a", ()), Node::new(op, &["a", "c"], "y", ())];
    for (shape, op, expected) in [
        (&[3, 1][..], "Sub", vec!["Gemm"]),
        (&[3, 1], "Div", vec!["MatMul"]),
        (&[5, 3, 1], "Mul", vec!["MatMul"]),
        (&[5, 3, 1], "Add", vec!["MatMul", "Add"]),
    ] {
        let simple = simplify(graph(shape, &[weights, offset], nodes(op))).unwrap();
        assert_eq!(ops(&simple), expected, "{op} {shape:?}");
    }
}

#[test]
fn what_others_read_is_not_folded_away() {
    let mut constants = NORM.to_vec();
    constants.push(("w", &[2, 2, 1], &[1.0, 2.0, 3.0, 4.0]));
    let conv = || Node::new("Conv", &["x", "w"], "a", ());

    let read_twice = vec![conv(), batch_norm("a", "n"), Node::new("Add", &["a", "n"], "y", ())];
    let simple = simplify(graph(&[1, 2, 1], &constants, read_twice)).unwrap();
    assert_eq!(ops(&simple), ["Conv", "Mul", "Add", "Add"]);

    let mut is_output = graph(&[1, 2, 1], &constants, vec![conv(), batch_norm("a", "y")]);
    is_output.set_outputs(&["a", "y"]).unwrap();
    assert_eq!(ops(&simplify(is_output).unwrap()), ["Conv", "Mul", "Add"]);

    // Weights that two convolutions share are scaled for one of them only.
    let shared = vec![conv(), batch_norm("a", "b"), Node::new("Conv", &["b", "w"], "y", ())];
    let simple = simplify(graph(&[1, 2, 1], &constants, shared)).unwrap();
    assert_eq!(ops(&simple), ["Conv", "Conv"]);
    assert_eq!(simple.nodes()[1].inputs[1], "w");
    assert_eq!(constant(&simple, "w"), [1.0, 2.0, 3.0, 4.0]);

    // Along another axis than the channels.
    let mut constants = constants.clone();
    constants.push(("row", &[3], &[1.0, 2.0, 3.0]));
    let across = vec![conv(), Node::new("Add", &["a", "row"], "y", ())];
    assert_eq!(ops(&simplify(graph(&[1, 2, 3], &constants, across)).unwrap()), ["Conv", "Add"]);
}

#[test]
fn batch_norm_by_itself_becomes_a_product_and_a_sum() {
    let simple = simplify(graph(&[4, 2, 3, 3], &NORM, vec![batch_norm("x", "y")])).unwrap();
    assert_eq!(ops(&simple), ["Mul", "Add"]);
    let [mul, add] = simple.nodes() else { panic!() };
    assert_eq!(simple.shape(&mul.inputs[1]).unwrap(), [2, 1, 1]);
    assert_eq!(constant(&simple, &mul.inputs[1]), [1.0, 1.0]);
    assert_eq!(constant(&simple, &add.inputs[1]), [-3.0, -6.0]);
    assert_eq!(add.outputs, ["y"]);
}

#[test]
fn fresh_names_do_not_collide_with_those_of_the_model() {
    let mut constants = NORM.to_vec();
    constants.push(("w", &[2, 2, 1], &[1.0, 2.0, 3.0, 4.0]));
    let nodes = vec![
        Node::new("Conv", &["x", "w"], "a", ()),
        batch_norm("a", "const.2"),
        Node::new("Relu", &["const.2"], "const.1", ()),
        batch_norm("const.1", "scaled.3"),
        Node::new("Relu", &["scaled.3"], "y", ()),
    ];
    let simple = simplify(graph(&[1, 2, 1], &constants, nodes)).unwrap();
    assert_eq!(ops(&simple), ["Conv", "Relu", "Mul", "Add", "Relu"]);
}

#[test]
fn automatic_padding_is_spelled_out() {
    let kernel: (&str, &[usize], &[f64]) = ("w", &[1, 1, 3], &[1.0, 2.0, 3.0]);
    let attributes = |auto_pad: &str| Attributes::new().with("auto_pad", auto_pad).with("strides", &[2i64][..]);
    let pool = attributes("VALID").with("kernel_shape", &[3i64][..]).with("ceil_mode", 1);
    let cases = [
        (Node::new("Conv", &["x", "w"], "y", attributes("SAME_UPPER")), [0, 1], None),
        (Node::new("Conv", &["x", "w"], "y", attributes("SAME_LOWER")), [1, 0], None),
        (Node::new("MaxPool", &["x"], "y", pool), [0, 0], None),
        (Node::new("ConvTranspose", &["x", "w"], "y", attributes("SAME_UPPER")), [0, 1], Some([0])),
        (
            Node::new("ConvTranspose", &["x", "w"], "y", attributes("NOTSET").with("output_shape", &[14i64][..])),
            [2, 1],
            Some([0]),
        ),
    ];
    for (windowed, pads, output_padding) in cases {
        let before = graph(&[1, 1, 8], &[kernel], vec![windowed.clone()]);
        let after = simplify(before.clone()).unwrap();
        let resolved = &after.nodes()[0];
        assert_eq!(resolved.ints("pads"), Some(&pads[..]), "{windowed:?}");
        assert_eq!(resolved.ints("output_padding"), output_padding.as_ref().map(|padding| &padding[..]));
        for gone in ["auto_pad", "ceil_mode", "output_shape"] {
            assert_eq!(resolved.attributes.get(gone), None, "{windowed:?}");
        }
        assert_eq!(after.shape("y"), before.shape("y"));
    }
}

#[test]
fn relu_follows_the_pooling_that_alone_reads_it() {
    let pool = |pads: &[i64]| {
        Attributes::new().with("kernel_shape", &[2i64, 2][..]).with("strides", &[2i64, 2][..]).with("pads", pads)
    };
    let cases: [(Vec<Node>, &[&str]); 4] = [
        (
            vec![Node::new("Relu", &["x"], "a", ()), Node::new("MaxPool", &["a"], "y", pool(&[0; 4]))],
            &["MaxPool", "Relu"],
        ),
        (
            vec![Node::new("Relu", &["x"], "a", ()), Node::new("MaxPool", &["a"], "y", pool(&[1, 1, 1, 1]))],
            &["MaxPool", "Relu"],
        ),
        (
            vec![
                Node::new("Relu", &["x"], "a", ()),
                Node::new("MaxPool", &["a"], "b", pool(&[0; 4])),
                Node::new("ReduceMax", &["a"], "c", ()),
                Node::new("Add", &["b", "c"], "y", ()),
            ],
            &["Relu", "MaxPool", "ReduceMax", "Add"],
        ),
        (
            vec![Node::new("Exp", &["x"], "a", ()), Node::new("MaxPool", &["a"], "y", pool(&[0; 4]))],
            &["Exp", "MaxPool"],
        ),
    ];
    for (nodes, expected) in cases {
        let simple = simplify(graph(&[1, 2, 4, 4], &[], nodes)).unwrap();
        assert_eq!(ops(&simple), expected);
        assert_eq!(simple.outputs(), ["y"]);
    }
}
