//! Models that are damaged, malformed or made to do harm: each is refused in one sentence, within bounds of time and memory.
#![cfg(unix)]

mod bounds;
mod onnx;

use std::path::Path;

use bounds::{root, scan_complains};
use onnx::{FLOAT, Message, Model, OPEN, external, floats, function, node, tensor, value};

/// As many as the samples have.
const CLASSES: i64 = 10;

/// A model file, and words that the message about it has.
struct Case {
    name: &'static str,
    model: Vec<u8>,
    words: &'static str,
}

fn case(name: &'static str, model: impl Into<Vec<u8>>, words: &'static str) -> Case {
    Case { name, model: model.into(), words }
}

impl From<Model> for Vec<u8> {
    fn from(model: Model) -> Self {
        model.bytes()
    }
}

/// Scans each model and reports all that did not end as they should.
fn check(cases: Vec<Case>) {
    let data = root().join("fixtures/fashion-mnist-400.npz").canonicalize().unwrap();
    let mut failures = Vec::new();
    for Case { name, model, words } in cases {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.onnx"), model).unwrap();
        if let Err(failure) = scan_complains(folder.path(), "model.onnx", data.to_str().unwrap(), &["--force"], words) {
            failures.push(format!("{name}: {failure}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn fixture() -> Vec<u8> {
    std::fs::read(root().join("fixtures/fmnist_clean.onnx")).unwrap()
}

/// The fixture with every `stride`-th byte changed.
fn damaged(stride: usize) -> Vec<u8> {
    let mut bytes = fixture();
    bytes.iter_mut().step_by(stride).for_each(|byte| *byte ^= 0x55);
    bytes
}

#[test]
fn files_that_are_no_model_are_refused() {
    let half = fixture().len() / 2;
    check(vec![
        case("empty", [], "it is empty"),
        case("zeros", vec![0; 1 << 20], "cannot be decoded"),
        case("text", *b"not a model", "cannot be decoded"),
        case("truncated", &fixture()[..half], "cannot be decoded"),
        case("every 7th byte changed", damaged(7), "model.onnx"),
        case("every 1001st byte changed", damaged(1001), "model.onnx"),
        case("no graph", Message::default().int(1, 8).0, "it has no graph"),
        case("a length beyond the end", [0x3a, 0xff, 0xff, 0xff, 0xff, 0x7f], "cannot be decoded"),
        case("graphs in graphs", nested(5000).0, "recursion limit"),
    ]);
}

/// Graphs, one within the other.
fn nested(depth: usize) -> Message {
    let graph = (0..depth).fold(Message::default(), |graph, _| {
        Message::default().message(1, &node("If", &["c"], &["y"]).with_graph("then_branch", &graph))
    });
    Message::default().int(1, 8).message(7, &graph)
}

#[test]
fn sizes_are_not_believed() {
    let weights = |dims: &[i64]| Model::with_weights(tensor("w", FLOAT, dims));
    let images = |dims: &[i64]| Model { inputs: vec![value("x", FLOAT, dims)], ..Model::linear(CLASSES) };
    let mut huge = Model::linear(CLASSES);
    huge.initializers.push(
        Message::default()
            .int(1, 3)
            .int(2, 7)
            .text(8, "shape")
            .bytes(9, &[1i64, 1 << 16, 1 << 15].iter().flat_map(|extent| extent.to_le_bytes()).collect::<Vec<_>>()),
    );
    huge.nodes = vec![
        node("ConstantOfShape", &["shape"], &["zeros"]),
        node("Flatten", &["x"], &["flat"]),
        node("MatMul", &["flat", "w"], &["logits"]),
        node("ReduceMax", &["zeros"], &["zero"]).with_int("keepdims", 0),
        node("Add", &["logits", "zero"], &["y"]),
    ];
    let mut grows = vec![node("Identity", &["y"], &["p0"])];
    for i in 0..40 {
        let (from, to) = (format!("p{i}"), format!("p{}", i + 1));
        grows.push(node("Concat", &[&from, &from], &[&to]).with_int("axis", 1));
    }
    grows.push(node("Identity", &["p40"], &["z"]));
    check(vec![
        case("2 GiB of zeros that are not there", weights(&[784, 1 << 20]), "value `w`"),
        case("more elements than can be counted", weights(&[i64::MAX, i64::MAX]), "value `w`: has the shape"),
        case("a negative extent", weights(&[784, -4]), "value `w`: has an extent of -4"),
        case("40 axes", weights(&[1; 40]), "value `w`: has the shape"),
        case("images of 2^40 pixels", images(&[OPEN, 1, 1 << 20, 1 << 20]), "x"),
        case("a batch of 2^40", images(&[1 << 40, 1, 28, 28]), "x"),
        case("8 GiB of zeros from a shape", huge, "zeros"),
        case("doubled forty times", Model::followed_by(CLASSES, grows), "Concat"),
    ]);
}

/// What differentiates a window of 70x70 is a matrix of 4900x4900.
#[test]
fn constants_that_the_derivative_needs_are_bounded() {
    let model = Model {
        nodes: vec![
            node("Resize", &["x", "", "scales"], &["large"]),
            node("MaxPool", &["large"], &["pooled"]).with_ints("kernel_shape", &[70, 70]).with_ints("strides", &[5, 5]),
            node("Flatten", &["pooled"], &["flat"]),
            node("Slice", &["flat", "zero", "ten", "one"], &["y"]),
        ],
        initializers: vec![
            floats("scales", &[4], &[1.0, 1.0, 10.0, 10.0]),
            ints("zero", &[0]),
            ints("ten", &[10]),
            ints("one", &[1]),
        ],
        ..Model::linear(CLASSES)
    };
    check(vec![case("a window of 4,900 elements", model, "24010000 elements to be differentiated")]);
}

/// Sixty channels of a thousand pixels squared are 8 GiB for 32 images, and fit into a file of a few kilobytes.
#[test]
fn a_graph_that_would_take_too_much_memory_is_refused_before_it_runs() {
    let weights: Vec<f32> = (0..60 * 9).map(|i| (i as f32).sin()).collect();
    let model = Model {
        nodes: vec![
            node("Resize", &["x", "", "scales"], &["large"]),
            node("Conv", &["large", "w"], &["many"]),
            node("ReduceMax", &["many", "axes"], &["pooled"]).with_int("keepdims", 0),
            node("Slice", &["pooled", "zero", "ten", "one"], &["y"]),
        ],
        initializers: vec![
            floats("w", &[60, 1, 3, 3], &weights),
            floats("scales", &[4], &[1.0, 1.0, 36.0, 36.0]),
            ints("axes", &[2, 3]),
            ints("zero", &[0]),
            ints("ten", &[10]),
            ints("one", &[1]),
        ],
        ..Model::linear(CLASSES)
    };
    check(vec![case("8 GiB for 32 images", model, "of memory, and no more than")]);
}

fn ints(name: &str, values: &[i64]) -> Message {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, 7, &[values.len() as i64]).bytes(9, &bytes)
}

#[test]
fn graphs_that_break_the_rules_are_refused() {
    let linear = || Model::linear(CLASSES);
    let circle = [node("Add", &["y", "b"], &["a"]), node("Relu", &["a"], &["b"]), node("Relu", &["b"], &["z"])];
    let with_nodes = |nodes: Vec<Message>| Model { nodes, ..linear() };
    let twice = linear().nodes.into_iter().chain([node("MatMul", &["flat", "w"], &["y"])]).collect();
    let calls = |name: &str, callee: &str| function(name, &[node(callee, &["a"], &["b"]).of_domain("own")]);
    let recursive = Model {
        functions: vec![calls("A", "B"), calls("B", "A")],
        ..Model::followed_by(CLASSES, [node("A", &["y"], &["z"]).of_domain("own")])
    };
    let doubling = |i: usize| {
        let callee = format!("F{}", i + 1);
        let call = |from: &str, to: &str| node(&callee, &[from], &[to]).of_domain("own");
        function(&format!("F{i}"), &[call("a", "t"), call("t", "b")])
    };
    let explosion = Model {
        functions: (0..40).map(doubling).chain([function("F40", &[node("Relu", &["a"], &["b"])])]).collect(),
        ..Model::followed_by(CLASSES, [node("F0", &["y"], &["z"]).of_domain("own")])
    };
    check(vec![
        case("a circle", Model::followed_by(CLASSES, circle), "in a circle of nodes"),
        case("functions that call each other", recursive, "is a function that calls itself"),
        case("functions that stand for 2^40 nodes", explosion, "too many calls"),
        case("a value that is defined twice", with_nodes(twice), "puts out `y`, which is already defined"),
        case(
            "two initializers of one name",
            Model { initializers: [linear().initializers, linear().initializers].concat(), ..linear() },
            "is defined by two initializers",
        ),
        case("a missing initializer", Model { initializers: vec![], ..linear() }, "reads `w`, which nothing defines"),
        case("a missing output", with_nodes(vec![]), "`y`: is an output of the graph, but nothing defines it"),
        case("no outputs", Model { outputs: vec![], ..linear() }, "the model's graph has no outputs"),
        case("no inputs", Model { inputs: vec![], ..linear() }, "reads `x`, which nothing defines"),
        case(
            "an unknown domain",
            Model::followed_by(CLASSES, [node("Relu", &["y"], &["z"]).of_domain("evil")]),
            "is an operator of the domain `evil`",
        ),
        case("an unknown operator", Model::followed_by(CLASSES, [node("Exfiltrate", &["y"], &["z"])]), "Exfiltrate"),
        case("an opset of the future", Model { opset: 999, ..linear() }, "opset 999"),
        case("string weights", Model::with_weights(tensor("w", 8, &[784, CLASSES])), "elements of type string"),
        case("an element type that does not exist", Model::with_weights(tensor("w", 77, &[784, CLASSES])), "number 77"),
        case("integer weights", Model::with_weights(int_weights()), "MatMul"),
        case("too little data", Model::with_weights(floats("w", &[784, CLASSES], &[0.0; 9])), "value `w`"),
        case(
            "control flow on the input",
            Model::followed_by(CLASSES, [node("If", &["y"], &["z"]).with_graph("then_branch", &Message::default())]),
            "is control flow",
        ),
    ]);
}

fn int_weights() -> Message {
    tensor("w", 7, &[784, CLASSES]).bytes(9, &[0; 8 * 784 * CLASSES as usize])
}

#[test]
fn too_many_nodes_are_refused_in_time() {
    let chain = |nodes: usize| {
        let sum = (1..nodes).map(|i| node("Add", &[&format!("n{}", i - 1), "y"], &[&format!("n{i}")]));
        let first = [node("Relu", &["y"], &["n0"])];
        Model::followed_by(
            CLASSES,
            first.into_iter().chain(sum).chain([node("Relu", &[&format!("n{}", nodes - 1)], &["z"])]),
        )
    };
    check(vec![
        case("a million nodes", chain(1_000_000), "1000003 nodes, and no more than 262144"),
        case("forty thousand nodes", chain(40_000), "40003 nodes, and no more than 32768"),
    ]);
}

/// Engines follow a chain by recursion.
#[test]
fn a_deep_graph_does_not_overflow_the_stack() {
    let chain = |length: usize| {
        let name = |i: usize| if i == length { "z".to_owned() } else { format!("n{i}") };
        let first = [node("Sin", &["y"], &[&name(1)])];
        let rest = (1..length).map(move |i| node("Sin", &[&name(i)], &[&name(i + 1)]));
        Model::followed_by(CLASSES, first.into_iter().chain(rest))
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.onnx"), chain(6000).bytes()).unwrap();
    let data = root().join("fixtures/fashion-mnist-400.npz").canonicalize().unwrap();
    let arguments = ["scan", "model.onnx", "--data", data.to_str().unwrap(), "--engine", "rten", "--steps", "1"];
    let ended =
        bounds::run(folder.path(), &[&arguments[..], &["--classes", "1", "--force", "--threads", "2"]].concat());
    assert_eq!(ended.status, Some(3), "{ended:?}");
    check(vec![case("16385 nodes one after the other", chain(16_385), "a chain of more than 16384 nodes")]);
}

#[test]
fn models_that_are_no_classifiers_are_refused() {
    let mut regression = Model::linear(CLASSES);
    regression.outputs = vec![value("y", 7, &[OPEN, CLASSES])];
    let image = Model {
        nodes: vec![node("Relu", &["x"], &["y"])],
        outputs: vec![value("y", FLOAT, &[OPEN, 1, 28, 28])],
        ..Model::linear(4)
    };
    let reduced = Model::followed_by(CLASSES, [node("ReduceSum", &["y"], &["z"]).with_int("keepdims", 0)]);
    let constant = Model { nodes: vec![node("Identity", &["w"], &["y"])], ..Model::linear(4) };
    check(vec![
        case("no class", Model::linear(0), "a classifier gives one score"),
        case("one class", Model::followed_by(1, [node("Softmax", &["y"], &["z"])]), "is a Softmax over one class"),
        case("fewer classes than the labels have", Model::linear(4), "is not one of the model's 4 classes"),
        case("an image comes out", image, "a classifier gives one score"),
        case("one number comes out for all images", reduced, "a classifier gives one score"),
        case("what comes out does not depend on the image", constant, "x"),
        case("an integer output", Model { outputs: regression.outputs, ..Model::linear(CLASSES) }, "floating-point"),
    ]);
}

#[test]
fn numbers_that_are_not_finite_are_named() {
    let weights = |value: f32| {
        let mut values = vec![0.01; 784 * CLASSES as usize];
        values[17] = value;
        Model::with_weights(floats("w", &[784, CLASSES], &values))
    };
    // The logarithm of a negative number, which the sum of some rows is.
    let logarithm = [node("Log", &["y"], &["z"])];
    let overflow = [node("Exp", &["y"], &["e"]), node("Exp", &["e"], &["z"])];
    check(vec![
        case("NaN among the weights", weights(f32::NAN), "its weight `w` has the value NaN"),
        case("infinity among the weights", weights(f32::INFINITY), "its weight `w` has the value inf"),
        case("NaN for some images", Model::followed_by(CLASSES, logarithm), "not finite"),
        case("infinity for some images", Model::followed_by(CLASSES, overflow), "not finite"),
    ]);
}

/// A model whose weights are at `location`, in a folder `model` that `arrange` fills. A secret lies beside the folder.
fn external_case(location: &str, arrange: impl Fn(&Path), words: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let weights: Vec<u8> = (0..784 * CLASSES).flat_map(|i| (i as f32).sin().to_le_bytes()).collect();
    std::fs::write(folder.path().join("secret"), weights).unwrap();
    let beside = folder.path().join("model");
    std::fs::create_dir(&beside).unwrap();
    arrange(&beside);
    let location = location.replace("FOLDER", folder.path().to_str().unwrap());
    let model = Model::with_weights(external("w", &[784, CLASSES], &location));
    std::fs::write(beside.join("model.onnx"), model.bytes()).unwrap();
    let data = root().join("fixtures/fashion-mnist-400.npz").canonicalize().unwrap();
    scan_complains(folder.path(), "model/model.onnx", data.to_str().unwrap(), &[], words)
        .map_err(|failure| format!("{location}: {failure}"))
}

#[test]
fn external_data_is_read_from_the_models_own_folder_alone() {
    use std::os::unix::fs::symlink;
    let nothing = |_: &Path| {};
    let results = [
        external_case("../secret", nothing, "outside the model's folder"),
        external_case("FOLDER/secret", nothing, "outside the model's folder"),
        external_case("sub/../../secret", nothing, "outside the model's folder"),
        external_case("", nothing, "outside the model's folder"),
        external_case("nowhere", nothing, "cannot be read from `nowhere`"),
        external_case(
            "link",
            |folder| symlink("../secret", folder.join("link")).unwrap(),
            "outside the model's folder",
        ),
        external_case("up/secret", |folder| symlink("..", folder.join("up")).unwrap(), "outside the model's folder"),
        external_case("loop", |folder| symlink("loop", folder.join("loop")).unwrap(), "cannot be read from `loop`"),
        external_case(
            "pipe",
            |folder| {
                let made = std::process::Command::new("mkfifo").arg(folder.join("pipe")).status();
                assert!(made.unwrap().success());
            },
            "not a regular file",
        ),
        external_case(
            "zero",
            |folder| symlink("/dev/zero", folder.join("zero")).unwrap(),
            "outside the model's folder",
        ),
        external_case("folder", |folder| std::fs::create_dir(folder.join("folder")).unwrap(), "not a regular file"),
        external_case("short", |folder| std::fs::write(folder.join("short"), [0; 9]).unwrap(), "beyond the end"),
    ];
    let failures: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_model_that_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("folder.onnx")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(folder.path().join("pipe.onnx")).status();
    assert!(made.unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("zero.onnx")).unwrap();
    let data = root().join("fixtures/fashion-mnist-400.npz").canonicalize().unwrap();
    for model in ["folder.onnx", "pipe.onnx", "zero.onnx"] {
        scan_complains(folder.path(), model, data.to_str().unwrap(), &[], "is not a file").unwrap();
    }
}
