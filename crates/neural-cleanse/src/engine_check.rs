//! Whether the engine computes what it should: what it makes of one minibatch is compared with what rten makes of it.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::classifier::Classifier;
use crate::clean_set::CleanSet;
use crate::engine::{Engine, Precision, Rten};
use crate::error::{Error, Result};
use crate::inversion::{Blueprint, Config, Evaluate, Evaluation, TriggerVariables};

/// How far the engine's figures may be from rten's, as a share of the length of rten's. Roundings differ from engine to
/// engine, and may put a value on the other side of a Relu.
const F32_TOLERANCE: f64 = 0.02;
const BF16_TOLERANCE: f64 = 0.3;

/// That the engine in which triggers are searched for computes the logits and gradients that rten does, of the first
/// minibatch of `working` with the trigger that a search begins with.
///
/// # Errors
/// If it does not, with the figures; or if either engine fails.
pub fn agrees_with_rten(classifier: &Classifier, working: &CleanSet, config: &Config) -> Result<()> {
    let engine = classifier.search_engine();
    if engine.name() == Rten.name() {
        return Ok(());
    }
    let ours = evaluate(&Rten, classifier, working, config)?;
    let theirs = evaluate(&**engine, classifier, working, config)?;
    let tolerance = match classifier.precision() {
        Precision::F32 => F32_TOLERANCE,
        Precision::Bf16 => BF16_TOLERANCE,
    };
    let beyond = |deviation: f64| deviation.is_nan() || deviation > tolerance;
    match deviations(&theirs, &ours).into_iter().find(|(_, deviation)| beyond(*deviation)) {
        Some((what, deviation)) if ours.cross_entropy.is_finite() => Err(Error::Classifier(format!(
            "{} {} does not compute what rten does: the {what} of one minibatch deviates by {:.1} % of its length, where \
             {:.0} % is the bound; scan with --engine rten, and please report the model",
            engine.name(),
            engine.version(),
            100.0 * deviation,
            100.0 * tolerance
        ))),
        _ => Ok(()),
    }
}

