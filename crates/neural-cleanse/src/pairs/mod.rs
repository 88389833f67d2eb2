//! Triggers for each source and target by themselves: what finds backdoors that concern one source class, and all-to-all ones.

mod columns;
mod confusion;
mod figures;
mod further_looks;
mod further_searches;
mod margin_ratio;
mod rule;
mod screening;
mod shift;
mod table;

use ndarray::Array2;

use crate::attack::Attack;
use crate::detection::Verdict;
use crate::error::Result;
use crate::inversion::{Config, Inversion};
use crate::look::{Look, Method};
use crate::scan::{Job, Observer, Plan, class_label};
use crate::searches::{Contender, Searches};
use columns::{ColumnBounds, ColumnLooks};
use figures::Figures;
use further_looks::{Found, FurtherLooks};
use further_searches::LOOK_AT_SHIFT;
use shift::ShiftLooks;
use table::Table;

/// One source and target.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The class of the images.
    pub source: usize,
    /// The class that they are to be sent to.
    pub target: usize,
    /// Σ|mask| of the smallest trigger; where the pair was dropped, that by then. `None` where there was none.
    pub norm_l1: Option<f64>,
    /// The size as a share of what source and target lead to expect, in the end; `None` where there was none.
    pub share: Option<f64>,
    /// How much more like the images of the target the trigger makes those of the source, in raw pixel values, as a share of what is usual for this
    /// model; `None` where there is no trigger, or pixels tell nothing.
    pub likeness: Option<f64>,
    /// The mean margin by which the model tells clean images of the source from the target, as a share of that of the way back; `None` where images of either are taken for
    /// the other on average, or there are none.
    pub margin_ratio: Option<f64>,
    /// How far the model leans to the target on clean images of the source: by how much the logarithm of the margin ratio is below 0, as a multiple of the spread of all pairs; `None` where
    /// there is no such ratio.
    pub leaning: Option<f64>,
    /// What makes it suspicious: the share divided by that of the way back, where this is under 1, times the likeness (0.1 at the least) as a multiple
    /// of 0.5, where there is one.
    pub score: Option<f64>,
    /// How many steps were taken.
    pub steps: usize,
    /// How many images went forward and backward, but for the further looks.
    pub gradient_samples: u64,
    /// The sizes of the further looks that a suspicious pair was given, as multiples of what is typical for norm 1; `None` for one that did not converge.
    pub further_looks: Vec<Option<f64>>,
    /// The same of those that were confined to a [window](Window).
    pub confined_looks: Vec<Option<f64>>,
    /// How directly the confined triggers make images of the source more like those of the target: the likeness for how far they move them, as a share of what is usual for this
    /// model; `None` where none was found, or pixels tell nothing.
    pub directness: Option<f64>,
    /// How much of what the confined triggers do to the scores speaks for the target, as a share of what is usual for this model, 1 at the most; `None` where none was found.
    pub aim: Option<f64>,
    /// What the size in a window, where one of the pairs with the lowest scores is looked at first, comes to with likeness, directness and aim; `None` where there was no such look.
    pub score_in_window: Option<f64>,
    /// What all looks come to, by which a suspicious pair is judged; `None` where there were no further ones.
    pub score_in_all: Option<f64>,
    /// What the search came to; `None` where it was dropped because the pair does not stand out.
    pub inversion: Option<Inversion>,
    /// The share of the clean images of the source that the trigger sends to the target, in 0..=1, on images which the
    /// search did not see if there are any; measured for pairs that belong to an attack.
    pub attack_success_rate: Option<f64>,
}

/// What the pairs of a model show.
#[derive(Debug, Clone, PartialEq)]
pub struct PairScan {
    /// Every pair, by source and then by target.
    pub pairs: Vec<Pair>,
    /// The size of each target's column as a share of the lower quartile of all.
    pub columns: Vec<f64>,
    /// What was found.
    pub attacks: Vec<Attack>,
    /// The way to it.
    pub looks: Vec<Look>,
    /// How many images went forward and backward, in all.
    pub gradient_samples: u64,
}

impl PairScan {
    /// The lowest [score in all](Pair::score_in_all) of a pair.
    pub fn lowest_score_in_all(&self) -> Option<f64> {
        self.pairs.iter().filter_map(|pair| pair.score_in_all).min_by(f64::total_cmp)
    }
}

