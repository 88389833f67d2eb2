use neural_cleanse::mitigation::{Filtering, Layers, Mitigation, Optimiser, Pruning, Unlearning};
use neural_cleanse::report::{MitigationPage, MitigationReport};
use neural_cleanse::scan::HELD_OUT_PART;
use neural_cleanse::{Backdoor, CleanSet};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{self, GivenTrigger};
use crate::classifier::Classifier;
use crate::errors::{data_error, exception, parameter_error};
use crate::supervision::supervised;

/// A class, and the trigger that leads to it.
type BackdoorArrays<'py> = (usize, GivenTrigger<'py>);

/// Abstains from inputs on which a model reacts as it does to a trigger.
#[pyclass(frozen, module = "neural_cleanse._native")]
pub struct Filter(neural_cleanse::mitigation::Filter);

#[pymethods]
impl Filter {
    /// From what `mitigation.json` has of it.
    #[new]
    fn new(json: &str) -> PyResult<Self> {
        serde_json::from_str(json).map(Filter).map_err(parameter_error)
    }

    /// Whether it abstains from each of the images `x`.
    fn abstains<'py>(
        &self,
        py: Python<'py>,
        classifier: &Classifier,
        x: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray1<bool>>> {
        let x = arrays::images(x)?;
        let abstains = py.detach(|| self.0.abstains(&classifier.inner, x.view())).map_err(exception)?;
        Ok(abstains.into_pyarray(py))
    }

    /// `classifier` with the filter built in.
    fn embedded_in(&self, py: Python<'_>, classifier: &Classifier) -> PyResult<Classifier> {
        let model = py.detach(|| neural_cleanse::mitigation::embed_filter(classifier.inner.network(), &self.0));
        classifier.with_model(model.map_err(exception)?)
    }
}

/// Repairs `classifier` by `methods` in their order; gives the repaired one and `mitigation.json`.
///
/// Of the samples, `samples` are worked with and up to `test_samples` others measured on; where there are not so many, a
/// fifth is held out to measure on.
#[pyfunction]
#[pyo3(signature = (classifier, x, y, backdoors, *, true_backdoor, methods, options, samples, test_samples, seed, watch))]
#[allow(clippy::too_many_arguments, reason = "they are named, and Python fills them in")]
pub fn mitigate<'py>(
    py: Python<'py>,
    classifier: &Classifier,
    x: &Bound<'py, PyAny>,
    y: PyReadonlyArray1<'py, i64>,
    backdoors: Vec<BackdoorArrays<'py>>,
    true_backdoor: Option<BackdoorArrays<'py>>,
    methods: Vec<String>,
    options: &Bound<'py, PyDict>,
    samples: usize,
    test_samples: usize,
    seed: u64,
    watch: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Classifier, String)> {
    let methods = mitigations(&methods, options, seed)?;
    let backdoors = backdoors.into_iter().map(backdoor).collect::<PyResult<Vec<_>>>()?;
    let true_backdoor = true_backdoor.map(backdoor).transpose()?;
    let mut all = arrays::samples(x, Some(y))?;
    if samples.saturating_add(test_samples) < all.len() {
        all = all.subset(samples + test_samples, seed);
    }
    let held_out = if all.len() > samples { all.len() - samples } else { all.len() / HELD_OUT_PART };
    if held_out == 0 {
        let count = all.len();
        let message = format!("{count} samples are too few to repair a model with and to measure the result on");
        return Err(data_error(message));
    }
    let inner = &*classifier.inner;
    let repair = supervised(py, watch, |supervisor| {
        let (working, unseen) = all.split(held_out, seed);
        let (working, unseen) = (CleanSet::new(inner, working)?, CleanSet::new(inner, unseen)?);
        let mut observe = |method: &Mitigation, share: f64| supervisor.repairing(method, share);
        let true_backdoor = true_backdoor.as_ref();
        let repair =
            neural_cleanse::mitigate(inner, &backdoors, true_backdoor, &working, &unseen, &methods, &mut observe)?;
        let targets = backdoors.iter().map(|backdoor| backdoor.target_class).collect();
        let report = MitigationReport::new(&repair, targets, working.labels.len(), unseen.labels.len(), None);
        Ok((repair, report))
    })?;
    let (repair, report) = repair.map_err(exception)?;
    let repaired = classifier.with_model(repair.model)?;
    Ok((repaired, serde_json::to_string(&report).map_err(parameter_error)?))
}

