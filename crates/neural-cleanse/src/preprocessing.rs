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

impl Layout {
    /// `[C, H, W]` from the axes of an image in the order of the model.
    pub(crate) fn channels_first<T>(self, [a, b, c]: [T; 3]) -> [T; 3] {
        match self {
            Layout::Nchw => [a, b, c],
            Layout::Nhwc => [c, a, b],
        }
    }

    /// The axes of an image `[C, H, W]` in the order of the model.
    pub(crate) fn of_model<T>(self, [c, h, w]: [T; 3]) -> [T; 3] {
        match self {
            Layout::Nchw => [c, h, w],
            Layout::Nhwc => [h, w, c],
        }
    }
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
}
