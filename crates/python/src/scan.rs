use std::time::Instant;

use ndarray::Axis;
use neural_cleanse::data::Samples;
use neural_cleanse::inversion::{Objective, Step, invert as invert_class};
use neural_cleanse::report::{self, Evidence, ScanPage, ScanReport, trigger_png};
use neural_cleanse::scan::{Job, Plan, Survey, invert_jobs};
use neural_cleanse::{
    CleanSet, Config, Extent, Inversion, Mode, Norm, Rule, Scan, ScanOptions, Trigger, Window, scan_in_mode,
};
use numpy::{IntoPyArray, PyArray3, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde_json::{Map, Value};

use crate::arrays::{self, GivenTrigger, TriggerArrays};
use crate::classifier::Classifier;
use crate::errors::{exception, parameter_error};
use crate::supervision::supervised;

/// Source (`None` is all classes) and target with the trigger and its picture.
type Found<'py> = (Option<usize>, usize, TriggerArrays<'py>, Bound<'py, PyBytes>);

/// `scan.json`, the triggers and `report.html`.
type Scanned<'py> = (String, Vec<Found<'py>>, String);

/// Mask, pattern and whether it converged.
type Generated<'py> = (Bound<'py, PyArray3<f32>>, Bound<'py, PyArray3<f32>>, bool);

/// Norm and opacity of an [`Extent`].
type ExtentFields = Option<(f64, f64)>;

/// The fields of an [`Inversion`] as Python gets them; the steps are JSON.
type Inverted<'py> = (usize, TriggerArrays<'py>, bool, ExtentFields, String, u64);

/// The same as it comes back.
type InvertedAgain<'py> = (usize, GivenTrigger<'py>, bool, ExtentFields, String, u64);

/// The configuration that `preset` (fast or seed) is for `norm` and images of `[C, H, W]`, but for `parameters`, a JSON
/// object of fields of [`Config`].
fn config([_, height, width]: [usize; 3], preset: &str, norm: Norm, parameters: &str) -> PyResult<Config> {
    let preset = match preset {
        "fast" => Config::fast(norm, height, width),
        "seed" => Config { norm, ..Config::default() },
        _ => return Err(parameter_error(format!("`{preset}` is not a preset: use fast or seed"))),
    };
    let changes: Map<String, Value> = serde_json::from_str(parameters).map_err(parameter_error)?;
    let mut fields = serde_json::to_value(&preset).map_err(parameter_error)?;
    let mut config = preset;
    for (name, value) in changes {
        let Some(field) = fields.get_mut(&name) else {
            let names = fields.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>().join(", "));
            let names = names.unwrap_or_default();
            return Err(parameter_error(format!("there is no parameter `{name}`; the search has {names}")));
        };
        *field = value;
        config = serde_json::from_value(fields.clone()).map_err(|e| parameter_error(format!("{name}: {e}")))?;
    }
    config.validate().map_err(parameter_error)?;
    Ok(config)
}

fn rule(name: &str, norm: Norm, threshold: Option<f64>) -> PyResult<Rule> {
    let rule = match name {
        "ratio" => Rule::ratio(norm),
        "mad" => Rule::mad(),
        _ => return Err(parameter_error(format!("`{name}` is not a rule: use ratio or mad"))),
    };
    match threshold {
        Some(bound) => rule.with_threshold(bound).map_err(|e| parameter_error(format!("threshold: {e}"))),
        None => Ok(rule),
    }
}

/// Raises an error if a parameter of the search is unknown or out of its range.
#[pyfunction]
#[pyo3(signature = (*, preset, norm, parameters))]
pub fn check_parameters(preset: &str, norm: &str, parameters: &str) -> PyResult<()> {
    config([1, 1, 1], preset, norm.parse().map_err(parameter_error)?, parameters).map(|_| ())
}

/// What a scan is to do; the fields are those of the Python function `scan`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Request {
    mode: Option<String>,
    samples: usize,
    preset: String,
    norm: String,
    parameters: String,
    classes: Option<Vec<usize>>,
    rule: String,
    threshold: Option<f64>,
    force: bool,
    exhaustive: bool,
}

