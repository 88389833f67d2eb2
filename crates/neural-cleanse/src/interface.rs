//! Which of a model's inputs takes the image and in what shape, and which of its values has the scores.

use std::collections::BTreeMap;

use onnx_grad::{Extent, Graph, ImportOptions, Model, ValueSummary, simplify};

use crate::error::{Error, Result};
use crate::preprocessing::Layout;
use crate::scores::trailing_activation;

/// The batch for which a model is imported to see what it takes and gives; one, and the axis could not be told from
/// others of extent 1.
pub(crate) const PROBE_BATCH: usize = 2;

/// What goes into a model and comes out of it, where the model alone does not tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InterfaceOptions {
    /// The input that takes the images; `None` is the only one that can.
    pub input: Option<String>,
    /// The value of the model with the scores, which need not be one of its outputs; `None` is the only output that can have
    /// them, or the logits beside the probabilities that are made from them.
    pub output: Option<String>,
    /// The order of the axes of an image in the model; `None` tells it from the shape.
    pub layout: Option<Layout>,
    /// The shape of one image in the order of the model's axes, where the model leaves extents open or takes images as flat
    /// rows: `[C, H, W]`, `[H, W, C]` or, with one channel, `[H, W]`.
    pub input_shape: Option<Vec<usize>>,
    /// The shape of the samples, `[C, H, W]`, for what neither the model nor `input_shape` says.
    pub sample_shape: Option<[usize; 3]>,
    /// The values of inputs besides the image. Those of type bool are false unless they are given here.
    pub constants: BTreeMap<String, f64>,
}

/// The input that takes the images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageInput {
    pub(crate) name: String,
    pub(crate) layout: Layout,
    /// `[C, H, W]`
    pub(crate) image_shape: [usize; 3],
    /// The extents of the model's own axes after the first.
    pub(crate) extents: Vec<usize>,
}

/// A model narrowed to images and scores.
#[derive(Debug)]
pub(crate) struct Interface {
    /// With one input, the image, and one output, the scores, but for the one of an embedded filter.
    pub(crate) model: Model,
    pub(crate) image: ImageInput,
    pub(crate) scores: String,
    pub(crate) abstain: Option<String>,
    /// The other inputs that the scores depend on, and what they are taken to be.
    pub(crate) constants: Vec<(String, f64)>,
}

impl Interface {
    pub(crate) fn new(model: &Model, options: &InterfaceOptions) -> Result<Self> {
        check_names(&model.inputs(), &options.constants)?;
        let candidates = score_candidates(model, options)?;
        let abstain = abstain_output(model);
        let named: Vec<&str> = candidates.iter().chain(&abstain).map(String::as_str).collect();
        let mut narrowed = model.clone().with_outputs(&named)?;
        let input = image_input(&narrowed.inputs(), options)?;
        let constants = constants(&narrowed.inputs(), &input.name, options)?;
        for (name, value) in &constants {
            narrowed = narrowed.with_constant_input(name, *value)?;
        }
        let image = ImageInput::read(&input, options)?;
        narrowed = narrowed.with_input_extents(&image.name, &image.extents)?;
        let scores = choose_scores(&narrowed, &candidates)?;
        let kept: Vec<&str> = std::iter::once(&scores).chain(&abstain).map(String::as_str).collect();
        Ok(Interface { model: narrowed.with_outputs(&kept)?, image, scores, abstain, constants })
    }
}

/// What an embedded filter's output is called, unless the model has such a value already.
pub(crate) const ABSTAIN: &str = "abstain";

/// The output of a filter in a model: bool `[N]`, called [`ABSTAIN`] or that with a number.
pub(crate) fn abstain_output(model: &Model) -> Option<String> {
    let is_abstain = |output: &ValueSummary| {
        output.name.strip_prefix(ABSTAIN).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            && output.element.as_deref() == Some("bool")
            && output.shape.as_ref().is_some_and(|shape| shape.len() == 1)
    };
    model.outputs().into_iter().find(is_abstain).map(|output| output.name)
}

pub(crate) fn import_options(batch: usize) -> ImportOptions {
    ImportOptions { batch, input_shapes: BTreeMap::new(), fold_weights: true }
}

