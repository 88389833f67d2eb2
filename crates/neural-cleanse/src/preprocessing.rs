use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};

/// The order of the axes of the model's input. Samples are always `[N, C, H, W]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[N, C, H, W]`, as PyTorch has it.
    Nchw,
    /// `[N, H, W, C]`, as Keras has it.
    Nhwc,
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Layout::Nchw => "nchw",
            Layout::Nhwc => "nhwc",
        })
    }
}

impl std::str::FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "nchw" => Ok(Layout::Nchw),
            "nhwc" => Ok(Layout::Nhwc),
            _ => Err(format!("`{text}` is not a layout: use nchw or nhwc")),
        }
    }
}

/// What happens to raw pixel values before the model sees them: `(pixel · scale − mean) / std`.
///
/// The default leaves them as they are.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Preprocessing {
    /// The factor that comes first, such as 1/255.
    pub scale: f32,
    /// Subtracted after scaling: one number, or one for each channel.
    pub mean: Vec<f32>,
    /// Divides at the end: one number, or one for each channel; never 0.
    pub std: Vec<f32>,
}

impl Default for Preprocessing {
    fn default() -> Self {
        Preprocessing { scale: 1.0, mean: vec![0.0], std: vec![1.0] }
    }
}

impl Preprocessing {
    /// Factor and offset of each of `channels` channels: the model sees `factor·pixel + offset`.
    ///
    /// # Errors
    /// If `mean` or `std` has neither one entry nor one for each channel, or a number is unusable.
    pub fn affine(&self, channels: usize) -> Result<(Vec<f64>, Vec<f64>)> {
        let per_channel = |name: &str, values: &[f32]| -> Result<Vec<f64>> {
            match values.len() {
                1 => Ok(vec![f64::from(values[0]); channels]),
                n if n == channels => Ok(values.iter().map(|&v| f64::from(v)).collect()),
                n => Err(Error::Config(format!(
                    "{name} has {n} numbers, but the model takes images of {channels} channel(s): give one number, or {channels}"
                ))),
            }
        };
        let (mean, std) = (per_channel("mean", &self.mean)?, per_channel("std", &self.std)?);
        let usable = |value: f64| value.is_finite() && value != 0.0;
        if !usable(f64::from(self.scale)) || !std.iter().all(|&s| usable(s)) || !mean.iter().all(|m| m.is_finite()) {
            return Err(Error::Config("scale, mean and std must be finite, and scale and std not 0".into()));
        }
        let factor = std.iter().map(|s| f64::from(self.scale) / s).collect();
        let offset = mean.iter().zip(&std).map(|(m, s)| -m / s).collect();
        Ok((factor, offset))
    }
}

/// What Hugging Face's `preprocessor_config.json` and `config.json` beside a model say of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelCard {
    /// From `preprocessor_config.json`.
    pub preprocessing: Option<Preprocessing>,
    /// From `id2label` of `config.json`, in the order of the classes.
    pub class_names: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct PreprocessorConfig {
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
        let preprocessing = preprocessor.map(|config| {
            let unchanged = Preprocessing::default();
            let (mean, std) = match (config.image_mean, config.image_std) {
                (Some(mean), Some(std)) if config.do_normalize => (mean, std),
                _ => (unchanged.mean, unchanged.std),
            };
            let scale = if config.do_rescale { config.rescale_factor.unwrap_or(1.0 / 255.0) } else { 1.0 };
            Preprocessing { scale, mean, std }
        });
        let class_names = match config.and_then(|config| config.id2label) {
            Some(labels) => Some(names_in_order(labels).ok_or_else(|| {
                let path = folder.join("config.json");
                Error::Config(format!("{}: the keys of id2label are not the numbers 0, 1, 2, …", path.display()))
            })?),
            None => None,
        };
        Ok(ModelCard { preprocessing, class_names })
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
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
    fn scale_mean_and_std_become_factor_and_offset() {
        let preprocessing = Preprocessing { scale: 0.5, mean: vec![1.0, 2.0], std: vec![4.0] };
        assert_eq!(preprocessing.affine(2).unwrap(), (vec![0.125, 0.125], vec![-0.25, -0.5]));
        let message = preprocessing.affine(3).unwrap_err().to_string();
        assert!(message.contains("mean has 2 numbers"), "{message}");
        assert!(Preprocessing { std: vec![0.0], ..Preprocessing::default() }.affine(1).is_err());
    }

    #[test]
    fn the_files_of_hugging_face_are_understood() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(ModelCard::read(folder.path()).unwrap(), ModelCard::default());
        write("preprocessor_config.json", r#"{"image_mean": [0.5], "image_std": [0.25], "size": {"height": 8}}"#);
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
}
