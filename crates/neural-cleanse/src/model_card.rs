//! What the files beside a model say of it.

use std::path::Path;

use serde::Deserialize;

use crate::data::{Filter, Resizing, Size};
use crate::error::{Error, Result};
use crate::preprocessing::Preprocessing;

/// What Hugging Face's `preprocessor_config.json` and `config.json` beside a model say of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelCard {
    /// From `preprocessor_config.json`.
    pub preprocessing: Option<Preprocessing>,
    /// How images are brought to the model's size, also from there; `None` where that does not say.
    pub resizing: Option<Resizing>,
    /// From `id2label` of `config.json`, in the order of the classes.
    pub class_names: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct PreprocessorConfig {
    #[serde(default = "yes")]
    do_resize: bool,
    size: Option<SizeEntry>,
    resample: Option<u8>,
    crop_pct: Option<f64>,
    #[serde(default)]
    do_center_crop: bool,
    crop_size: Option<SizeEntry>,
    #[serde(default = "yes")]
    do_rescale: bool,
    rescale_factor: Option<f32>,
    #[serde(default = "yes")]
    do_normalize: bool,
    image_mean: Option<Vec<f32>>,
    image_std: Option<Vec<f32>>,
}

fn yes() -> bool {
    true
}

/// A size as the versions of the format have it.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum SizeEntry {
    Square(usize),
    Exact { height: usize, width: usize },
    ShortestEdge { shortest_edge: usize },
    Other {},
}

#[derive(Deserialize)]
struct ModelConfig {
    id2label: Option<std::collections::BTreeMap<String, String>>,
}

/// Configuration files are small; a longer one is not read.
const LONGEST_CONFIG: u64 = 16 << 20;

impl ModelCard {
    /// Reads the two files in `folder`, either of which may be absent.
    ///
    /// # Errors
    /// If a file is there but is not what it should be.
    pub fn read(folder: &Path) -> Result<Self> {
        let preprocessor: Option<PreprocessorConfig> = read_json(&folder.join("preprocessor_config.json"))?;
        let config: Option<ModelConfig> = read_json(&folder.join("config.json"))?;
        let path = folder.join("preprocessor_config.json");
        let in_file = |problem: String| Error::Config(format!("{}: {problem}", path.display()));
        let resizing = preprocessor.as_ref().map_or(Ok(None), PreprocessorConfig::resizing).map_err(in_file)?;
        let preprocessing = preprocessor.map(PreprocessorConfig::preprocessing);
        let class_names = match config.and_then(|config| config.id2label) {
            Some(labels) => Some(names_in_order(labels).ok_or_else(|| {
                let path = folder.join("config.json");
                Error::Config(format!("{}: the keys of id2label are not the numbers 0, 1, 2, …", path.display()))
            })?),
            None => None,
        };
        Ok(ModelCard { preprocessing, resizing, class_names })
    }
}

impl PreprocessorConfig {
    fn preprocessing(self) -> Preprocessing {
        let unchanged = Preprocessing::default();
        let (mean, std) = match (self.image_mean, self.image_std) {
            (Some(mean), Some(std)) if self.do_normalize => (mean, std),
            _ => (unchanged.mean, unchanged.std),
        };
        let scale = if self.do_rescale { self.rescale_factor.unwrap_or(1.0 / 255.0) } else { 1.0 };
        Preprocessing { scale, mean, std }
    }

    /// What becomes of the size, or why that cannot be told.
    fn resizing(&self) -> Result<Option<Resizing>, String> {
        let crop = if self.do_center_crop { self.crop_size } else { None };
        let mut resizing = Resizing { centre_crop: crop.map(SizeEntry::crop).transpose()?, ..Resizing::default() };
        if let Some(size) = self.size.filter(|_| self.do_resize) {
            match (size, self.crop_pct) {
                (SizeEntry::ShortestEdge { shortest_edge: side } | SizeEntry::Square(side), Some(share)) => {
                    resizing = by_crop_pct(side, share)?;
                }
                (SizeEntry::Square(side), None) => resizing.size = Some(Size::Exact { height: side, width: side }),
                (SizeEntry::Exact { height, width }, _) => resizing.size = Some(Size::Exact { height, width }),
                (SizeEntry::ShortestEdge { shortest_edge }, None) => {
                    resizing.size = Some(Size::ShortestEdge(shortest_edge));
                }
                (SizeEntry::Other {}, _) => return Err(UNKNOWN_SIZE.to_owned()),
            }
            resizing.filter = match self.resample {
                Some(0) => Filter::Nearest,
                Some(1) => Filter::Lanczos,
                None | Some(2) => Filter::Bilinear,
                Some(3) => Filter::Bicubic,
                Some(code) => return Err(format!("`resample` is {code}: 0, 1, 2 and 3 are supported")),
            };
        }
        Ok((resizing != Resizing::default()).then_some(resizing))
    }
}

const UNKNOWN_SIZE: &str = "`size` and `crop_size` have to be a number, height and width, or a shortest_edge";