/// The values that may be the scores: what the user says, or all outputs of a floating-point type. A sequence of maps
/// counts as the tensor that it is made from.
fn score_candidates(model: &Model, options: &InterfaceOptions) -> Result<Vec<String>> {
    let tensor = |name: &str| model.unwrapped(name).to_owned();
    if let Some(name) = &options.output {
        return Ok(vec![tensor(name)]);
    }
    let outputs = model.outputs();
    if outputs.is_empty() {
        return Err(Error::Classifier("the model's graph has no outputs, and so no scores".into()));
    }
    let is_float = |output: &&ValueSummary| match output.element.as_deref() {
        Some(element) => matches!(element, "float32" | "float64" | "float16" | "bfloat16"),
        None => model.unwrapped(&output.name) != output.name,
    };
    let candidates: Vec<String> = outputs.iter().filter(is_float).map(|output| tensor(&output.name)).collect();
    if candidates.is_empty() {
        return Err(Error::Classifier(format!(
            "none of the model's outputs ({}) is of a floating-point type: a classifier gives a score for each class; if \
             another of its values has them, choose it (--output)",
            list(&outputs)
        )));
    }
    Ok(candidates)
}

/// The one of the `candidates` that has the scores.
fn choose_scores(model: &Model, candidates: &[String]) -> Result<String> {
    if let [only] = candidates {
        return Ok(only.clone());
    }
    let mut graph = simplify(Graph::import(model, &import_options(PROBE_BATCH))?)?;
    let batch = graph.inputs().first().and_then(|input| graph.shape(input).ok()?.first().copied());
    let mut likely = Vec::new();
    for name in candidates {
        let shape = graph.shape(name)?;
        let classes = shape.iter().product::<usize>() / batch.unwrap_or(1).max(1);
        if shape.first().copied() == batch && classes > 1 && shape[1..].contains(&classes) {
            likely.push(name.as_str());
        }
    }
    let mut made_from_others = Vec::new();
    for name in &likely {
        graph.set_outputs(&[name])?;
        if let Some((position, _)) = trailing_activation(&graph)
            && likely.iter().any(|other| graph.nodes()[position].inputs.first().is_some_and(|input| input == other))
        {
            made_from_others.push(*name);
        }
    }
    likely.retain(|name| !made_from_others.contains(name));
    if let Some(logits) = likely.iter().find(|name| **name == "logits") {
        return Ok((*logits).to_owned());
    }
    match likely[..] {
        [only] => Ok(only.to_owned()),
        _ => {
            let described: Vec<String> = candidates
                .iter()
                .map(|name| Ok(format!("{name}: {}", graph.value_type(name)?)))
                .collect::<Result<_>>()?;
            Err(Error::Classifier(format!(
                "the model has several outputs, and which one has the scores of the classes does not show: choose one \
                 (--output) of {} (for {PROBE_BATCH} images)",
                described.join(", ")
            )))
        }
    }
}