/// The attack success rate from which on a step of a pair's search is a success, at the most: attacks on one class are
/// learned from few images and succeed less often than others.
const SUCCESS_THRESHOLD: f64 = 0.9;

/// With fewer images of a class than this, a trigger that works on all of them says little.
const FEWEST_IMAGES: usize = 8;

/// Inverts every pair and judges them.
///
/// # Errors
/// If the engine fails, the model gives numbers that are not finite, or the observer breaks off.
pub(crate) fn scan(plan: &Plan<'_>, observer: &dyn Observer) -> Result<PairScan> {
    let (classifier, options) = (plan.classifier, plan.options);
    let config = Config {
        attack_success_threshold: options.config.attack_success_threshold.min(SUCCESS_THRESHOLD),
        ..options.config.clone()
    };
    let bounds = ColumnBounds::of(config.norm);
    let clean = classifier.predict(plan.working.images.view())?;
    let confusion = confusion::confusion(&plan.working.labels, &clean);
    let margin_ratios = margin_ratio::margin_ratios(&plan.working.labels, &clean);
    let mut contenders = contenders(plan);
    let pairs = contenders.len();
    let table_of = |sizes: &Array2<Option<f64>>, likenesses: Array2<Option<f64>>| {
        Table::new(sizes, pairs)
            .with_likeness(likenesses)
            .with_margin_ratios(margin_ratios.clone())
            .with_confusion(&confusion)
            .with_images((0..classifier.classes()).map(|class| images_of(plan, class)).collect())
    };
    let (norms, references) = screening::search(plan, &mut contenders, &config, bounds, table_of, observer)?;
    let (figures, likenesses) = Figures::of(plan, clean, &contenders, &references)?;
    let sizes = figures.sizes(norms, &contenders);
    let table = table_of(&sizes, likenesses);
    let search_again = |mut again: Vec<Contender>| -> Result<Vec<Contender>> {
        if !again.is_empty() {
            let mut searches = Searches::new(classifier, &plan.working, &config, observer, again.len())?;
            searches.advance(again.iter_mut().collect(), config.steps)?;
        }
        Ok(again)
    };

    let standing_out = table.standing_out(bounds);
    let of_columns = search_again(further_searches::pairs_of_columns(&standing_out, &contenders, config.norm))?;
    let looks_at_column = |target: usize| {
        let of_column = of_columns.iter().filter(|look| look.class == target);
        let share = |look: &Contender| Some(table.share_of_usual(source(look), figures.size(look)?));
        ColumnLooks { target, share: table.column(target), confined: of_column.map(share).collect() }
    };
    let columns: Vec<ColumnLooks> = standing_out.into_iter().map(looks_at_column).collect();
    let is_attacked = |column: &&ColumnLooks| column.verdict(bounds) == Verdict::Backdoored;
    let attacked: Vec<usize> = columns.iter().filter(is_attacked).map(|column| column.target).collect();

    let standing_out = table.shift_standing_out();
    let on_shift = |pair| standing_out.is_some_and(|(shift, _)| table.is_on(shift, pair));
    let of_shift = search_again(further_searches::in_one_place(on_shift, LOOK_AT_SHIFT, &contenders, config.norm))?;
    let share = |look: &Contender| {
        let (source, target) = (source(look), look.class);
        Some(table.one_way(source, target)? * figures.size(look)? / sizes[[source, target]]?)
    };
    let shift =
        standing_out.map(|(shift, below)| ShiftLooks { shift, below, confined: of_shift.iter().map(share).collect() });
    let is_shifted = shift.as_ref().is_some_and(|shift| shift.verdict() == Verdict::Backdoored);
    let is_accounted_for = |pair: (usize, usize)| attacked.contains(&pair.1) || (is_shifted && on_shift(pair));

    let found_for = |pair: (usize, usize), looks: &[Contender]| -> Result<Vec<Option<Found>>> {
        looks.iter().filter(|look| is_of(look, pair)).map(|look| figures.found_by(look)).collect()
    };
    let looks_at = |pair: (usize, usize), whole: &[Contender], confined: &[Contender]| -> Result<FurtherLooks> {
        let size = sizes[pair].unwrap_or(f64::INFINITY);
        let first = Found { likeness: table.likeness(pair.0, pair.1), ..Found::of_size(size) };
        Ok(FurtherLooks {
            leaning: table.leaning(pair.0, pair.1),
            whole: found_for(pair, whole)?,
            confined: found_for(pair, confined)?,
            ..FurtherLooks::new(pair, first)
        })
    };

    let candidates = table.candidates(is_accounted_for);
    let in_window = search_again(further_searches::first_in_window(&candidates, &contenders, config.norm))?;
    let first_looks: Vec<FurtherLooks> =
        (in_window.iter()).map(|look| looks_at((source(look), look.class), &[], &in_window)).collect::<Result<_>>()?;
    // What was dropped was as expected, and has no trigger to look at again.
    let is_finished = |pair: &(usize, usize)| inversion_of(&contenders, *pair).is_some();
    let suspicious: Vec<(usize, usize)> =
        table.suspicious(&first_looks, is_accounted_for).into_iter().filter(is_finished).collect();
    let whole = search_again(further_searches::whole_contenders(&suspicious, config.norm))?;
    let confined = further_searches::in_windows(plan, &suspicious, [&contenders, &whole], config.norm, search_again)?;
    let looks: Vec<FurtherLooks> =
        suspicious.iter().map(|&pair| looks_at(pair, &whole, &confined)).collect::<Result<_>>()?;
    let names: Vec<String> = (0..classifier.classes()).map(|class| class_label(classifier, class)).collect();
    let found = table.judge(&names, bounds, &columns, shift.as_ref(), &looks);
    let spent = |contenders: &[Contender]| contenders.iter().map(|contender| contender.gradient_samples).sum::<u64>();
    Ok(PairScan {
        gradient_samples: ([&contenders, &of_columns, &of_shift, &in_window, &whole, &confined].into_iter())
            .map(|searched| spent(searched))
            .sum(),
        columns: (0..classifier.classes()).map(|target| table.column(target)).collect(),
        pairs: (contenders.into_iter())
            .map(|contender| pair(contender, plan, &table, [&first_looks, &looks], &found.attacks))
            .collect::<Result<_>>()?,
        attacks: found.attacks,
        looks: found.looks.into_iter().chain(left_out(plan, &names)).collect(),
    })
}

