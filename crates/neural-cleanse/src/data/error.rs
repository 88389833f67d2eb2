use std::io;
use std::path::PathBuf;

/// Why data cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file system or the decompressor failed.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// The file is in no format that is known.
    #[error("{} is neither a folder of images nor an .npz, .npy, IDX or Parquet file", .path.display())]
    Unrecognised {
        /// The file.
        path: PathBuf,
    },
    /// The file contradicts its format.
    #[error("{}: {reason}", .path.display())]
    Malformed {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An array has the wrong shape.
    #[error(
        "{}: the images have the shape {found:?}, and the model takes {}",
        .path.display(), accepted(*.wanted)
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// The array's shape.
        found: Vec<usize>,
        /// The wanted channels, height and width.
        wanted: [usize; 3],
    },
    /// Labels are not labels, or not of these images.
    #[error("the labels in {}: {reason}", .path.display())]
    Labels {
        /// The file with the labels.
        path: PathBuf,
        /// What is wrong with them.
        reason: String,
    },
    /// There is not one image.
    #[error("{} contains no images", .path.display())]
    Empty {
        /// The file or folder.
        path: PathBuf,
    },
    /// The images of a folder cannot have the wanted number of channels.
    #[error("{}: image files have 1 or 3 channels, and the model takes {channels}", .path.display())]
    Channels {
        /// The folder.
        path: PathBuf,
        /// The wanted number of channels.
        channels: usize,
    },
    /// The range of values given is none.
    #[error("the range of the data, {low}..{high}, must go from a number to a greater one")]
    Range {
        /// The value of black.
        low: f32,
        /// The value of white.
        high: f32,
    },
}

fn accepted([channels, height, width]: [usize; 3]) -> String {
    let grey = if channels == 1 { format!(", [N, {height}, {width}]") } else { String::new() };
    format!("[N, {channels}, {height}, {width}] (or [N, {height}, {width}, {channels}]{grey})")
}
