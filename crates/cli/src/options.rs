use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use neural_cleanse::data::{self, Columns, Filter, Picked, Resizing, Samples, Size, Wanted};
use neural_cleanse::engine::{self, EngineChoice, Precision, Provider};
use neural_cleanse::{Classifier, ClassifierOptions, InterfaceOptions, Layout, Model, ModelCard, Preprocessing};

use crate::limits;

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

    /// The order of the axes of an image in the model: nchw or nhwc [default: told from its shape]
    #[arg(long, help_heading = "Inputs and outputs")]
    layout: Option<Layout>,

    /// The input that takes the images, if the model has several
    #[arg(long, value_name = "NAME", help_heading = "Inputs and outputs")]
    input: Option<String>,

    /// The output that has the scores of the classes, if the model has several; any other value of the model will do, too
    #[arg(long, value_name = "NAME", help_heading = "Inputs and outputs")]
    output: Option<String>,

    /// The shape of an image in the order of the model's axes, such as 3,224,224, where the model leaves its size open or
    /// takes flat rows [default: that of the samples]
    #[arg(long, value_delimiter = ',', value_name = "SHAPE", help_heading = "Inputs and outputs")]
    input_shape: Option<Vec<usize>>,

    /// The value of another input that the scores depend on; bool ones are false unless they are set to 1
    #[arg(long, value_name = "NAME=NUMBER", value_parser = named_number, help_heading = "Inputs and outputs")]
    input_value: Vec<(String, f64)>,

    /// Resize images so that their shorter side has so many pixels [default: as preprocessor_config.json beside the model
    /// says, or straight to the model's size]
    #[arg(long, value_name = "PIXELS", help_heading = "Preprocessing")]
    resize: Option<usize>,

    /// Cut so many pixels, squared, out of the middle of the resized images
    #[arg(long, value_name = "PIXELS", help_heading = "Preprocessing")]
    center_crop: Option<usize>,

    /// How pixels are weighed where images are resized [default: bilinear]
    #[arg(long, value_enum, value_name = "FILTER", help_heading = "Preprocessing")]
    resample: Option<Resample>,

    #[command(flatten)]
    pub engine: EngineArguments,
}

#[derive(Clone, Copy, ValueEnum)]
enum Resample {
    Nearest,
    Bilinear,
    Bicubic,
    Lanczos,
}

/// What runs the model.
#[derive(Args)]
pub struct EngineArguments {
    /// What runs the model: auto (the fastest that is installed), rten, onnxruntime or openvino
    #[arg(long, default_value = "auto", value_name = "NAME", help_heading = "Engine")]
    engine: EngineChoice,

    /// The engine's shared library, where it is not found by itself
    #[arg(long, value_name = "FILE", help_heading = "Engine")]
    engine_library: Option<PathBuf>,

    /// What triggers are searched for in: f32, or bf16, which is faster where the engine and the processor have it; all
    /// that is reported is measured in f32
    #[arg(long, default_value = "f32", value_name = "NAME", help_heading = "Engine")]
    precision: Precision,

    /// Refuse what would take about so much memory to run, such as 512M or 4G [default: three quarters of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = limits::bytes, help_heading = "Limits")]
    max_memory: Option<u64>,

    /// Where onnxruntime computes: cpu, or, if it is built for it, cuda, tensorrt, coreml or directml
    #[arg(long, default_value = "cpu", value_name = "NAME", help_heading = "Engine")]
    provider: Provider,

    /// The number of threads [default: as many as there are processors]
    #[arg(long, value_name = "N", help_heading = "Engine")]
    threads: Option<usize>,
}

/// The clean samples.
#[derive(Args)]
pub struct DataArguments {
    /// Clean samples: a folder of images (one sub-folder a class, or flat), .npz (x, y), .npy, IDX (also .gz), or Parquet (a file, or a folder of them)
    #[arg(long, value_name = "PATH", help_heading = "Samples")]
    data: Option<PathBuf>,

    /// Their labels: IDX, .npy, or text with one number a line
    #[arg(long, value_name = "FILE", help_heading = "Samples")]
    labels: Option<PathBuf>,

    /// The smallest and largest pixel value in .npz and .npy files, with a comma between
    #[arg(long, value_name = "LOW,HIGH", value_parser = pixel_range, default_value = "0,255", allow_hyphen_values = true, help_heading = "Samples")]
    data_range: (f32, f32),

    /// The column of a Parquet file that has the images [default: the only one, or image or img]
    #[arg(long, value_name = "NAME", help_heading = "Samples")]
    image_column: Option<String>,

