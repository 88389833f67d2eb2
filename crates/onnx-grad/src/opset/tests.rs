use super::*;
use crate::{Attributes, ElementType, Tensor, ValueType};

/// `op` of opset `version` on an input `x` of `shape` and a list `s` of two ones, as text: one node per element,
/// with constants by their values.
fn upgraded(version: i64, op: &str, inputs: &[&str], outputs: &[&str], attributes: Attributes) -> Vec<String> {
    let mut graph = Graph::new();
    graph.add_input("x", ValueType::new(ElementType::F32, [2, 4, 3, 1])).unwrap();
    graph.add_initializer("s", Tensor::floats(ElementType::F32, [4], &[1.0, 1.0, 2.0, 2.0])).unwrap();
    graph.add_initializer("empty", Tensor::floats(ElementType::F32, [0], &[])).unwrap();
    graph.add_initializer("yes", Tensor::scalar(ElementType::Bool, 1.0)).unwrap();
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let node =
        Node { name: "n".to_owned(), op: op.to_owned(), inputs: names(inputs), outputs: names(outputs), attributes };
    let nodes = match upgrade(&mut graph, node, version) {
        Ok(nodes) => nodes,
        Err(error) => return vec![error.to_string()],
    };
    let text = |node: &Node, graph: &Graph| {
        let value = |name: &String| match graph.initializer(name) {
            Some(tensor) if name.starts_with("const") => format!("{:?}", tensor.to_f64()),
            _ => name.split('.').next().unwrap_or_default().to_owned(),
        };
        let inputs: Vec<String> = node.inputs.iter().map(value).collect();
        let attributes: Vec<String> =
            node.attributes.iter().map(|(name, value)| format!(" {name}={value:?}")).collect();
        format!("{}({}){}", node.op, inputs.join(", "), attributes.concat())
    };
    let texts = nodes.iter().map(|node| text(node, &graph)).collect();
    for node in nodes {
        graph.push(node).unwrap();
    }
    texts
}