impl Request {
    /// The mode that was asked for, or the one that goes with the samples.
    fn mode(&self, has_samples: bool) -> PyResult<Mode> {
        match &self.mode {
            Some(mode) => mode.parse().map_err(parameter_error),
            None => Ok(if has_samples { Mode::Targets } else { Mode::Margin }),
        }
    }

    fn options(&self, classifier: &Classifier) -> PyResult<ScanOptions> {
        let norm: Norm = self.norm.parse().map_err(parameter_error)?;
        let config = config(classifier.inner.image_shape(), &self.preset, norm, &self.parameters)?;
        let rule = Some(rule(&self.rule, norm, self.threshold)?);
        Ok(ScanOptions { config, classes: self.classes.clone(), rule, force: self.force, exhaustive: self.exhaustive })
    }

    fn clean(&self, x: &Bound<'_, PyAny>, y: Option<PyReadonlyArray1<'_, i64>>, config: &Config) -> PyResult<Samples> {
        let clean = arrays::samples(x, y)?;
        Ok(if self.samples < clean.len() { clean.subset(self.samples, config.seed) } else { clean })
    }
}

/// Scans `classifier` and gives `scan.json`, the triggers, one for each class that was finished and each pair that an attack concerns, and
/// `report.html`. Only margins need no samples.
#[pyfunction]
#[pyo3(signature = (classifier, x, y, *, request, name, sha256, watch))]
#[allow(clippy::too_many_arguments, reason = "they are named, and Python fills them in")]
pub fn scan<'py>(
    py: Python<'py>,
    classifier: &Classifier,
    x: Option<&Bound<'py, PyAny>>,
    y: Option<PyReadonlyArray1<'py, i64>>,
    request: Request,
    name: &str,
    sha256: &str,
    watch: Option<&Bound<'py, PyAny>>,
) -> PyResult<Scanned<'py>> {
    let started = Instant::now();
    let options = request.options(classifier)?;
    let clean = x.map(|x| request.clean(x, y, &options.config)).transpose()?;
    let mode = request.mode(clean.is_some())?;
    if clean.is_none() && mode != Mode::Margin {
        return Err(parameter_error("without clean samples there is the mode margin alone: give x"));
    }
    let classifier = &*classifier.inner;
    let result = supervised(py, watch, |supervisor| {
        let scan = scan_in_mode(mode, classifier, clean.as_ref(), &options, supervisor)?;
        let seconds = started.elapsed().as_secs_f64();
        let report = ScanReport::new(&scan, classifier, &options.config, name, sha256, seconds);
        Illustrated::new(classifier, clean, scan, report)
    })?;
    result.map_err(exception)?.into_python(py)
}

/// The classes that a scan begins with, if it can be done.
#[pyfunction]
#[pyo3(signature = (classifier, x, y, *, request))]
pub fn first_classes<'py>(
    py: Python<'py>,
    classifier: &Classifier,
    x: &Bound<'py, PyAny>,
    y: Option<PyReadonlyArray1<'py, i64>>,
    request: Request,
) -> PyResult<Vec<usize>> {
    let options = request.options(classifier)?;
    let clean = request.clean(x, y, &options.config)?;
    let plan = py.detach(|| Plan::new(&classifier.inner, &clean, &options)).map_err(exception)?;
    Ok(plan.first_jobs().iter().map(|job| job.class).collect())
}

/// A class, a look, and the window that it is confined to: top, left, height and width.
type PlainJob = (usize, u64, Option<[usize; 4]>);

/// Does some jobs of a scan.
#[pyfunction]
#[pyo3(signature = (classifier, x, y, *, request, jobs))]
pub fn invert<'py>(
    py: Python<'py>,
    classifier: &Classifier,
    x: &Bound<'py, PyAny>,
    y: Option<PyReadonlyArray1<'py, i64>>,
    request: Request,
    jobs: Vec<PlainJob>,
) -> PyResult<Vec<Inverted<'py>>> {
    let options = request.options(classifier)?;
    let clean = request.clean(x, y, &options.config)?;
    let jobs: Vec<Job> = jobs.into_iter().map(job).collect();
    let inner = &*classifier.inner;
    let inversions = supervised(py, None, |observer| invert_jobs(inner, &clean, &options.config, &jobs, observer))?;
    inversions.map_err(exception)?.into_iter().map(|inversion| inverted(py, inversion)).collect()
}

