//! Writes the gradient of each image's cross-entropy with respect to the image:
//!
//! ```text
//! cargo run --release --example input_gradient -- MODEL.onnx IN.npz OUT.npz --engine rten [--batch N]
//! ```
//!
//! `IN.npz` has `x` [N, C, H, W], which the model is given as they are, and `labels` [N]; N is a multiple of the batch.
//! `OUT.npz` gets `logits` and `gradient`. The time of a step, one batch forward and backward, is printed in
//! milliseconds, the median of all.

use std::fs::File;
use std::time::Instant;

use ndarray::{Array1, Array2, Array4, ArrayView1, Axis, concatenate};
use ndarray_npy::{NpzReader, NpzWriter};
use neural_cleanse::engine::{EngineChoice, select};
use neural_cleanse::{Classifier, ClassifierOptions, InterfaceOptions, Model};
use onnx_grad::{ElementType, Graph, ValueType, differentiate};

const THREADS: usize = 2;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, samples, out, engine, batch) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [model, samples, out, "--engine", engine] => (model, samples, out, engine, 1),
        [model, samples, out, "--engine", engine, "--batch", batch] => (model, samples, out, engine, batch.parse()?),
        _ => return Err("usage: input_gradient MODEL.onnx IN.npz OUT.npz --engine ENGINE [--batch N]".into()),
    };
    let mut samples = NpzReader::new(File::open(samples)?)?;
    let images: Array4<f32> = samples.by_name("x")?;
    let labels: Array1<i64> = samples.by_name("labels")?;

    let engine = select(engine.parse::<EngineChoice>()?, None)?.engine;
    let (_, channels, height, width) = images.dim();
    let interface = InterfaceOptions { sample_shape: Some([channels, height, width]), ..InterfaceOptions::default() };
    let options = ClassifierOptions { interface, ..ClassifierOptions::default() };
    let classifier = Classifier::new(Model::read(model)?, options, engine.clone(), THREADS)?;
    let network = classifier.network();
    let batch = network.batch(batch);
    let mut graph = Graph::new();
    let input = network.add_images(&mut graph, batch)?;
    let logits = network.append(&mut graph, &input)?;
    graph.add_input("chosen", ValueType::new(ElementType::F32, [batch, network.classes()]))?;
    let likelihood = graph.apply("LogSoftmax", &[&logits], [("axis", 1)])?;
    let loss = graph.apply("Mul", &[&likelihood, "chosen"], ())?;
    graph.add_output(&logits)?;
    let gradients = differentiate(&graph, &[&loss], &[&input])?;

    let mut session = engine.compile(&gradients.graph.to_model_bytes("gradient")?, THREADS)?;
    let (mut all_logits, mut all_gradients, mut milliseconds) = (Vec::new(), Vec::new(), Vec::new());
    for (images, labels) in images.axis_chunks_iter(Axis(0), batch).zip(labels.axis_chunks_iter(Axis(0), batch)) {
        let chosen = minus_one_hot(labels, network.classes())?;
        let inputs = [(&*input, images.into_dyn()), ("chosen", chosen.view().into_dyn())];
        let start = Instant::now();
        let outputs = session.run(&inputs, &[&logits, &gradients.names[0]])?;
        milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
        let [logits, gradient] = <[_; 2]>::try_from(outputs).map_err(|_| "the engine left out an output")?;
        all_logits.push(logits);
        all_gradients.push(gradient);
    }
    let mut written = NpzWriter::new(File::create(out)?);
    for (name, parts) in [("logits", all_logits), ("gradient", all_gradients)] {
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        written.add_array(name, &concatenate(Axis(0), &views)?)?;
    }
    written.finish()?;
    milliseconds.sort_by(f64::total_cmp);
    println!("{:.1}", milliseconds[milliseconds.len() / 2]);
    Ok(())
}

/// -1 in each row at its label: times the log-likelihoods, their cross-entropy.
fn minus_one_hot(labels: ArrayView1<'_, i64>, classes: usize) -> Result<Array2<f32>, Box<dyn std::error::Error>> {
    let mut chosen = Array2::zeros((labels.len(), classes));
    for (mut row, &label) in chosen.outer_iter_mut().zip(labels) {
        *row.get_mut(usize::try_from(label)?).ok_or("a label is not one of the classes")? = -1.0;
    }
    Ok(chosen)
}