/// Of `theirs` from `ours`, as shares of the length of these.
fn deviations(theirs: &Evaluation, ours: &Evaluation) -> [(&'static str, f64); 3] {
    let [their_mask, our_mask] = [theirs, ours].map(|evaluation| evaluation.mask_gradient.iter().flatten());
    [
        ("logits", deviation(theirs.logits.iter(), ours.logits.iter())),
        ("gradient of the mask", deviation(their_mask, our_mask)),
        ("gradient of the pattern", deviation(theirs.pattern_gradient.iter(), ours.pattern_gradient.iter())),
    ]
}

fn evaluate(engine: &dyn Engine, classifier: &Classifier, working: &CleanSet, config: &Config) -> Result<Evaluation> {
    let samples = working.labels.len();
    let mut objective =
        Blueprint::new(classifier, config, samples)?.objective(classifier, engine, classifier.threads())?;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let start = TriggerVariables::new(config, classifier.image_shape(), classifier.value_range(), &mut rng);
    let rows: Vec<usize> = (0..samples.min(objective.batch())).collect();
    objective.evaluate(working.images.view(), &rows, &start.trigger(config), 0)
}

/// The Euclidean distance from `reference`, as a share of the length of that.
fn deviation<'a>(values: impl Iterator<Item = &'a f32>, reference: impl Iterator<Item = &'a f32> + Clone) -> f64 {
    let square = |value: f64| value * value;
    let length: f64 = reference.clone().map(|&r| square(f64::from(r))).sum();
    let distance: f64 = values.zip(reference).map(|(&v, &r)| square(f64::from(v) - f64::from(r))).sum();
    if distance == 0.0 { 0.0 } else { (distance / length).sqrt() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use ndarray::{ArrayD, ArrayViewD};

    use super::*;
    use crate::classifier::ClassifierOptions;
    use crate::data;
    use crate::engine::{EngineChoice, EngineError, Provider, Session, select};
    use crate::preprocessing::Preprocessing;

    /// rten, but that results with so many axes come out scaled.
    struct Scaled {
        axes: usize,
        factor: f32,
    }

    impl Engine for Scaled {
        fn name(&self) -> &'static str {
            "scaled"
        }

        fn version(&self) -> String {
            "1".to_owned()
        }

        fn with_precision(&self, _: Precision) -> Result<Arc<dyn Engine>, EngineError> {
            Ok(Arc::new(Scaled { ..*self }))
        }

        fn with_provider(&self, _: Provider) -> Result<Arc<dyn Engine>, EngineError> {
            Ok(Arc::new(Scaled { ..*self }))
        }

        fn compile(&self, model: &[u8], threads: usize) -> Result<Box<dyn Session>, EngineError> {
            Ok(Box::new(ScaledSession(Rten.compile(model, threads)?, Scaled { ..*self })))
        }
    }

    struct ScaledSession(Box<dyn Session>, Scaled);

    impl Session for ScaledSession {
        fn run(
            &mut self,
            inputs: &[(&str, ArrayViewD<'_, f32>)],
            outputs: &[&str],
        ) -> Result<Vec<ArrayD<f32>>, EngineError> {
            let results = self.0.run(inputs, outputs)?;
            Ok(results.into_iter().map(|r| if r.ndim() == self.1.axes { r * self.1.factor } else { r }).collect())
        }
    }

    fn working() -> CleanSet {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/fashion-mnist-400.npz");
        let samples = data::load(&path, None, &data::Wanted::new(1, 28, 28)).unwrap();
        CleanSet { images: samples.images, labels: samples.labels.unwrap() }
    }

    fn classifier(model: &str, engine: Arc<dyn Engine>) -> Classifier {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../fixtures/{model}.onnx"));
        let preprocessing = Preprocessing { scale: 1.0 / 255.0, mean: vec![0.2860], std: vec![0.3530] };
        let options = ClassifierOptions { preprocessing, ..ClassifierOptions::default() };
        Classifier::new(onnx_grad::Model::read(path).unwrap(), options, engine, 2).unwrap()
    }

    #[test]
    fn an_engine_that_computes_something_else_is_found_out() {
        let working = working();
        let check = |axes, factor| {
            let classifier = classifier("fmnist_clean", Arc::new(Scaled { axes, factor }));
            agrees_with_rten(&classifier, &working, &Config::default()).map_err(|error| error.to_string())
        };
        assert_eq!(check(2, 1.0), Ok(()));
        assert_eq!(check(4, 1.001), Ok(()));
        let error = check(2, 1.1).unwrap_err();
        let expected = "scaled 1 does not compute what rten does: the logits of one minibatch deviates by 10.0 %";
        assert!(error.starts_with(expected), "{error}");
        for (factor, percent) in [(0.5, "50.0 %"), (-1.0, "200.0 %"), (f32::NAN, "NaN %")] {
            let error = check(4, factor).unwrap_err();
            assert!(error.contains(&format!("gradient of the mask of one minibatch deviates by {percent}")), "{error}");
        }
    }

    /// With half of the tolerance: what is found out is far from what roundings come to.
    #[test]
    fn installed_engines_agree() {
        let working = working();
        for choice in [EngineChoice::OnnxRuntime, EngineChoice::OpenVino] {
            let Ok(selected) = select(choice, None) else {
                eprintln!("skipped: {choice} is not installed");
                continue;
            };
            for precision in [Precision::F32, Precision::Bf16] {
                let Ok(engine) = selected.engine.with_precision(precision) else { continue };
                for model in ["fmnist_clean", "fmnist_badnets", "resnet_clean", "resnet_badnets"] {
                    let classifier = classifier(model, Arc::new(Rten));
                    let config = Config { batch_size: 16, ..Config::default() };
                    let [ours, theirs] = [&Rten as &dyn Engine, &*engine]
                        .map(|engine| evaluate(engine, &classifier, &working, &config).unwrap());
                    let tolerance = if precision == Precision::F32 { F32_TOLERANCE } else { BF16_TOLERANCE };
                    for (what, deviation) in deviations(&theirs, &ours) {
                        eprintln!("{choice} {precision:?} {model}: {what} {deviation:.1e}");
                        assert!(deviation < tolerance / 2.0, "{choice} {precision:?} {model}: {what} {deviation}");
                    }
                }
            }
        }
    }
}