/// The jobs that what came of those so far calls for; none once all are `done`.
#[pyfunction]
#[pyo3(signature = (classifier, x, y, done, *, request))]
pub fn next_jobs<'py>(
    py: Python<'py>,
    classifier: &Classifier,
    x: &Bound<'py, PyAny>,
    y: Option<PyReadonlyArray1<'py, i64>>,
    done: Vec<(PlainJob, InvertedAgain<'py>)>,
    request: Request,
) -> PyResult<Vec<PlainJob>> {
    let options = request.options(classifier)?;
    let clean = request.clean(x, y, &options.config)?;
    let survey = survey(done)?;
    let inner = &*classifier.inner;
    let jobs = supervised(py, None, |_| Plan::new(inner, &clean, &options)?.next_jobs(&survey))?;
    let plain = |window: Window| [window.top, window.left, window.height, window.width];
    Ok(jobs.map_err(exception)?.iter().map(|job| (job.class, job.look, job.window.map(plain))).collect())
}

/// Concludes a scan from what came of all its jobs; gives the same as an exhaustive `scan`.
#[pyfunction]
#[pyo3(signature = (classifier, x, y, done, *, request, name, sha256, seconds))]
#[allow(clippy::too_many_arguments, reason = "they are named, and Python fills them in")]
pub fn conclude<'py>(
    py: Python<'py>,
    classifier: &Classifier,
    x: &Bound<'py, PyAny>,
    y: Option<PyReadonlyArray1<'py, i64>>,
    done: Vec<(PlainJob, InvertedAgain<'py>)>,
    request: Request,
    name: &str,
    sha256: &str,
    seconds: f64,
) -> PyResult<Scanned<'py>> {
    let options = request.options(classifier)?;
    let clean = request.clean(x, y, &options.config)?;
    let survey = survey(done)?;
    let classifier = &*classifier.inner;
    let result = supervised(py, None, |_| {
        let scan = Plan::new(classifier, &clean, &options)?.conclude(survey)?;
        let report = ScanReport::new(&scan, classifier, &options.config, name, sha256, seconds);
        Illustrated::new(classifier, Some(clean), scan, report)
    })?;
    result.map_err(exception)?.into_python(py)
}

fn job((class, look, window): PlainJob) -> Job {
    let window = window.map(|[top, left, height, width]| Window { top, left, height, width });
    Job { class, look, window }
}