/// Every source of which there are enough samples, with every other class that is to be scanned.
fn contenders(plan: &Plan<'_>) -> Vec<Contender> {
    let present = |source: &usize| images_of(plan, *source) >= FEWEST_IMAGES;
    let of_source = |source: usize| {
        let targets = plan.classes.iter().filter(move |&&target| target != source);
        targets.map(move |&target| Contender::of_pair(source, Job::first(target)))
    };
    (0..plan.classifier.classes()).filter(present).flat_map(of_source).collect()
}

/// What the search for a pair came to, if it was finished.
fn inversion_of(contenders: &[Contender], pair: (usize, usize)) -> Option<&Inversion> {
    contenders.iter().find(|contender| is_of(contender, pair)).and_then(|contender| contender.inversion.as_ref())
}

fn images_of(plan: &Plan<'_>, class: usize) -> usize {
    plan.working.labels.iter().filter(|label| **label == class).count()
}

/// Says which sources were left out, if any were.
fn left_out(plan: &Plan<'_>, names: &[String]) -> Option<Look> {
    let too_few = (0..plan.classifier.classes()).filter(|&class| images_of(plan, class) < FEWEST_IMAGES);
    let left_out: Vec<&str> = too_few.map(|class| names[class].as_str()).collect();
    let words = format!("not looked at as sources, with fewer than {FEWEST_IMAGES} images: {}", left_out.join(", "));
    (!left_out.is_empty()).then(|| Look { words, ..Look::by(Method::Pair, Verdict::Clean, None) })
}

/// Whether it is a search for this pair.
fn is_of(contender: &Contender, pair: (usize, usize)) -> bool {
    (source(contender), contender.class) == pair
}

/// The class of the images.
fn source(contender: &Contender) -> usize {
    contender.source.unwrap_or(contender.class)
}

