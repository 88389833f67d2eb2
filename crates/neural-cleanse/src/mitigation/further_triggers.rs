//! Other triggers of the same backdoor.

use std::ops::ControlFlow;

use super::Backdoor;
use super::unlearning::{Unlearning, UnlearningStep};
use crate::classifier::Classifier;
use crate::clean_set::CleanSet;
use crate::error::Result;
use crate::inversion::{Config, Norm, Objective, TriggerKind, invert};

/// [`Unlearning::further_triggers`] triggers for the class of each of `backdoors`, inverted from starting points of their own in
/// the `search`-th of [`Unlearning::searches`], counted from 0. What did not converge is left out.
///
/// One trigger covers a part of what the model reacts to; where another search begins elsewhere it finds another part, and
/// where some parts are unlearned already, what is left.
pub fn further_triggers(
    classifier: &Classifier,
    backdoors: &[Backdoor],
    train: &CleanSet,
    options: &Unlearning,
    search: usize,
    observe: &mut dyn FnMut(UnlearningStep) -> ControlFlow<()>,
) -> Result<Vec<Backdoor>> {
    let mut further = Vec::new();
    if options.further_triggers == 0 || backdoors.is_empty() {
        return Ok(further);
    }
    let [_, height, width] = classifier.image_shape();
    let fast = Config { seed: options.seed, ..Config::fast(Norm::L2, height, width) };
    let in_a_search = backdoors.len() * options.further_triggers * fast.steps;
    let steps = options.number_of_searches() * in_a_search;
    let mut before = search * in_a_search;
    let looks = search * options.further_triggers + 1..=(search + 1) * options.further_triggers;
    let kind = |backdoor: &Backdoor| TriggerKind::from(backdoor.trigger.stamp);
    for backdoors in backdoors.chunk_by(|a, b| kind(a) == kind(b)) {
        let config = Config { trigger: kind(&backdoors[0]), ..fast.clone() };
        let mut objective = Objective::new(classifier, &config, train.labels.len(), classifier.threads())?;
        for (class, look) in
            backdoors.iter().flat_map(|backdoor| looks.clone().map(|look| (backdoor.target_class, look as u64)))
        {
            let range = classifier.value_range();
            let inversion = invert(&mut objective, train, &config, range, class, look, &mut |step| {
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
