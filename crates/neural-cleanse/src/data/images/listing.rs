use std::fs;
use std::path::{Path, PathBuf};

use super::DataError;

/// Files whose names end so are images; others are left out.
const EXTENSIONS: [&str; 10] = ["bmp", "gif", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm", "webp"];

/// The image files of a folder, in the order of their classes and names.
pub(super) struct Listing {
    pub(super) images: Vec<PathBuf>,
    pub(super) labels: Option<Vec<usize>>,
    pub(super) class_names: Option<Vec<String>>,
    pub(super) notes: Vec<String>,
}

impl Listing {
    /// Lists a folder: one sub-folder a class, or flat and without labels.
    ///
    /// Classes are numbered by the sorted names of their folders, unless all names
    /// are numbers, which are then the classes.
    pub(super) fn of(folder: &Path) -> Result<Self, DataError> {
        let (files, folders) = entries(folder)?;
        let (images, mut left_out) = images_of(files);
        let mut listing = Self { images, labels: None, class_names: None, notes: Vec::new() };
        if !folders.is_empty() {
            if !listing.images.is_empty() {
                let reason = "it has both images and sub-folders: one folder a class is expected, \
                              or images alone";
                return Err(malformed(folder, reason.to_owned()));
            }
            left_out += listing.add_classes(folder, folders)?;
        }
        if left_out > 0 {
            let files = if left_out == 1 { "file is no image" } else { "files are no images" };
            let folder = folder.display();
            listing.notes.push(format!("{left_out} {files} by name and left out, in {folder}"));
        }
        Ok(listing)
    }

    /// Keeps the images of these indices, in this order.
    pub(super) fn keep(&mut self, indices: &[usize]) {
        self.images = indices.iter().map(|index| self.images[*index].clone()).collect();
        if let Some(labels) = &mut self.labels {
            *labels = indices.iter().map(|index| labels[*index]).collect();
        }
    }

    /// Adds the images of one folder per class; returns the number of files left out.
    fn add_classes(&mut self, parent: &Path, folders: Vec<PathBuf>) -> Result<usize, DataError> {
        let (classes, class_names) = classes_of(folders, parent)?;
        let mut labels = Vec::new();
        let mut left_out = 0;
        for (class, folder) in classes {
            let (files, _) = entries(&folder)?;
            let (images, others) = images_of(files);
            left_out += others;
            labels.resize(labels.len() + images.len(), class);
            self.images.extend(images);
        }
        self.labels = Some(labels);
        self.class_names = class_names;
        Ok(left_out)
    }
}

/// Every folder with its class, in the order of the classes, and the names of the
/// classes if these are not numbers.
type Classes = (Vec<(usize, PathBuf)>, Option<Vec<String>>);

fn classes_of(folders: Vec<PathBuf>, parent: &Path) -> Result<Classes, DataError> {
    let name = |folder: &PathBuf| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names: Vec<String> = folders.iter().map(name).collect();
    let numbers: Option<Vec<usize>> = names.iter().map(|name| name.parse().ok()).collect();
    let Some(numbers) = numbers else {
        return Ok((folders.into_iter().enumerate().collect(), Some(names)));
    };
    let mut classes: Vec<(usize, PathBuf)> = numbers.into_iter().zip(folders).collect();
    classes.sort_unstable();
    if let Some(pair) = classes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let reason = format!("two folders have the number of class {}", pair[0].0);
        return Err(malformed(parent, reason));
    }
    Ok((classes, None))
}

/// The files and the folders in a folder, each sorted, without hidden ones.
fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), DataError> {
    let unreadable = |source| DataError::Read { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths.into_iter().partition(|path| !path.is_dir()))
}

/// Those of the files that are images by name, and the number of the others.
fn images_of(files: Vec<PathBuf>) -> (Vec<PathBuf>, usize) {
    let count = files.len();
    let is_image = |path: &PathBuf| {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        EXTENSIONS.contains(&extension.as_str())
    };
    let images: Vec<PathBuf> = files.into_iter().filter(is_image).collect();
    let others = count - images.len();
    (images, others)
}

fn malformed(path: &Path, reason: String) -> DataError {
    DataError::Malformed { path: path.to_owned(), reason }
}
