//! A user's model as it is in its file.

use std::fmt;
use std::io::Write;
use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;

use crate::external::ExternalFiles;
use crate::proto::{GraphProto, ModelProto, TensorProto};
use crate::{Error, Result, Tensor, check, foreign, tensor_proto};

/// The most bytes that a protobuf message may have.
const MAX_BYTES: u64 = i32::MAX as u64;

/// An ONNX model with everything that its file holds. What is read and written again without a
/// change is equal, wherever it lies; a repair changes initializers and nothing else.
///
/// ```
/// use onnx_grad::Model;
///
/// # fn main() -> onnx_grad::Result<()> {
/// # let path = "../../fixtures/fmnist_clean.onnx";
/// let model = Model::read(path)?;
/// assert_eq!(Model::from_bytes(&model.to_bytes())?, model);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Model {
    pub(crate) proto: ModelProto,
    pub(crate) files: ExternalFiles,
}

impl PartialEq for Model {
    fn eq(&self, other: &Self) -> bool {
        self.proto == other.proto
    }
}

/// Names the graph; its weights would fill the screen.
impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let graph = self.proto.graph.as_ref();
        f.debug_struct("Model")
            .field("graph", &graph.and_then(|graph| graph.name.as_deref()).unwrap_or_default())
            .field("nodes", &graph.map_or(0, |graph| graph.node.len()))
            .field("initializers", &graph.map_or(0, |graph| graph.initializer.len()))
            .finish_non_exhaustive()
    }
}

impl Model {
    /// The model in `bytes`. Constants with their data in other files cannot be had from it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::decode(Bytes::copy_from_slice(bytes), ExternalFiles::default())
    }

    /// The model in the file at `path`. Data that it keeps in other files is looked for beside it
    /// and nowhere else.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |error: std::io::Error| Error::file(path, format!("cannot be read: {error}"));
        let metadata = path.metadata().map_err(failed)?;
        if let Some(problem) = foreign::recognise_path(path) {
            return Err(Error::file(path, problem));
        }
        if !metadata.is_file() {
            return Err(Error::file(path, "is not a file"));
        }
        if metadata.len() > MAX_BYTES {
            return Err(Error::file(path, "is larger than 2 GiB, the most that an ONNX file can be"));
        }
        let bytes = std::fs::read(path).map_err(failed)?;
        Self::decode(bytes.into(), ExternalFiles::beside(path)).map_err(|error| match error {
            Error::Model(problem) => Error::file(path, format!("is not a usable ONNX model: {problem}")),
            other => other,
        })
    }

    /// The model as the bytes of an ONNX file. Data in other files stays there.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.proto.encode_to_vec()
    }

    /// Writes the model to the file at `path`: either all of it is there afterwards or what was
    /// there before. Written to another folder than it came from, the model takes in what data it
    /// has in other files.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let destination = ExternalFiles::beside(path);
        let moved = (!self.files.same_folder(&destination)).then(|| self.with_data_inside()).transpose()?;
        let proto = moved.as_ref().unwrap_or(&self.proto);
        if proto.encoded_len() as u64 > MAX_BYTES {
            return Err(Error::file(path, "would be larger than 2 GiB, the most that an ONNX file can be"));
        }
        write_whole(path, &proto.encode_to_vec())
            .map_err(|error| Error::file(path, format!("cannot be written: {error}")))
    }

    /// The constant called `name`: an initializer, or what a `Constant` node puts out.
    pub fn initializer(&self, name: &str) -> Result<Tensor> {
        let graph = self.proto.graph.as_ref();
        let stored = graph.and_then(|graph| graph.initializer.iter().find(|tensor| tensor.name() == name));
        let tensor = stored.or_else(|| {
            let node = graph?
                .node
                .iter()
                .find(|node| node.op_type() == "Constant" && node.output.first().is_some_and(|o| o == name))?;
            node.attribute.iter().find(|attribute| attribute.name() == "value")?.t.as_deref()
        });
        tensor_proto::read(
            tensor.ok_or_else(|| Error::value(name, "is not an initializer of the model"))?,
            name,
            &self.files,
        )
    }

    /// Gives the floating-point constant called `name` the elements of `tensor`, which has its shape.
    /// It keeps its element type (float16 stays float16) and the way in which it is stored.
    pub fn set_initializer(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let stored = self.proto.graph.as_mut().and_then(|graph| constant_mut(graph, name));
        let stored = stored.ok_or_else(|| Error::value(name, "is not an initializer of the model"))?;
        tensor_proto::replace(stored, tensor).map_err(|problem| Error::value(name, problem))
    }

    fn decode(bytes: Bytes, files: ExternalFiles) -> Result<Self> {
        if bytes.is_empty() {
            return Err(Error::Model("it is empty".to_owned()));
        }
        if let Some(problem) = foreign::recognise(&bytes) {
            return Err(Error::Model(problem));
        }
        let proto = ModelProto::decode(bytes).map_err(|error| {
            // What stands before the last colon is the path to the damaged place, which a hostile file makes long.
            let error = error.to_string();
            let reason = error.rsplit(": ").next().unwrap_or_default();
            Error::Model(format!("it cannot be decoded, so it is damaged or not ONNX at all ({reason})"))
        })?;
        let Some(graph) = &proto.graph else {
            return Err(Error::Model("it has no graph, so it is damaged or not ONNX at all".to_owned()));
        };
        check::stored_nodes(graph.node.len())?;
        Ok(Model { proto, files })
    }

    /// The model with its external data in it.
    fn with_data_inside(&self) -> Result<ModelProto> {
        let mut proto = self.proto.clone();
        for tensor in proto.graph.iter_mut().flat_map(tensors_mut) {
            let name = tensor.name().to_owned();
            tensor_proto::take_in(tensor, &self.files).map_err(|problem| Error::value(&name, problem))?;
        }
        Ok(proto)
    }
}

/// The tensors of the graph and of the graphs in it.
fn tensors_mut(graph: &mut GraphProto) -> Vec<&mut TensorProto> {
    let mut tensors: Vec<&mut TensorProto> = graph.initializer.iter_mut().collect();
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        tensors.extend(attribute.t.as_deref_mut());
        tensors.extend(&mut attribute.tensors);
        tensors.extend(attribute.g.as_deref_mut().into_iter().chain(&mut attribute.graphs).flat_map(tensors_mut));
    }
    tensors
}

fn constant_mut<'a>(graph: &'a mut GraphProto, name: &str) -> Option<&'a mut TensorProto> {
    if let Some(position) = graph.initializer.iter().position(|tensor| tensor.name() == name) {
        return graph.initializer.get_mut(position);
    }
    let is_it = |node: &&mut crate::proto::NodeProto| {
        node.op_type() == "Constant" && node.output.first().is_some_and(|o| o == name)
    };
    let node = graph.node.iter_mut().find(is_it)?;
    node.attribute.iter_mut().find(|attribute| attribute.name() == "value")?.t.as_deref_mut()
}

/// Writes beside `path`, to the disk, and then moves it there.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
