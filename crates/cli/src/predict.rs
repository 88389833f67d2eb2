use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ndarray::ArrayView1;
use neural_cleanse::Classifier;
use neural_cleanse::classifier::classes_of;
use neural_cleanse::report::MitigationReport;
use serde_json::json;

use crate::options::{DataArguments, ModelArguments};
use crate::{SUCCESS, Status, csv};

/// Classify inputs, one line each; inputs that a filter rejects are predicted as `abstain`.
///
/// The filter is the one that is built into the model, or the one of --filter.
#[derive(Args)]
pub struct PredictArguments {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    data: DataArguments,

    /// The mitigation.json of a repair by filtering
    #[arg(long, value_name = "FILE")]
    filter: Option<PathBuf>,

    /// How to print
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// sample,prediction,name,probability
    Csv,
    /// One JSON object a line
    Jsonl,
}

/// Runs the command.
pub fn run(arguments: &PredictArguments) -> anyhow::Result<Status> {
    let classifier = arguments.model.classifier(&arguments.data)?;
    let samples = arguments.data.read(None, &arguments.model, &classifier)?;
    let logits = classifier.predict(samples.images.view())?;
    let abstains = match &arguments.filter {
        None => classifier.embedded_abstain(samples.images.view())?,
        Some(path) => {
            let filter = MitigationReport::read(path)?.filter;
            let filter = filter.ok_or_else(|| anyhow::anyhow!("{} is of a repair without a filter", path.display()))?;
            Some(filter.abstains(&classifier, samples.images.view())?)
        }
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    if let Format::Csv = arguments.format {
        writeln!(out, "sample,prediction,name,probability")?;
    }
    for (sample, class) in classes_of(&logits).into_iter().enumerate() {
        let prediction = match &abstains {
            Some(abstains) if abstains[sample] => None,
            _ => Some((class, probability(logits.row(sample), class))),
        };
        write_line(&mut out, arguments.format, &classifier, sample, prediction)?;
    }
    out.flush()?;
    Ok(SUCCESS)
}

fn write_line(
    out: &mut impl Write,
    format: Format,
    classifier: &Classifier,
    sample: usize,
    prediction: Option<(usize, f64)>,
) -> std::io::Result<()> {
    match (format, prediction) {
        (Format::Csv, None) => writeln!(out, "{sample},abstain,,"),
        (Format::Csv, Some((class, probability))) => {
            let numbers = [sample.to_string(), class.to_string(), format!("{probability:.6}")];
            let [sample, prediction, probability] = &numbers;
            csv::write_line(
                out,
                [sample, prediction, &classifier.class_names()[class], probability].map(String::as_str),
            )
        }
        (Format::Jsonl, None) => writeln!(out, "{}", json!({"sample": sample, "prediction": "abstain"})),
        (Format::Jsonl, Some((class, probability))) => {
            let name = &classifier.class_names()[class];
            writeln!(
                out,
                "{}",
                json!({"sample": sample, "prediction": class, "name": name, "probability": probability})
            )
        }
    }
}

fn probability(logits: ArrayView1<'_, f32>, class: usize) -> f64 {
    let total: f64 = logits.iter().map(|&logit| f64::from(logit - logits[class]).exp()).sum();
    1.0 / total
}
