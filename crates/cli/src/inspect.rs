use std::fmt::Display;
use std::io::Write;

use clap::Args;
use neural_cleanse::inversion::Objective;
use neural_cleanse::{Classifier, Config, Model};

use crate::options::ModelArguments;
use crate::{ERROR, SUCCESS, Status};

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
pub fn run(arguments: &InspectArguments) -> anyhow::Result<Status> {
    let model = arguments.model.read()?;
    let mut stdout = std::io::stdout().lock();
    describe(&mut stdout, &model)?;
    let scannable = arguments.model.classifier_of(model, None).and_then(|classifier| {
        Objective::new(&classifier, &Config::default(), SAMPLES, classifier.threads())?;
        Ok(classifier)
    });
    match scannable {
        Ok(classifier) => {
            describe_classifier(&mut stdout, &classifier)?;
            writeln!(stdout, "can be scanned: yes")?;
            Ok(SUCCESS)
        }
        Err(reason) => {
            writeln!(stdout, "can be scanned: no, {reason:#}")?;
            Ok(ERROR)
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
    let (input, output) = (network.input(), network.output());
    writeln!(
        out,
        "image:    {channels} channel(s), {height}×{width} pixels, layout {}, in `{input}`",
        network.layout()
    )?;
    for (name, value) in network.constant_inputs() {
        writeln!(out, "fixed:    `{name}` is taken to be {value}")?;
    }
    if network.is_quantised() {
        writeln!(out, "quantised: differentiated straight through, as if it did not round")?;
    }
    writeln!(out, "classes:  {}, given in `{output}` as {}", classifier.classes(), network.scores())
}

fn list(items: impl IntoIterator<Item = impl Display>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