    /// The column of a Parquet file that has the labels [default: label or labels, or the only one of classes]
    #[arg(long, value_name = "NAME", help_heading = "Samples")]
    label_column: Option<String>,
}

fn named_number(text: &str) -> Result<(String, f64), String> {
    let parts = text.rsplit_once('=').and_then(|(name, number)| Some((name.to_owned(), number.trim().parse().ok()?)));
    parts.ok_or_else(|| "give the name of an input and a number, such as training=0".to_owned())
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

    /// Reads the model and makes it a classifier of images such as `data`, if there are any; says on standard error what runs it.
    pub fn classifier(&self, data: &DataArguments) -> anyhow::Result<Classifier> {
        let Some(path) = data.data.as_ref().filter(|_| self.input_shape.is_none()) else {
            return self.classifier_of(self.read()?, None);
        };
        let mut shape = data::image_shape(path, &data.columns())?;
        if let (Some([_, height, width]), Some(resized)) = (&mut shape, self.resizing()?.result()) {
            (*height, *width) = resized;
        }
        self.classifier_of(self.read()?, shape)
    }

    /// How images are brought to the size of the model.
    pub fn resizing(&self) -> anyhow::Result<Resizing> {
        let mut resizing = self.card()?.resizing.unwrap_or_default();
        if let Some(side) = self.resize {
            resizing = Resizing { size: Some(Size::ShortestEdge(side)), centre_crop: None, ..resizing };
        }
        if let Some(side) = self.center_crop {
            resizing.centre_crop = Some((side, side));
        }
        if let Some(resample) = self.resample {
            resizing.filter = match resample {
                Resample::Nearest => Filter::Nearest,
                Resample::Bilinear => Filter::Bilinear,
                Resample::Bicubic => Filter::Bicubic,
                Resample::Lanczos => Filter::Lanczos,
            };
        }
        Ok(resizing)
    }

    /// Makes a classifier of `model`, which was read from the model's file, and of samples `[C, H, W]`.
    pub fn classifier_of(&self, model: Model, sample_shape: Option<[usize; 3]>) -> anyhow::Result<Classifier> {
        let card = self.card()?;
        let options = ClassifierOptions {
            preprocessing: self.preprocessing(card.preprocessing),
            interface: InterfaceOptions {
                input: self.input.clone(),
                output: self.output.clone(),
                layout: self.layout,
                input_shape: self.input_shape.clone(),
                sample_shape,
                constants: self.input_value.iter().cloned().collect(),
            },
            value_range: None,
            class_names: card.class_names,
            max_memory: Some(self.engine.max_memory.unwrap_or_else(limits::usual_memory)),
        };
        let selected = engine::select(self.engine.engine, self.engine.engine_library.as_deref())?;
        tracing::info!("{}", selected.reason);
        let threads = match self.engine.threads {
            Some(0) => anyhow::bail!("--threads must be at least 1"),
            Some(threads) => threads,
            None => std::thread::available_parallelism().map_or(1, |n| n.get()),
        };
        let engine = selected.engine.with_provider(self.engine.provider)?;
        let classifier =
            Classifier::new(model, options, engine, threads).with_context(|| self.model.display().to_string())?;
        Ok(classifier.with_search_precision(self.engine.precision)?)
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
    fn columns(&self) -> Columns {
        Columns { image: self.image_column.clone(), label: self.label_column.clone() }
    }

    /// Whether there are any.
    pub fn is_given(&self) -> bool {
        self.data.is_some()
    }

    /// Reads the samples: those that are picked, or all in their order.
    pub fn read(
        &self,
        at_most: Option<Picked>,
        model: &ModelArguments,
        classifier: &Classifier,
    ) -> anyhow::Result<Samples> {
        let [channels, height, width] = classifier.image_shape();
        let resizing = model.resizing()?;
        if let Some((high, wide)) = resizing.result().filter(|size| *size != (height, width)) {
            tracing::warn!(
                "images are made {high}x{wide} and then {height}x{width} (height x width), the model's size"
            );
        }
        let wanted = Wanted {
            range: self.data_range,
            at_most,
            columns: self.columns(),
            resizing,
            ..Wanted::new(channels, height, width)
        };
        let path = self.data.as_ref().context("there are no clean samples: give some with --data")?;
        let samples = data::load(path, self.labels.as_deref(), &wanted)?;
        for note in &samples.notes {
            tracing::warn!("{note}");
        }
        Ok(samples)
    }
}
