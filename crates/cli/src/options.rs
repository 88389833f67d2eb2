use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use neural_cleanse::data::{self, Picked, Samples, Wanted};
use neural_cleanse::engine::{self, EngineChoice};
use neural_cleanse::{Classifier, ClassifierOptions, Layout, Model, ModelCard, Preprocessing};

/// The model and what it wants.
#[derive(Args)]
pub struct ModelArguments {
    /// The classifier, an ONNX file
    pub model: PathBuf,

    /// The factor on raw pixel values of 0..255; the model sees (pixel · scale − mean) / std
    /// [default: from preprocessor_config.json beside the model, or 1]
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true, help_heading = "Preprocessing")]
    scale: Option<f32>,

    /// The mean to subtract: one number, or one for each channel, with commas between
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true, help_heading = "Preprocessing")]
    mean: Option<Vec<f32>>,

    /// The standard deviation to divide by: one number, or one for each channel, with commas between
    #[arg(long, value_delimiter = ',', help_heading = "Preprocessing")]
    std: Option<Vec<f32>>,

    /// The order of the axes of the model's input: nchw or nhwc [default: told from its shape]
    #[arg(long, help_heading = "Preprocessing")]
    layout: Option<Layout>,

    #[command(flatten)]
    pub engine: EngineArguments,
}

/// What runs the model.
#[derive(Args)]
pub struct EngineArguments {
    /// What runs the model: auto (the fastest that is installed), rten or onnxruntime
    #[arg(long, default_value = "auto", value_name = "NAME", help_heading = "Engine")]
    engine: EngineChoice,

    /// The engine's shared library, where it is not found by itself
    #[arg(long, value_name = "FILE", help_heading = "Engine")]
    engine_library: Option<PathBuf>,

    /// The number of threads [default: as many as there are processors]
    #[arg(long, value_name = "N", help_heading = "Engine")]
    threads: Option<usize>,
}

/// The clean samples.
#[derive(Args)]
pub struct DataArguments {
    /// Clean samples: a folder of images (one sub-folder a class, or flat), .npz (x, y), .npy, or IDX (also .gz)
    #[arg(long, value_name = "PATH", help_heading = "Samples")]
    data: PathBuf,

    /// Their labels: IDX, .npy, or text with one number a line
    #[arg(long, value_name = "FILE", help_heading = "Samples")]
    labels: Option<PathBuf>,

    /// The smallest and largest pixel value in .npz and .npy files, with a comma between
    #[arg(long, value_name = "LOW,HIGH", value_parser = pixel_range, default_value = "0,255", allow_hyphen_values = true, help_heading = "Samples")]
    data_range: (f32, f32),
}

fn pixel_range(text: &str) -> Result<(f32, f32), String> {
    let numbers =
        text.split_once(',').and_then(|(low, high)| Some((low.trim().parse().ok()?, high.trim().parse().ok()?)));
    numbers.ok_or_else(|| "give two numbers with a comma between, such as 0,1".to_owned())
}

impl ModelArguments {
    /// Reads the model.
    pub fn read(&self) -> anyhow::Result<Model> {
        Ok(Model::read(&self.model)?)
    }

    /// Reads the model and makes it a classifier; says on standard error what runs it.
    pub fn classifier(&self) -> anyhow::Result<Classifier> {
        self.classifier_of(self.read()?)
    }

    /// Makes a classifier of `model`, which was read from the model's file.
    pub fn classifier_of(&self, model: Model) -> anyhow::Result<Classifier> {
        let card = self.card()?;
        let options = ClassifierOptions {
            preprocessing: self.preprocessing(card.preprocessing),
            layout: self.layout,
            value_range: None,
            class_names: card.class_names,
        };
        let selected = engine::select(self.engine.engine, self.engine.engine_library.as_deref())?;
        eprintln!("{}", selected.reason);
        let threads = match self.engine.threads {
            Some(0) => anyhow::bail!("--threads must be at least 1"),
            Some(threads) => threads,
            None => std::thread::available_parallelism().map_or(1, |n| n.get()),
        };
        Classifier::new(model, options, selected.engine, threads).with_context(|| self.model.display().to_string())
    }

    /// Whether a file beside the model names its classes.
    pub fn names_classes(&self) -> anyhow::Result<bool> {
        Ok(self.card()?.class_names.is_some())
    }

    fn card(&self) -> anyhow::Result<ModelCard> {
        let folder = self.model.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(ModelCard::read(folder)?)
    }

    fn preprocessing(&self, card: Option<Preprocessing>) -> Preprocessing {
        let mut preprocessing = card.unwrap_or_default();
        if let Some(scale) = self.scale {
            preprocessing.scale = scale;
        }
        if let Some(mean) = &self.mean {
            preprocessing.mean.clone_from(mean);
        }
        if let Some(std) = &self.std {
            preprocessing.std.clone_from(std);
        }
        preprocessing
    }
}

impl DataArguments {
    /// Reads the samples: those that are picked, or all in their order.
    pub fn read(&self, at_most: Option<Picked>, classifier: &Classifier) -> anyhow::Result<Samples> {
        let [channels, height, width] = classifier.image_shape();
        let wanted = Wanted { channels, height, width, range: self.data_range, at_most };
        let samples = data::load(&self.data, self.labels.as_deref(), &wanted)?;
        for note in &samples.notes {
            eprintln!("note: {note}");
        }
        Ok(samples)
    }
}