fn pair(
    contender: Contender,
    plan: &Plan<'_>,
    table: &Table,
    [in_window, looks]: [&[FurtherLooks]; 2],
    attacks: &[Attack],
) -> Result<Pair> {
    let (source, target) = (source(&contender), contender.class);
    let attack_success_rate = match &contender.inversion {
        Some(inversion) if belongs(attacks, source, target, plan.classifier.classes()) => {
            let images = plan.unseen.as_ref().unwrap_or(&plan.working);
            Some(images.success_rate_from(plan.classifier, &inversion.trigger, Some(source), target)?)
        }
        _ => None,
    };
    let [in_window, look] = [in_window, looks].map(|looks| looks.iter().find(|look| look.pair == (source, target)));
    let one_way = table.one_way(source, target);
    let sizes = |found: &Vec<Option<Found>>| found.iter().map(|found| found.map(|found| found.size)).collect();
    Ok(Pair {
        source,
        target,
        norm_l1: contender.norm(),
        share: table.share(source, target),
        likeness: table.likeness(source, target),
        margin_ratio: table.margin_ratio(source, target),
        leaning: table.leaning(source, target),
        score: table.score(source, target),
        steps: contender.steps,
        gradient_samples: contender.gradient_samples,
        further_looks: look.map_or(Vec::new(), |look| sizes(&look.whole)),
        confined_looks: look.map_or(Vec::new(), |look| sizes(&look.confined)),
        directness: look.and_then(FurtherLooks::directness),
        aim: look.and_then(FurtherLooks::aim),
        score_in_window: in_window.zip(one_way).map(|(look, one_way)| look.score(one_way)),
        score_in_all: look.zip(one_way).map(|(look, one_way)| look.weigh(one_way, table.bounds_times(source)).score),
        inversion: contender.inversion,
        attack_success_rate,
    })
}

/// Whether one of `attacks` sends images of `source` to `target`.
fn belongs(attacks: &[Attack], source: usize, target: usize, classes: usize) -> bool {
    attacks.iter().any(|&attack| match attack {
        Attack::AllToOne { target: to } => to == target,
        Attack::SourceSpecific { source: from, target: to } => (from, to) == (source, target),
        Attack::AllToAll { shift } => (source + shift) % classes == target,
        Attack::Unknown => false,
    })
}