/// As ConvNeXT's processor has it: under 384 pixels, images are made larger by `share` and cropped; otherwise squeezed.
fn by_crop_pct(side: usize, share: f64) -> Result<Resizing, String> {
    if !(share > 0.0 && share <= 1.0) {
        return Err(format!("`crop_pct` is {share}, which is not a share"));
    }
    let (size, centre_crop) = if side < 384 {
        (Size::ShortestEdge((side as f64 / share) as usize), Some((side, side)))
    } else {
        (Size::Exact { height: side, width: side }, None)
    };
    Ok(Resizing { size: Some(size), centre_crop, ..Resizing::default() })
}

impl SizeEntry {
    fn crop(self) -> Result<(usize, usize), String> {
        match self {
            SizeEntry::Square(side) | SizeEntry::ShortestEdge { shortest_edge: side } => Ok((side, side)),
            SizeEntry::Exact { height, width } => Ok((height, width)),
            SizeEntry::Other {} => Err(UNKNOWN_SIZE.to_owned()),
        }
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    use std::io::Read;
    let file = match crate::files::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Io { path: path.to_owned(), source }),
    };
    let mut text = String::new();
    (file.take(LONGEST_CONFIG).read_to_string(&mut text))
        .map_err(|source| Error::Io { path: path.to_owned(), source })?;
    serde_json::from_str(&text).map(Some).map_err(|e| Error::Config(format!("{}: {e}", path.display())))
}

fn names_in_order(labels: std::collections::BTreeMap<String, String>) -> Option<Vec<String>> {
    let mut names = vec![None; labels.len()];
    for (key, name) in labels {
        *names.get_mut(key.parse::<usize>().ok()?)? = Some(name);
    }
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_hugging_face_are_understood() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(ModelCard::read(folder.path()).unwrap(), ModelCard::default());
        write(
            "preprocessor_config.json",
            r#"{"image_mean": [0.5], "image_std": [0.25], "size": {"height": 8, "width": 9}}"#,
        );
        write(
            "config.json",
            r#"{"id2label": {"1": "dog", "0": "cat", "10": "k", "2": "c", "3": "d", "4": "e", "5": "f", "6": "g", "7": "h", "8": "i", "9": "j"}}"#,
        );
        let card = ModelCard::read(folder.path()).unwrap();
        let expected = Preprocessing { scale: 1.0 / 255.0, mean: vec![0.5], std: vec![0.25] };
        assert_eq!(card.preprocessing, Some(expected));
        assert_eq!(card.class_names.unwrap()[..3], ["cat", "dog", "c"]);
        write(
            "preprocessor_config.json",
            r#"{"do_rescale": false, "do_normalize": false, "image_mean": [0.5], "image_std": [0.25]}"#,
        );
        assert_eq!(ModelCard::read(folder.path()).unwrap().preprocessing, Some(Preprocessing::default()));
        write("config.json", r#"{"id2label": {"1": "dog"}}"#);
        assert!(ModelCard::read(folder.path()).unwrap_err().to_string().contains("id2label"));
        write("config.json", "{");
        assert!(ModelCard::read(folder.path()).unwrap_err().to_string().contains("config.json"));
    }

    #[test]
    fn sizes_and_crops_are_read_as_the_processors_mean_them() {
        let exact = |height, width| Some(Size::Exact { height, width });
        let edge = |side| Some(Size::ShortestEdge(side));
        let with = |size, filter, centre_crop| Some(Resizing { size, filter, centre_crop });
        let cases = [
            (
                r#"{"size": {"height": 224, "width": 192}, "resample": 2}"#,
                with(exact(224, 192), Filter::Bilinear, None),
            ),
            (r#"{"size": 224, "resample": 3}"#, with(exact(224, 224), Filter::Bicubic, None)),
            (
                r#"{"size": {"shortest_edge": 256}, "do_center_crop": true, "crop_size": {"height": 224, "width": 224}}"#,
                with(edge(256), Filter::Bilinear, Some((224, 224))),
            ),
            (
                r#"{"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3}"#,
                with(edge(256), Filter::Bicubic, Some((224, 224))),
            ),
            (r#"{"size": {"shortest_edge": 384}, "crop_pct": 0.875}"#, with(exact(384, 384), Filter::Bilinear, None)),
            (r#"{"do_resize": false, "size": 224}"#, None),
            (
                r#"{"size": 224, "do_center_crop": false, "crop_size": 200}"#,
                with(exact(224, 224), Filter::Bilinear, None),
            ),
            (
                r#"{"do_resize": false, "do_center_crop": true, "crop_size": 200}"#,
                with(None, Filter::Bilinear, Some((200, 200))),
            ),
        ];
        let read = |text: &str| serde_json::from_str::<PreprocessorConfig>(text).unwrap().resizing();
        for (text, expected) in cases {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
        assert!(read(r#"{"size": {"longest_edge": 9}}"#).unwrap_err().contains("shortest_edge"));
        assert!(read(r#"{"size": 9, "resample": 4}"#).unwrap_err().contains("resample"));
        assert!(read(r#"{"size": 9, "crop_pct": 0}"#).unwrap_err().contains("crop_pct"));
    }
}