/// The input that takes the image, of those that the scores need.
fn image_input(inputs: &[ValueSummary], options: &InterfaceOptions) -> Result<ValueSummary> {
    if let Some(name) = &options.input {
        let chosen = inputs.iter().find(|input| input.name == *name).cloned();
        return chosen.ok_or_else(|| {
            Error::Classifier(format!("`{name}` is not an input that the scores need: these are {}", list(inputs)))
        });
    }
    let rank = |input: &ValueSummary| input.shape.as_ref().map(Vec::len);
    let can = |input: &&ValueSummary| {
        matches!(input.element.as_deref(), Some("float32" | "float64" | "float16" | "bfloat16" | "uint8"))
            && matches!(rank(input), None | Some(2..=4))
            && !options.constants.contains_key(&input.name)
    };
    let able: Vec<&ValueSummary> = inputs.iter().filter(can).collect();
    let with_planes: Vec<&ValueSummary> = able.iter().copied().filter(|input| rank(input) == Some(4)).collect();
    match (&able[..], &with_planes[..]) {
        (&[only], _) | (_, &[only]) => Ok(only.clone()),
        ([], _) => Err(Error::Classifier(format!("none of the model's inputs ({}) can take images", list(inputs)))),
        _ => Err(Error::Classifier(format!(
            "the model has several inputs that could take the images: choose one (--input) of {}",
            able.iter().map(|input| input.to_string()).collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// The values of all `inputs` but the image.
fn check_names(inputs: &[ValueSummary], constants: &BTreeMap<String, f64>) -> Result<()> {
    match constants.keys().find(|name| inputs.iter().all(|input| input.name != **name)) {
        Some(name) => Err(Error::Classifier(format!(
            "the model has no input `{name}` to give a value (--input-value); its inputs are {}",
            list(inputs)
        ))),
        None => Ok(()),
    }
}

fn constants(inputs: &[ValueSummary], image: &str, options: &InterfaceOptions) -> Result<Vec<(String, f64)>> {
    let value = |input: &ValueSummary| match options.constants.get(&input.name) {
        Some(&value) => Ok((input.name.clone(), value)),
        None if input.element.as_deref() == Some("bool") => Ok((input.name.clone(), 0.0)),
        None => Err(Error::Classifier(format!(
            "the scores need the input {input} besides the image `{image}`: give its value (--input-value {}=NUMBER), or \
             choose another image (--input)",
            input.name
        ))),
    };
    inputs.iter().filter(|input| input.name != image).map(value).collect()
}

fn list(values: &[ValueSummary]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl ImageInput {
    fn read(input: &ValueSummary, options: &InterfaceOptions) -> Result<Self> {
        let extent = |extent: &Extent| if let Extent::Fixed(extent) = extent { Some(*extent) } else { None };
        let declared: Vec<Option<usize>> = match &input.shape {
            Some(shape) => shape.iter().skip(1).map(extent).collect(),
            None => vec![None; 3],
        };
        let refuse = |problem: &str| Error::Classifier(format!("the images go into the input {input}, {problem}"));
        let given = match options.input_shape.as_deref() {
            None => None,
            Some(&[height, width]) => Some([1, height, width]),
            Some(&[a, b, c]) => Some([a, b, c]),
            Some(_) => return Err(refuse("and their shape (--input-shape) has to be two or three numbers")),
        };
        let layout = |axes: [Option<usize>; 3]| options.layout.unwrap_or_else(|| layout_of(axes));
        let (layout, image_shape) = match declared[..] {
            [a, b, c] => {
                let [a, b, c] = merged([a, b, c], given).ok_or_else(|| refuse("which the given shape contradicts"))?;
                let layout = layout([a, b, c]);
                let axes = layout.channels_first([a, b, c]);
                (layout, filled(axes, options.sample_shape))
            }
            [height, width] => {
                let axes = merged([Some(1), height, width], given)
                    .ok_or_else(|| refuse("which the given shape contradicts"))?;
                (Layout::Nchw, filled(axes, options.sample_shape))
            }
            [length] => match given {
                Some(axes) => {
                    let layout = layout(axes.map(Some));
                    (layout, Some(layout.channels_first(axes)))
                }
                None => (layout([None; 3]), unflattened(length, options.sample_shape)),
            },
            _ => return Err(refuse("which has to be [N, C, H, W], [N, H, W, C], [N, H, W] or flat, [N, C·H·W]")),
        };
        let image_shape = image_shape
            .filter(|shape| shape.iter().all(|&extent| extent > 0))
            .ok_or_else(|| refuse("whose size is open: give the shape of an image in it (--input-shape 3,224,224)"))?;
        let product = image_shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        let extents = match (&declared[..], product) {
            (&[Some(length)], product) if product != Some(length) => {
                return Err(refuse(&format!(
                    "which is not {image_shape:?} made flat: give the shape of an image (--input-shape)"
                )));
            }
            (&[_], Some(product)) => vec![product],
            (&[_, _], _) => image_shape[1..].to_vec(),
            _ => layout.of_model(image_shape).to_vec(),
        };
        Ok(ImageInput { name: input.name.clone(), layout, image_shape, extents })
    }
}

/// Few are channels, many are pixels.
fn layout_of([first, _, last]: [Option<usize>; 3]) -> Layout {
    let few = |extent: Option<usize>| extent.is_some_and(|extent| (1..=4).contains(&extent));
    if !few(first) && few(last) { Layout::Nhwc } else { Layout::Nchw }
}

/// The extents that are declared, and given where they are not; `None` where both are and differ.
fn merged(declared: [Option<usize>; 3], given: Option<[usize; 3]>) -> Option<[Option<usize>; 3]> {
    let Some(given) = given else { return Some(declared) };
    let fits = declared.iter().zip(&given).all(|(declared, given)| declared.is_none_or(|declared| declared == *given));
    fits.then(|| given.map(Some))
}

fn filled(axes: [Option<usize>; 3], samples: Option<[usize; 3]>) -> Option<[usize; 3]> {
    let [c, h, w] = [0, 1, 2].map(|axis| axes[axis].or(samples.map(|samples| samples[axis])));
    Some([c?, h?, w?])
}

/// The shape of images of `length` values: that of the samples or, where these are of another length, a square with one
/// channel or three.
fn unflattened(length: Option<usize>, samples: Option<[usize; 3]>) -> Option<[usize; 3]> {
    let Some(length) = length else { return samples };
    let square = |channels: usize| {
        let side = (length / channels).isqrt();
        (channels * side * side == length).then_some([channels, side, side])
    };
    samples.filter(|shape| shape.iter().product::<usize>() == length).or_else(|| square(1)).or_else(|| square(3))
}
