//! Writes the gradient graph of an ONNX model:
//!
//! ```sh
//! differentiate IN.onnx OUT.onnx --of loss --wrt x,weights [--batch N] [--shape x=2,3] [--weights] [--simplify]
//! ```
//!
//! The names of the gradients, which follow the outputs of the model, are printed one per line.
//! With `--weights` computations on the model's constants are kept, so that these can be differentiated. With `--simplify`
//! the model is simplified first.

use std::collections::BTreeMap;
use std::process::ExitCode;

use onnx_grad::{Graph, ImportOptions, Model, differentiate, simplify};

const USAGE: &str = "usage: differentiate IN.onnx OUT.onnx --of OUT,.. --wrt VALUE,.. \
     [--batch N] [--shape INPUT=N,..] [--weights] [--simplify]";

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(names) => {
            names.iter().for_each(|name| println!("{name}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let (mut files, mut outputs, mut with_respect_to) = (Vec::new(), Vec::new(), Vec::new());
    let mut simplified = false;
    let mut options = ImportOptions { batch: 1, input_shapes: BTreeMap::new(), fold_weights: true };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(USAGE);
        match argument.as_str() {
            "--of" => outputs.extend(value()?.split(',').map(str::to_owned)),
            "--wrt" => with_respect_to.extend(value()?.split(',').map(str::to_owned)),
            "--batch" => options.batch = value()?.parse()?,
            "--shape" => {
                let value = value()?;
                let (name, extents) = value.split_once('=').ok_or(USAGE)?;
                let extents = extents.split(',').filter(|extent| !extent.is_empty());
                options.input_shapes.insert(name.to_owned(), extents.map(str::parse).collect::<Result<_, _>>()?);
            }
            "--weights" => options.fold_weights = false,
            "--simplify" => simplified = true,
            _ => files.push(argument),
        }
    }
    let [from, to] = files.as_slice() else { return Err(USAGE.into()) };

    let graph = Graph::import(&Model::read(from)?, &options)?;
    let graph = if simplified { simplify(graph)? } else { graph };
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let with_respect_to: Vec<&str> = with_respect_to.iter().map(String::as_str).collect();
    let gradients = differentiate(&graph, &outputs, &with_respect_to)?;
    std::fs::write(to, gradients.graph.to_model_bytes("gradients")?)?;
    Ok(gradients.names)
}
