/// What can go wrong between reading a model and writing its gradient graph.
///
/// Every message names the node, value or file at fault and says what about it is not acceptable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not an ONNX model, or the model breaks a rule of the ONNX IR.
    #[error("not a usable ONNX model: {0}")]
    Model(String),

    /// A file cannot be read or written, or is not what it should be.
    #[error("`{path}` {problem}")]
    File {
        /// The file's path.
        path: String,
        /// What is wrong, as a clause.
        problem: String,
    },

    /// A node is malformed, or uses an operator in a way which is not supported.
    #[error("node `{node}` ({op}): {problem}")]
    Node {
        /// The node's name, or its first output where it has none.
        node: String,
        /// The operator, with its domain where that is not the default one.
        op: String,
        /// What is wrong, as a clause.
        problem: String,
    },

    /// A value that was asked for is not in the graph, or is not of the needed kind.
    #[error("value `{value}`: {problem}")]
    Value {
        /// The value's name.
        value: String,
        /// What is wrong, as a clause.
        problem: String,
    },
}

impl Error {
    /// An error about the file at `path`.
    pub fn file(path: &std::path::Path, problem: impl Into<String>) -> Self {
        Error::File { path: path.display().to_string(), problem: problem.into() }
    }

    /// An error about `node`.
    pub fn node(node: &crate::Node, problem: impl Into<String>) -> Self {
        Error::Node { node: node.label().to_owned(), op: node.op.clone(), problem: problem.into() }
    }

    /// An error about the value called `value`.
    pub fn value(value: &str, problem: impl Into<String>) -> Self {
        Error::Value { value: value.to_owned(), problem: problem.into() }
    }
}

/// The result of the operations of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
