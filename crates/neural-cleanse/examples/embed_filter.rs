//! Fits a filter against a known trigger and writes the model with the filter in it.
//!
//! ```text
//! cargo run --example embed_filter -- model.onnx trigger.npz 7 clean.npz filtered.onnx [SCALE MEAN STD]
//! ```

use std::path::Path;
use std::sync::Arc;

use neural_cleanse::data::{self, Wanted};
use neural_cleanse::engine::Rten;
use neural_cleanse::mitigation::{Backdoor, Filter, Filtering, embed_filter};
use neural_cleanse::{Classifier, ClassifierOptions, CleanSet, Model, Preprocessing, Trigger};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, trigger, target_class, clean, filtered, preprocessing) = match &arguments[..] {
        [model, trigger, class, clean, filtered] => (model, trigger, class, clean, filtered, Preprocessing::default()),
        [model, trigger, class, clean, filtered, scale, mean, std] => {
            let preprocessing =
                Preprocessing { scale: scale.parse()?, mean: vec![mean.parse()?], std: vec![std.parse()?] };
            (model, trigger, class, clean, filtered, preprocessing)
        }
        _ => return Err("usage: embed_filter MODEL TRIGGER CLASS CLEAN FILTERED [SCALE MEAN STD]".into()),
    };
    let model = Model::read(model)?;
    let options = ClassifierOptions { preprocessing, ..ClassifierOptions::default() };
    let classifier = Classifier::new(model, options, Arc::new(Rten), 2)?;
    let [channels, height, width] = classifier.image_shape();
    let samples = data::load(Path::new(clean), None, &Wanted::new(channels, height, width))?;
    let clean = CleanSet::new(&classifier, samples)?;
    let backdoor = Backdoor { target_class: target_class.parse()?, trigger: Trigger::read_npz(Path::new(trigger))? };
    let filter = Filter::fit(&classifier, &[backdoor], &clean, &Filtering::default())?;
    embed_filter(classifier.network(), &filter)?.write(filtered)?;
    Ok(())
}
