//! Other triggers of the same backdoor.

use std::ops::ControlFlow;

use super::Backdoor;
use super::unlearning::{Unlearning, UnlearningStep};
use crate::classifier::Classifier;
use crate::clean_set::CleanSet;
use crate::error::Result;
use crate::inversion::{Config, Norm, Objective, invert};

/// [`Unlearning::further_triggers`] triggers for the class of each of `backdoors`, inverted from starting points of their own.
/// What did not converge is left out.
///
/// One trigger covers a part of what the model reacts to; where another search begins elsewhere it finds another part.
pub fn further_triggers(
    classifier: &Classifier,
    backdoors: &[Backdoor],
    train: &CleanSet,
    options: &Unlearning,
    observe: &mut dyn FnMut(UnlearningStep) -> ControlFlow<()>,
) -> Result<Vec<Backdoor>> {
    let mut further = Vec::new();
    if options.further_triggers == 0 || backdoors.is_empty() {
        return Ok(further);
    }
    let [_, height, width] = classifier.image_shape();
    let config = Config { seed: options.seed, ..Config::fast(Norm::L2, height, width) };
    let mut objective = Objective::new(classifier, &config, train.labels.len(), classifier.threads())?;
    let steps = backdoors.len() * options.further_triggers * config.steps;
    let mut before = 0;
    for backdoor in backdoors {
        for look in 1..=options.further_triggers as u64 {
            let class = backdoor.target_class;
            let inversion =
                invert(&mut objective, train, &config, classifier.value_range(), class, look, &mut |step| {
                    observe(UnlearningStep::Search { step: before + step.step, steps })
                })?;
            before += config.steps;
            if inversion.converged {
                further.push(Backdoor { target_class: class, trigger: inversion.trigger });
            }
        }
    }
    Ok(further)
}
