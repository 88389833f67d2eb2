use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use neural_cleanse::inversion::Objective;
use neural_cleanse::{Classifier, Config, Model};

use crate::options::ModelArguments;

/// Print what a model takes and gives, its operators, and whether it can be scanned.
///
/// Exit status: 0 if it can be scanned, 2 if not.
#[derive(Args)]
pub struct InspectArguments {
    #[command(flatten)]
    model: ModelArguments,
}

/// The number of samples for which the objective is built to see whether it can be.
const SAMPLES: usize = 2;

/// Runs the command.
pub fn run(arguments: &InspectArguments) -> anyhow::Result<ExitCode> {
    let model = arguments.model.read()?;
    let mut stdout = std::io::stdout().lock();
    describe(&mut stdout, &model)?;
    let scannable = arguments.model.classifier_of(model).and_then(|classifier| {
        Objective::new(&classifier, &Config::default(), SAMPLES, classifier.threads())?;
        Ok(classifier)
    });
    match scannable {
        Ok(classifier) => {
            describe_classifier(&mut stdout, &classifier)?;
            writeln!(stdout, "can be scanned: yes")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(reason) => {
            writeln!(stdout, "can be scanned: no, {reason:#}")?;
            Ok(ExitCode::from(crate::ERROR))
        }
    }
}

fn describe(out: &mut impl Write, model: &Model) -> std::io::Result<()> {
    let opset = |(domain, version): &(&str, i64)| match *domain {
        "" => format!("{version}"),
        domain => format!("{domain} {version}"),
    };
    let producer = model.producer();
    writeln!(out, "made by:  {}", if producer.is_empty() { "unknown" } else { &producer })?;
    writeln!(out, "format:   ONNX IR {}, opset {}", model.ir_version(), list(model.opsets().iter().map(opset)))?;
    writeln!(out, "inputs:   {}", list(model.inputs()))?;
    writeln!(out, "outputs:  {}", list(model.outputs()))?;
    let operators = model.operators();
    writeln!(out, "operators: {}", list(operators.iter().map(|(op, count)| format!("{op} ×{count}"))))
}

fn describe_classifier(out: &mut impl Write, classifier: &Classifier) -> std::io::Result<()> {
    let [channels, height, width] = classifier.image_shape();
    let network = classifier.network();
    writeln!(out, "image:    {channels} channel(s), {height}×{width} pixels, layout {}", network.layout())?;
    let kind = if network.ends_in_softmax() { "probabilities (the Softmax is left off)" } else { "logits" };
    writeln!(out, "classes:  {}, given as {kind}", classifier.classes())
}

fn list(items: impl IntoIterator<Item = impl Display>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