#[test]
fn nodes_of_every_opset_become_those_of_opset_18() {
    let none = Attributes::new;
    let ints = |name: &str, values: &[i64]| Attributes::new().with(name, values);
    struct Case(i64, &'static str, &'static [&'static str], Attributes, &'static [&'static str]);
    let cases = [
        Case(7, "Clip", &["x"], none().with("min", 0f32).with("max", 6f32), &["Clip(x, [0.0], [6.0])"]),
        Case(10, "Clip", &["x"], none().with("max", 6f32), &["Clip(x, , [6.0])"]),
        Case(11, "Clip", &["x"], none(), &["Clip(x)"]),
        Case(
            10,
            "Pad",
            &["x"],
            ints("pads", &[0, 0, 1, 1, 0, 0, 1, 1]).with("value", 2f32),
            &["Pad(x, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0], [2.0])"],
        ),
        Case(9, "Slice", &["x"], ints("starts", &[1]).with("ends", &[3][..]), &["Slice(x, [1.0], [3.0])"]),
        Case(
            9,
            "Slice",
            &["x"],
            ints("starts", &[1]).with("ends", &[3][..]).with("axes", &[1][..]),
            &["Slice(x, [1.0], [3.0], [1.0])"],
        ),
        Case(12, "Squeeze", &["x"], ints("axes", &[3]), &["Squeeze(x, [3.0])"]),
        Case(12, "Squeeze", &["x"], none(), &["Squeeze(x)"]),
        Case(11, "Unsqueeze", &["x"], ints("axes", &[0]), &["Unsqueeze(x, [0.0])"]),
        Case(11, "ReduceSum", &["x"], ints("axes", &[1]), &["ReduceSum(x, [1.0])"]),
        Case(
            17,
            "ReduceMean",
            &["x"],
            ints("axes", &[2, 3]).with("keepdims", 0),
            &["ReduceMean(x, [2.0, 3.0]) keepdims=Int(0)"],
        ),
        Case(12, "Split", &["x"], ints("split", &[4]).with("axis", 1), &["Split(x, [4.0]) axis=Int(1)"]),
        Case(13, "Split", &["x"], none(), &["Split(x) num_outputs=Int(1)"]),
        Case(12, "Softmax", &["x"], none().with("axis", 2), &["Softmax(x) axis=Int(2)"]),
        Case(12, "LogSoftmax", &["x"], none().with("axis", -1), &["LogSoftmax(x) axis=Int(3)"]),
        Case(
            12,
            "Softmax",
            &["x"],
            none(),
            &["Flatten(x) axis=Int(1)", "Softmax(Flatten) axis=Int(1)", "Reshape(Softmax, [2.0, 4.0, 3.0, 1.0])"],
        ),
        Case(13, "Softmax", &["x"], none(), &["Softmax(x)"]),
        Case(
            9,
            "Upsample",
            &["x", "s"],
            none().with("mode", "nearest"),
            &["Resize(x, , s) coordinate_transformation_mode=String(\"asymmetric\") mode=String(\"nearest\") \
               nearest_mode=String(\"floor\")"],
        ),
        Case(
            10,
            "Resize",
            &["x", "s"],
            none(),
            &["Resize(x, , s) coordinate_transformation_mode=String(\"asymmetric\") nearest_mode=String(\"floor\")"],
        ),
        Case(11, "Resize", &["x", "empty", "s"], none(), &["Resize(x, , s)"]),
        Case(
            8,
            "BatchNormalization",
            &["x", "s", "s", "s", "s"],
            none().with("spatial", 1),
            &["BatchNormalization(x, s, s, s, s)"],
        ),
        Case(7, "Dropout", &["x"], none().with("ratio", 0.5f32), &["Identity(x)"]),
        Case(13, "Cast", &["x"], none().with("to", 10), &["Cast(x) to=Int(1)"]),
        Case(19, "Cast", &["x"], none().with("to", 2).with("saturate", 1), &["Cast(x) to=Int(7)"]),
        Case(24, "Swish", &["x"], none(), &["Sigmoid(x)", "Mul(x, Sigmoid)"]),
        Case(
            20,
            "Gelu",
            &["x"],
            none(),
            &["Mul(x, [0.7071067690849304])", "Erf(Mul)", "Add(Erf, [1.0])", "Mul(x, [0.5])", "Mul(Mul, Add)"],
        ),
        Case(
            21,
            "GroupNormalization",
            &["x", "s", "s"],
            none().with("num_groups", 2),
            &[
                "Reshape(x, [2.0, 2.0, -1.0])",
                "InstanceNormalization(Reshape, [1.0, 1.0], [0.0, 0.0]) epsilon=Float(1e-5)",
                "Reshape(InstanceNormalization, [2.0, 4.0, 3.0, 1.0])",
                "Reshape(s, [4.0, 1.0, 1.0])",
                "Reshape(s, [4.0, 1.0, 1.0])",
                "Mul(Reshape, Reshape)",
                "Add(Mul, Reshape)",
            ],
        ),
        Case(
            18,
            "GroupNormalization",
            &["x", "s", "s"],
            none().with("num_groups", 4),
            &[
                "Reshape(x, [2.0, 4.0, -1.0])",
                "InstanceNormalization(Reshape, s, s) epsilon=Float(1e-5)",
                "Reshape(InstanceNormalization, [2.0, 4.0, 3.0, 1.0])",
            ],
        ),
    ];
    for Case(version, op, inputs, attributes, expected) in cases {
        assert_eq!(upgraded(version, op, inputs, &["y"], attributes), expected, "{op} at opset {version}");
    }
}

#[test]
fn training_is_refused() {
    let none = Attributes::new;
    let expected = "is in training mode; export the model in evaluation mode, after model.eval() in PyTorch";
    for error in [
        upgraded(9, "BatchNormalization", &["x", "s", "s", "s", "s"], &["y", "mean", "var"], none()),
        upgraded(15, "BatchNormalization", &["x", "s", "s", "s", "s"], &["y"], none().with("training_mode", 1)),
        upgraded(13, "Dropout", &["x", "", "yes"], &["y"], none()),
    ] {
        assert!(error[0].ends_with(expected), "{error:?}");
    }
}