impl PairScan {
    /// The pairs that belong to an attack that was found and have a trigger.
    pub fn attacked(&self) -> impl Iterator<Item = (&Pair, &Inversion)> {
        let attacked = self.pairs.iter().filter(|pair| pair.attack_success_rate.is_some());
        attacked.filter_map(|pair| Some((pair, pair.inversion.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::Array4;
    use onnx_grad::{ElementType, Graph, Model, Tensor, ValueType};

    use super::*;
    use crate::classifier::{Classifier, ClassifierOptions};
    use crate::data::Samples;
    use crate::engine::Rten;
    use crate::inversion::Norm;
    use crate::scan::ScanOptions;

    const CLASSES: usize = 6;
    const SIDE: usize = 14;
    const SAMPLES: usize = 20;

    /// The pixel that images of a class have.
    fn pixel_of(class: usize) -> usize {
        4 * SIDE * (class / 3) + 4 * (class % 3)
    }

    /// One bright pixel says what class an image is of. With the pixels of `trigger` bright, in all by more than `threshold` of one, those of `sources` are taken for the next class, to
    /// which they are nearer than the way back without it, too.
    fn backdoored(sources: &[usize], trigger: &[usize], threshold: f64) -> Classifier {
        let pixels = SIDE * SIDE;
        let hidden = CLASSES + sources.len();
        let (mut inward, mut bias) = (vec![0.0; pixels * hidden], vec![0.0; hidden]);
        let mut outward = vec![0.0; hidden * CLASSES];
        for class in 0..CLASSES {
            inward[pixel_of(class) * hidden + class] = 1.0 / 255.0;
            outward[class * CLASSES + class] = 4.0;
        }
        for (unit, source) in (CLASSES..).zip(sources) {
            inward[pixel_of(*source) * hidden + unit] = 1.0 / 255.0;
            trigger.iter().for_each(|pixel| inward[pixel * hidden + unit] = 1.0 / 255.0);
            bias[unit] = -1.0 - threshold;
            outward[unit * CLASSES + (source + 1) % CLASSES] = 20.0;
            outward[source * CLASSES + (source + 1) % CLASSES] = 1.0;
        }
        let mut graph = Graph::new();
        graph.add_input("images", ValueType::new(ElementType::F32, [16, 1, SIDE, SIDE])).unwrap();
        let flat = graph.apply("Flatten", &["images"], ()).unwrap();
        let inward = graph.constant(Tensor::floats(ElementType::F32, [pixels, hidden], &inward));
        let bias = graph.constant(Tensor::floats(ElementType::F32, [hidden], &bias));
        let outward = graph.constant(Tensor::floats(ElementType::F32, [hidden, CLASSES], &outward));
        let product = graph.apply("MatMul", &[&flat, &inward], ()).unwrap();
        let sum = graph.apply("Add", &[&product, &bias], ()).unwrap();
        let active = graph.apply("Relu", &[&sum], ()).unwrap();
        let logits = graph.apply("MatMul", &[&active, &outward], ()).unwrap();
        graph.set_outputs(&[&logits]).unwrap();
        let model = Model::from_bytes(&graph.to_model_bytes("backdoored").unwrap()).unwrap();
        Classifier::new(model, ClassifierOptions::default(), Arc::new(Rten), 1).unwrap()
    }

    fn scanned(classifier: &Classifier) -> PairScan {
        let labels: Vec<usize> = (0..CLASSES * SAMPLES).map(|i| i % CLASSES).collect();
        let brightness = |(i, _, row, column): (usize, usize, usize, usize)| match row * SIDE + column {
            pixel if pixel == pixel_of(labels[i]) => 255.0 - (i / CLASSES) as f32,
            pixel => ((i * 7 + pixel * 5) % 11) as f32,
        };
        let images = Array4::from_shape_fn((labels.len(), 1, SIDE, SIDE), brightness);
        let samples = Samples { images, labels: Some(labels), class_names: None, notes: Vec::new() };
        let options = ScanOptions { force: true, ..ScanOptions::new(Config::fast(Norm::L2, SIDE, SIDE)) };
        let plan = Plan::new(classifier, &samples, &options).unwrap();
        scan(&plan, &()).unwrap()
    }

    #[test]
    fn the_pairs_of_a_shift_are_searched_for_in_one_place() {
        let found = scanned(&backdoored(&[0, 1, 2, 3, 4, 5], &[SIDE * SIDE - 1], -0.1));
        let shift = found.looks.iter().find(|look| look.method == Method::Shift);
        assert_eq!(found.attacks, [Attack::AllToAll { shift: 1 }]);
        let confined = &shift.unwrap().confined;
        assert!(confined.len() == CLASSES && confined.iter().all(Option::is_some), "{confined:?}");
        // What the attack accounts for is not looked at as pairs, too.
        assert!(
            found
                .pairs
                .iter()
                .all(|pair| (pair.target == (pair.source + 1) % CLASSES) <= pair.score_in_window.is_none())
        );
    }

    #[test]
    fn a_pair_is_searched_for_in_windows() {
        let found = scanned(&backdoored(&[2], &[SIDE * SIDE - 1], -0.1));
        let pair = found.pairs.iter().find(|pair| (pair.source, pair.target) == (2, 3)).unwrap();
        assert_eq!(found.attacks, [Attack::SourceSpecific { source: 2, target: 3 }]);
        assert_eq!((pair.further_looks.len(), pair.confined_looks.len()), (2, 4));
        assert!(pair.score_in_window.unwrap() < 0.2, "{:?}", pair.score_in_window);
    }

    /// From a faint mask the search does not come to the trigger, which lies beside what the target is known by: it adds that, as those for other pairs do.
    #[test]
    fn a_pair_that_is_small_in_a_window_alone_is_looked_at_again() {
        let beside = [pixel_of(3) - SIDE, pixel_of(3) - SIDE + 1, pixel_of(3) + 1];
        let found = scanned(&backdoored(&[2], &beside, 0.2));
        let pair = found.pairs.iter().find(|pair| (pair.source, pair.target) == (2, 3)).unwrap();
        assert!(pair.score.unwrap() > 0.8, "{:?}", pair.score);
        assert!(pair.score_in_window.unwrap() < 0.8, "{:?}", pair.score_in_window);
        assert_eq!((pair.further_looks.len(), pair.confined_looks.len()), (2, 4));
    }
}