/// `mitigation.html` for what `mitigation.json` has of the repair of the model `given` to `repaired`.
#[pyfunction]
pub fn mitigation_page(report: &str, given: &str, repaired: &str) -> PyResult<String> {
    let report: MitigationReport = serde_json::from_str(report).map_err(parameter_error)?;
    Ok(MitigationPage::new(&report, given, repaired, "neural_cleanse.mitigate(…)").to_string())
}

fn backdoor((target_class, trigger): BackdoorArrays<'_>) -> PyResult<Backdoor> {
    Ok(Backdoor { target_class, trigger: arrays::trigger(trigger)? })
}

/// The methods with `options`, which go by the names that they have on the command line.
fn mitigations(names: &[String], options: &Bound<'_, PyDict>, seed: u64) -> PyResult<Vec<Mitigation>> {
    let mut unlearning = Unlearning { seed, ..Unlearning::default() };
    let mut pruning = Pruning::default();
    let mut filtering = Filtering { seed, ..Filtering::default() };
    for (name, value) in options {
        match name.extract::<String>()?.as_str() {
            "epochs" => unlearning.epochs = value.extract()?,
            "stamped_share" => unlearning.stamped_share = value.extract()?,
            "distillation" => unlearning.distillation = value.extract()?,
            "temperature" => unlearning.temperature = value.extract()?,
            "mixing" => unlearning.mixing = value.extract()?,
            "shifting" => unlearning.shifting = value.extract()?,
            "further_triggers" => unlearning.further_triggers = value.extract()?,
            "searches" => unlearning.searches = value.extract()?,
            "batch_size" => unlearning.batch_size = value.extract()?,
            "learning_rate" => unlearning.learning_rate = value.extract()?,
            "optimiser" => unlearning.optimiser = optimiser(&value.extract::<String>()?)?,
            "last_layers" => unlearning.layers = Layers::Last(value.extract()?),
            "prune_at_most" => pruning.most = value.extract()?,
            "prune_asr_bound" => pruning.asr_bound = value.extract()?,
            "prune_accuracy_bound" => pruning.accuracy_bound = value.extract()?,
            "false_positive_rate" => filtering.false_positive_rate = value.extract()?,
            name => {
                return Err(parameter_error(format!(
                    "there is no option `{name}`; repairs have epochs, stamped_share, distillation, temperature, mixing, shifting, \
                     further_triggers, searches, batch_size, learning_rate, optimiser, last_layers, prune_at_most, prune_asr_bound, prune_accuracy_bound and \
                     false_positive_rate"
                )));
            }
        }
    }
    let method = |name: &String| match name.as_str() {
        "unlearning" => Ok(Mitigation::Unlearning(unlearning.clone())),
        "pruning" => Ok(Mitigation::Pruning(pruning)),
        "filtering" => Ok(Mitigation::Filtering(filtering)),
        _ => Err(parameter_error(format!("`{name}` is not a method: use unlearning, pruning or filtering"))),
    };
    let methods = names.iter().map(method).collect::<PyResult<Vec<_>>>()?;
    methods.iter().try_for_each(Mitigation::validate).map_err(parameter_error)?;
    Ok(methods)
}

fn optimiser(name: &str) -> PyResult<Optimiser> {
    match name {
        "adam" => Ok(Optimiser::ADAM),
        "sgd" => Ok(Optimiser::SGD),
        _ => Err(parameter_error(format!("`{name}` is not an optimiser: use adam or sgd"))),
    }
}
