//! Small ONNX files, written field by field so that they can break any rule.

/// A message of the protobuf format.
#[derive(Clone, Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    pub fn int(self, field: u64, value: i64) -> Self {
        self.varint(field << 3).varint(value as u64)
    }

    pub fn bytes(self, field: u64, content: &[u8]) -> Self {
        let mut message = self.varint(field << 3 | 2).varint(content.len() as u64);
        message.0.extend_from_slice(content);
        message
    }

    pub fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    pub fn message(self, field: u64, message: &Message) -> Self {
        self.bytes(field, &message.0)
    }

    fn each<T>(self, items: &[T], add: impl Fn(Self, &T) -> Self) -> Self {
        items.iter().fold(self, add)
    }
}

pub const FLOAT: i64 = 1;

/// `TensorProto` without data.
pub fn tensor(name: &str, element: i64, dims: &[i64]) -> Message {
    Message::default().each(dims, |message, &dim| message.int(1, dim)).int(2, element).text(8, name)
}

/// `TensorProto` of float32.
pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> Message {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, FLOAT, dims).bytes(9, &bytes)
}

/// `TensorProto` whose data is at `location`.
pub fn external(name: &str, dims: &[i64], location: &str) -> Message {
    let entry = Message::default().text(1, "location").text(2, location);
    tensor(name, FLOAT, dims).message(13, &entry).int(14, 1)
}

/// `NodeProto`.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    let message = Message::default().each(inputs, |message, name| message.text(1, name));
    message.each(outputs, |message, name| message.text(2, name)).text(4, op)
}

impl Message {
    /// A `NodeProto` of another domain.
    pub fn of_domain(self, domain: &str) -> Self {
        self.text(7, domain)
    }

    /// A `NodeProto` with an integer attribute.
    pub fn with_int(self, name: &str, value: i64) -> Self {
        self.message(5, &Message::default().text(1, name).int(3, value).int(20, 2))
    }

    /// A `NodeProto` with numbers for an attribute.
    pub fn with_ints(self, name: &str, values: &[i64]) -> Self {
        let attribute =
            values.iter().fold(Message::default().text(1, name), |attribute, value| attribute.int(8, *value));
        self.message(5, &attribute.int(20, 7))
    }

    /// A `NodeProto` with a graph for an attribute.
    pub fn with_graph(self, name: &str, graph: &Message) -> Self {
        self.message(5, &Message::default().text(1, name).message(6, graph).int(20, 5))
    }
}

/// `ValueInfoProto`; an extent below 0 is left open.
pub fn value(name: &str, element: i64, dims: &[i64]) -> Message {
    let extent = |dim: i64| if dim == OPEN { Message::default() } else { Message::default().int(1, dim) };
    let shape = Message::default().each(dims, |message, &dim| message.message(1, &extent(dim)));
    let tensor = Message::default().int(1, element).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}

/// An extent that the model leaves open.
pub const OPEN: i64 = i64::MIN;

/// `FunctionProto` of the domain `own`, from `a` to `b`.
pub fn function(name: &str, nodes: &[Message]) -> Message {
    let message = Message::default().text(1, name).text(4, "a").text(5, "b");
    message.each(nodes, |message, node| message.message(7, node)).text(10, "own")
}

/// `ModelProto`, part by part.
#[derive(Clone)]
pub struct Model {
    pub nodes: Vec<Message>,
    pub initializers: Vec<Message>,
    pub inputs: Vec<Message>,
    pub outputs: Vec<Message>,
    pub functions: Vec<Message>,
    pub opset: i64,
}

impl Model {
    /// A sound linear classifier of images `[N, 1, 28, 28]`, with `classes` classes.
    pub fn linear(classes: i64) -> Self {
        // Sines are as good as any weights, and make the classes differ.
        let weights: Vec<f32> = (0..784 * classes).map(|i| (i as f32).sin()).collect();
        Model {
            nodes: vec![node("Flatten", &["x"], &["flat"]), node("MatMul", &["flat", "w"], &["y"])],
            initializers: vec![floats("w", &[784, classes], &weights)],
            inputs: vec![value("x", FLOAT, &[OPEN, 1, 28, 28])],
            outputs: vec![value("y", FLOAT, &[OPEN, classes])],
            functions: Vec::new(),
            opset: 18,
        }
    }

    /// The classifier with `nodes` after its logits, which are called `y`; the last of them puts out `z`.
    pub fn followed_by(classes: i64, nodes: impl IntoIterator<Item = Message>) -> Self {
        let mut model = Model::linear(classes);
        model.nodes.extend(nodes);
        model.outputs = vec![value("z", FLOAT, &[OPEN, classes])];
        model
    }

    /// The classifier with other weights, for ten classes.
    pub fn with_weights(weights: Message) -> Self {
        Model { initializers: vec![weights], ..Model::linear(10) }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let parts = |message: Message, field, parts: &[Message]| parts.iter().fold(message, |m, p| m.message(field, p));
        let graph = parts(Message::default(), 1, &self.nodes).text(2, "graph");
        let graph = parts(parts(parts(graph, 5, &self.initializers), 11, &self.inputs), 12, &self.outputs);
        let opset = |domain: &str, version| Message::default().text(1, domain).int(2, version);
        let model = Message::default().int(1, 8).message(7, &graph).message(8, &opset("", self.opset));
        parts(model.message(8, &opset("own", 1)), 25, &self.functions).0
    }
}