fn survey(done: Vec<(PlainJob, InvertedAgain<'_>)>) -> PyResult<Survey> {
    let done = done.into_iter().map(|(plain, fields)| Ok((job(plain), inversion(fields)?)));
    Ok(Survey::of(done.collect::<PyResult<Vec<_>>>()?))
}

fn inverted(py: Python<'_>, inversion: Inversion) -> PyResult<Inverted<'_>> {
    let Inversion { target_class, trigger, converged, extent, steps, gradient_samples } = inversion;
    let extent = extent.map(|Extent { norm_l1, opacity }| (norm_l1, opacity));
    let steps = serde_json::to_string(&steps).map_err(parameter_error)?;
    Ok((target_class, arrays::of_trigger(py, trigger), converged, extent, steps, gradient_samples))
}

fn inversion(fields: InvertedAgain<'_>) -> PyResult<Inversion> {
    let (target_class, trigger, converged, extent, steps, gradient_samples) = fields;
    Ok(Inversion {
        target_class,
        trigger: arrays::trigger(trigger)?,
        converged,
        extent: extent.map(|(norm_l1, opacity)| Extent { norm_l1, opacity }),
        steps: serde_json::from_str(&steps).map_err(parameter_error)?,
        gradient_samples,
    })
}

/// `scan.json` as SARIF, both as text.
#[pyfunction]
pub fn sarif(report: &str) -> PyResult<String> {
    let report: ScanReport = serde_json::from_str(report).map_err(parameter_error)?;
    serde_json::to_string_pretty(&report::sarif(&report)).map_err(parameter_error)
}

/// The report of a scan, with what it found and a picture of each.
struct Illustrated {
    report: ScanReport,
    found: Vec<(Option<usize>, usize, Trigger, Vec<u8>)>,
    page: String,
}

impl Illustrated {
    fn new(
        classifier: &neural_cleanse::Classifier,
        clean: Option<Samples>,
        scan: Scan,
        report: ScanReport,
    ) -> neural_cleanse::Result<Self> {
        let (mut found, mut evidence) = (Vec::new(), Vec::new());
        if let Some(clean) = clean {
            let clean = CleanSet::new(classifier, clean)?;
            for (source, target, trigger) in triggers(&scan) {
                found.push((source, target, trigger.clone(), picture(classifier, &clean, source, target, trigger)?));
            }
            evidence = Evidence::gather(&scan, classifier, &clean)?;
        }
        let page = ScanPage::new(&report, &evidence, classifier.value_range(), "neural_cleanse.scan(…)")?.to_string();
        Ok(Illustrated { report, found, page })
    }

    fn into_python(self, py: Python<'_>) -> PyResult<Scanned<'_>> {
        let report = serde_json::to_string(&self.report).map_err(parameter_error)?;
        let found = |(source, target, trigger, picture): (_, _, _, Vec<u8>)| {
            (source, target, arrays::of_trigger(py, trigger), PyBytes::new(py, &picture))
        };
        Ok((report, self.found.into_iter().map(found).collect(), self.page))
    }
}

/// The trigger of each class that was finished and of each pair that an attack concerns, with source and target.
fn triggers(scan: &Scan) -> impl Iterator<Item = (Option<usize>, usize, &Trigger)> {
    let classes = scan.classes.iter().map(|class| (None, class.inversion.target_class, &class.inversion.trigger));
    let pairs = scan.pairs.iter().flat_map(|pairs| pairs.attacked());
    classes.chain(pairs.map(|(pair, inversion)| (Some(pair.source), pair.target, &inversion.trigger)))
}

/// The trigger's picture as PNG, on the first sample that it is to send to the target.
fn picture(
    classifier: &neural_cleanse::Classifier,
    clean: &CleanSet,
    source: Option<usize>,
    target: usize,
    trigger: &Trigger,
) -> neural_cleanse::Result<Vec<u8>> {
    let sample = clean.rows_to_send(source, target).first().copied().unwrap_or(0);
    trigger_png(trigger, clean.images.index_axis(Axis(0), sample), classifier.value_range())
}

/// Inverts the trigger of one class and gives mask, pattern and whether it converged.
#[pyfunction]
#[pyo3(signature = (classifier, x, y, target, *, preset, norm, parameters, watch))]
#[allow(clippy::too_many_arguments, reason = "they are named, and Python fills them in")]
pub fn generate_backdoor<'py>(
    py: Python<'py>,
    classifier: &Classifier,
    x: &Bound<'py, PyAny>,
    y: Option<PyReadonlyArray1<'py, i64>>,
    target: usize,
    preset: &str,
    norm: &str,
    parameters: &str,
    watch: Option<&Bound<'py, PyAny>>,
) -> PyResult<Generated<'py>> {
    let norm: Norm = norm.parse().map_err(parameter_error)?;
    let config = config(classifier.inner.image_shape(), preset, norm, parameters)?;
    let clean = arrays::samples(x, y)?;
    let classifier = &*classifier.inner;
    let inversion = supervised(py, watch, |supervisor| {
        let working = CleanSet::new(classifier, clean)?;
        let mut objective = Objective::new(classifier, &config, working.labels.len(), classifier.threads())?;
        let mut observe = |step: &Step| supervisor.stepped(target, step);
        invert_class(&mut objective, &working, &config, classifier.value_range(), target, 0, &mut observe)
    })?;
    let Inversion { trigger, converged, .. } = inversion.map_err(exception)?;
    Ok((trigger.mask.into_pyarray(py), trigger.pattern.into_pyarray(py), converged))
}
