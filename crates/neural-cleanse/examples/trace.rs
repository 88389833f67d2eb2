//! Inverts every class of a model under several seeds and prints how its norm shrinks: one JSON document for each class, norm and
//! seed, with the best L1 norm (null before there is one) and the cross-entropy after each step.
//!
//! ```text
//! cargo run --release --example trace -- model.onnx clean.npz SCALE MEAN STD SEEDS
//! ```

use std::ops::ControlFlow;
use std::path::Path;

use neural_cleanse::data::{self, Picked, Wanted};
use neural_cleanse::engine::{self, EngineChoice};
use neural_cleanse::inversion::{Objective, Search};
use neural_cleanse::{Classifier, ClassifierOptions, CleanSet, Config, Model, Norm, Preprocessing};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, clean, scale, mean, std, seeds] = &arguments[..] else {
        return Err("usage: trace MODEL CLEAN SCALE MEAN STD SEEDS".into());
    };
    let preprocessing = Preprocessing { scale: scale.parse()?, mean: vec![mean.parse()?], std: vec![std.parse()?] };
    let options = ClassifierOptions { preprocessing, ..ClassifierOptions::default() };
    let engine = engine::select(EngineChoice::Auto, None)?.engine;
    let classifier = Classifier::new(Model::read(model)?, options, engine, 1)?;
    for seed in 0..seeds.parse()? {
        for norm in [Norm::L1, Norm::L2] {
            trace(&classifier, Path::new(model), Path::new(clean), norm, seed)?;
        }
    }
    Ok(())
}

fn trace(
    classifier: &Classifier,
    model: &Path,
    clean: &Path,
    norm: Norm,
    seed: u64,
) -> Result<(), Box<dyn std::error::Error>> {
    let [channels, height, width] = classifier.image_shape();
    let wanted = Wanted { at_most: Some(Picked { samples: 1000, seed }), ..Wanted::new(channels, height, width) };
    let samples = data::load(clean, None, &wanted)?;
    let (working, _) = samples.split(samples.len() / 5, seed);
    let working = CleanSet::new(classifier, working)?;
    let config = Config { seed, ..Config::fast(norm, height, width) };
    let mut objective = Objective::new(classifier, &config, working.labels.len(), 1)?;
    for class in 0..classifier.classes() {
        let mut search = Search::new(&objective, &working, &config, classifier.value_range(), class, 0)?;
        let mut best = Vec::with_capacity(config.steps);
        for steps in 1..=config.steps {
            search.advance(&mut objective, &working, steps, &mut |_| ControlFlow::Continue(()))?;
            best.push(search.best().map(|trigger| trigger.norm_l1()));
        }
        let document = serde_json::json!({
            "model": model.file_stem().map(|stem| stem.to_string_lossy()),
            "norm": norm.to_string(),
            "seed": seed,
            "class": class,
            "best": best,
            "xent": search.steps().iter().map(|step| step.cross_entropy).collect::<Vec<_>>(),
        });
        println!("{document}");
    }
    Ok(())
}
