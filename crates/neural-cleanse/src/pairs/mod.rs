//! Triggers for each source and target by themselves: what finds backdoors that concern one source class, and all-to-all ones.

mod columns;
mod further_looks;
mod rule;
mod screening;
mod shift;
mod table;

use ndarray::{Array2, Axis};
use rayon::prelude::*;

use crate::aim;
use crate::attack::Attack;
use crate::detection::{Verdict, median};
use crate::error::Result;
use crate::inversion::{Config, Inversion, Norm};
use crate::likeness::{self, Likeness, Usual};
use crate::logits::classes_of;
use crate::look::{Look, Method};
use crate::scan::{FURTHER_LOOKS, Job, Observer, Plan, class_label};
use crate::searches::{Contender, Searches};
use crate::window::Window;
use columns::{ColumnBounds, ColumnLooks};
use further_looks::{Found, FurtherLooks};
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

/// The attack success rate from which on a step of a pair's search is a success, at the most: attacks on one class are
/// learned from few images and succeed less often than others.
const SUCCESS_THRESHOLD: f64 = 0.9;

/// With fewer images of a class than this, a trigger that works on all of them says little.
const FEWEST_IMAGES: usize = 8;

/// The parts of each side of the image that further looks are confined to: the trigger for one source is smaller than that for all. The smaller the window, the fewer natural
/// triggers fit into it; but a patch must.
const WINDOWS: [usize; 2] = [5, 7];

/// That of the looks at the pairs of a column or a shift that stands out.
const WINDOW_OF_MANY: usize = 5;

/// That of the look at a pair by which the suspicious ones are chosen.
const FIRST_WINDOW: usize = 7;

/// The number of the look at a pair whose column stands out: those before it are the further ones of the pair in the first of the [`WINDOWS`], and those in the second follow the next.
const LOOK_AT_COLUMN: u64 = 2 * FURTHER_LOOKS as u64 + 1;

/// The number of the look at a pair by which the suspicious ones are chosen.
const FIRST_LOOK_IN_WINDOW: u64 = LOOK_AT_COLUMN + 1;

/// The number of the look at a pair whose shift stands out: those before it are the pair's own.
const LOOK_AT_SHIFT: u64 = 4 * FURTHER_LOOKS as u64 + 1;

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
    let confusion = confusion(&plan.working.labels, &clean);
    let mut contenders = contenders(plan);
    let (norms, references) = screening::search(plan, &mut contenders, &config, bounds, &confusion, observer)?;
    let typically = typical_size_per_norm(&contenders, &references);
    let sizes = sizes(norms, &contenders, typically);
    let (likenesses, usually) = likenesses(plan, &contenders, &references)?;
    let table = Table::new(&sizes, contenders.len()).with_likeness(likenesses).with_confusion(&confusion);
    let search_again = |mut again: Vec<Contender>| -> Result<Vec<Contender>> {
        if !again.is_empty() {
            let mut searches = Searches::new(classifier, &plan.working, &config, observer, again.len())?;
            searches.advance(again.iter_mut().collect(), config.steps)?;
        }
        Ok(again)
    };

    let relative_norm = |look: &Contender| Some(converged_norm(look)? * relative_size(look, typically));
    let standing_out = table.standing_out(bounds);
    let of_columns = search_again(pairs_of_columns(&standing_out, &contenders, config.norm))?;
    let looks_at_column = |target: usize| {
        let of_column = of_columns.iter().filter(|look| look.class == target);
        let share = |look: &Contender| Some(table.share_of_usual(source(look), relative_norm(look)?));
        ColumnLooks { target, share: table.column(target), confined: of_column.map(share).collect() }
    };
    let columns: Vec<ColumnLooks> = standing_out.into_iter().map(looks_at_column).collect();
    let is_attacked = |column: &&ColumnLooks| column.verdict(bounds) == Verdict::Backdoored;
    let attacked: Vec<usize> = columns.iter().filter(is_attacked).map(|column| column.target).collect();

    let standing_out = table.shift_standing_out();
    let on_shift = |pair| standing_out.is_some_and(|(shift, _)| table.is_on(shift, pair));
    let of_shift = search_again(in_one_place(on_shift, LOOK_AT_SHIFT, &contenders, config.norm))?;
    let share = |look: &Contender| {
        let (source, target) = (source(look), look.class);
        Some(table.one_way(source, target)? * relative_norm(look)? / sizes[[source, target]]?)
    };
    let shift =
        standing_out.map(|(shift, below)| ShiftLooks { shift, below, confined: of_shift.iter().map(share).collect() });
    let is_shifted = shift.as_ref().is_some_and(|shift| shift.verdict() == Verdict::Backdoored);
    let is_accounted_for = |pair: (usize, usize)| attacked.contains(&pair.1) || (is_shifted && on_shift(pair));

    let usual_aim = usual_aim(plan, &clean, &contenders, &references)?;
    let found_by = |look: &Contender| -> Result<Option<Found>> {
        let Some(size) = relative_norm(look) else { return Ok(None) };
        let alike = likeness_by(plan, look)?;
        let aim = aim::relative(aim_by(plan, &clean, look)?, usual_aim);
        let likeness = alike.and_then(|alike| usually.likeness(alike));
        let directness = alike.and_then(|alike| usually.directness(alike));
        Ok(Some(Found { size, likeness, directness, aim }))
    };
    let found_for = |pair: (usize, usize), looks: &[Contender]| -> Result<Vec<Option<Found>>> {
        looks.iter().filter(|look| is_of(look, pair)).map(found_by).collect()
    };
    let looks_at = |pair: (usize, usize), whole: &[Contender], confined: &[Contender]| -> Result<FurtherLooks> {
        let size = sizes[pair].unwrap_or(f64::INFINITY);
        let first = Found { likeness: table.likeness(pair.0, pair.1), ..Found::of_size(size) };
        Ok(FurtherLooks { pair, first, whole: found_for(pair, whole)?, confined: found_for(pair, confined)? })
    };

    // What was dropped was as expected, and has no trigger to look at again.
    let is_finished = |pair: &(usize, usize)| inversion_of(&contenders, *pair).is_some();
    let candidates: Vec<(usize, usize)> = table.candidates(is_accounted_for).into_iter().filter(is_finished).collect();
    let in_window = search_again(first_in_window(&candidates, &contenders, config.norm))?;
    let first_looks: Vec<FurtherLooks> = in_window
        .iter()
        .map(|look| looks_at((source(look), look.class), &[], std::slice::from_ref(look)))
        .collect::<Result<_>>()?;
    let suspicious: Vec<(usize, usize)> =
        table.suspicious(&first_looks, is_accounted_for).into_iter().filter(is_finished).collect();
    let whole = search_again(whole_contenders(&suspicious, config.norm))?;
    let mut confined: Vec<Contender> = Vec::new();
    for window in WINDOWS.into_iter().enumerate() {
        let before = [&contenders[..], &whole, &confined];
        let looks = confined_contenders(plan, &suspicious, &before, window, config.norm)?;
        confined.extend(search_again(looks)?);
    }
    let looks: Vec<FurtherLooks> =
        suspicious.iter().map(|&pair| looks_at(pair, &whole, &confined)).collect::<Result<_>>()?;
    let names: Vec<String> = (0..classifier.classes()).map(|class| class_label(classifier, class)).collect();
    let found = table.judge(&names, bounds, &columns, shift.as_ref(), &looks);
    let spent = |contenders: &[Contender]| contenders.iter().map(|contender| contender.gradient_samples).sum::<u64>();
    Ok(PairScan {
        gradient_samples: [&contenders, &of_columns, &of_shift, &in_window, &whole, &confined]
            .map(|searched| spent(searched))
            .iter()
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

/// The further looks at the `suspicious` pairs that have the whole image to change.
fn whole_contenders(suspicious: &[(usize, usize)], norm: Norm) -> Vec<Contender> {
    let looks = |&(source, target): &(usize, usize)| {
        Job::whole(target, norm, 0).map(move |job| Contender::of_pair(source, job))
    };
    suspicious.iter().flat_map(looks).collect()
}

/// The looks at the `candidates` that are confined to where the `first` trigger of each is most opaque. Under the maximum norm, which makes triggers faint rather than small, there are
/// none.
fn first_in_window(candidates: &[(usize, usize)], first: &[Contender], norm: Norm) -> Vec<Contender> {
    if norm == Norm::Inf {
        return Vec::new();
    }
    let look = |&pair: &(usize, usize)| {
        let window = Window::densest(&inversion_of(first, pair)?.trigger, FIRST_WINDOW);
        let job = Job { class: pair.1, look: FIRST_LOOK_IN_WINDOW, window: Some(window) };
        Some(Contender::of_pair(pair.0, job))
    };
    candidates.iter().filter_map(look).collect()
}

/// The looks at the `suspicious` pairs that are confined to a window of this `part` of each side, where a trigger of the pair does most, of those that the looks `before` found. Under the
/// maximum norm there are none, either.
fn confined_contenders(
    plan: &Plan<'_>,
    suspicious: &[(usize, usize)],
    before: &[&[Contender]],
    (round, part): (usize, usize),
    norm: Norm,
) -> Result<Vec<Contender>> {
    if norm == Norm::Inf {
        return Ok(Vec::new());
    }
    let mut confined = Vec::new();
    for &pair in suspicious {
        let of_pair = before.iter().flat_map(|looks| looks.iter()).filter(|look| is_of(look, pair));
        let triggers = of_pair.filter_map(|look| look.inversion.as_ref()).filter(|inversion| inversion.converged);
        let triggers = triggers.map(|inversion| &inversion.trigger);
        let window = Window::of_most_effect(plan.classifier, &plan.working, (Some(pair.0), pair.1), triggers, part)?;
        let jobs = window.into_iter().flat_map(|window| Job::confined(pair.1, window, norm, round));
        confined.extend(jobs.map(|job| Contender::of_pair(pair.0, job)));
    }
    Ok(confined)
}

/// For each of `targets`, the triggers from every source, confined to one place.
fn pairs_of_columns(targets: &[usize], first: &[Contender], norm: Norm) -> Vec<Contender> {
    let of_target = |&target: &usize| in_one_place(move |pair| pair.1 == target, LOOK_AT_COLUMN, first, norm);
    targets.iter().flat_map(of_target).collect()
}

/// The triggers for the pairs that belong together, confined to the one place where those that were found for them are most opaque together, by the look of this number. Under the
/// maximum norm, which makes triggers faint rather than small, there are none.
fn in_one_place(
    belongs: impl Fn((usize, usize)) -> bool,
    look: u64,
    first: &[Contender],
    norm: Norm,
) -> Vec<Contender> {
    if norm == Norm::Inf {
        return Vec::new();
    }
    let is_finished = |contender: &&Contender| belongs((source(contender), contender.class));
    let finished =
        || first.iter().filter(is_finished).filter_map(|contender| Some((contender, contender.inversion.as_ref()?)));
    let Some(window) = Window::densest_of(finished().map(|(_, inversion)| &inversion.trigger), WINDOW_OF_MANY) else {
        return Vec::new();
    };
    let confined = |(contender, _): (&Contender, _)| {
        let job = Job { class: contender.class, look, window: Some(window) };
        Contender::of_pair(source(contender), job)
    };
    finished().map(confined).collect()
}

/// What the size of a trigger is to its norm: the median of the pairs at `references` or, where none was dropped, of all.
fn typical_size_per_norm(contenders: &[Contender], references: &[usize]) -> Option<f64> {
    median_of_typical(contenders.iter().map(size_per_norm), references)
}

/// The median of the figures of the pairs at `references` or, where there are none, of all.
fn median_of_typical(figures: impl Iterator<Item = Option<f64>>, references: &[usize]) -> Option<f64> {
    let is_typical = |i: &usize| references.is_empty() || references.contains(i);
    let of_typical = figures.enumerate().filter_map(|(i, figure)| figure.filter(|_| is_typical(&i)));
    median(&of_typical.collect::<Vec<_>>())
}

/// The sizes of the triggers in place of their `norms`, as multiples of what a trigger of norm 1 `typically` has. What was dropped counts as typical.
fn sizes(mut norms: Array2<Option<f64>>, contenders: &[Contender], typically: Option<f64>) -> Array2<Option<f64>> {
    for contender in contenders {
        let norm = &mut norms[[source(contender), contender.class]];
        *norm = norm.map(|norm| norm * relative_size(contender, typically));
    }
    norms
}

fn relative_size(contender: &Contender, typically: Option<f64>) -> f64 {
    size_per_norm(contender).zip(typically).map_or(1.0, |(size, typical)| size / typical)
}

/// Of a search that was finished and has a trigger.
fn size_per_norm(contender: &Contender) -> Option<f64> {
    let inversion = contender.inversion.as_ref()?;
    let norm = inversion.trigger.norm_l1();
    inversion.size().filter(|size| norm > 0.0 && *size > 0.0).map(|size| size / norm)
}

/// The [likeness](likeness::likeness) that the triggers of all pairs give, `[source, target]`, as a share of the usual, and what that is: the medians of the
/// pairs at `references` or, where none was dropped, of all.
fn likenesses(plan: &Plan<'_>, contenders: &[Contender], references: &[usize]) -> Result<(Array2<Option<f64>>, Usual)> {
    let measured: Vec<Option<Likeness>> =
        contenders.par_iter().map(|contender| likeness_by(plan, contender)).collect::<Result<_>>()?;
    let usual_of = |figure: fn(Likeness) -> Option<f64>| {
        median_of_typical(measured.iter().map(|likeness| likeness.and_then(figure)), references)
    };
    let usual = Usual { taken: usual_of(|likeness| Some(likeness.taken)), directness: usual_of(Likeness::directness) };
    let classes = plan.classifier.classes();
    let mut likenesses = Array2::from_elem((classes, classes), None);
    for (contender, likeness) in contenders.iter().zip(measured) {
        likenesses[[source(contender), contender.class]] = likeness.and_then(|likeness| usual.likeness(likeness));
    }
    Ok((likenesses, usual))
}

/// Of a search that was finished.
fn likeness_by(plan: &Plan<'_>, contender: &Contender) -> Result<Option<Likeness>> {
    match &contender.inversion {
        Some(inversion) => likeness::likeness(&plan.working, &inversion.trigger, source(contender), contender.class),
        None => Ok(None),
    }
}

/// What the [aim](aim::aim) of triggers usually is: the median of the pairs at `references` or, where none was dropped, of all. `clean` are the logits of the working images.
fn usual_aim(
    plan: &Plan<'_>,
    clean: &Array2<f32>,
    contenders: &[Contender],
    references: &[usize],
) -> Result<Option<f64>> {
    let measured: Vec<Option<f64>> =
        contenders.iter().map(|contender| aim_by(plan, clean, contender)).collect::<Result<_>>()?;
    Ok(median_of_typical(measured.into_iter(), references))
}

/// Of a search that was finished.
fn aim_by(plan: &Plan<'_>, clean: &Array2<f32>, contender: &Contender) -> Result<Option<f64>> {
    match &contender.inversion {
        Some(Inversion { trigger, .. }) => {
            aim::aim(plan.classifier, &plan.working, clean, trigger, (source(contender), contender.class))
        }
        None => Ok(None),
    }
}

/// With fewer images of a class taken for another than this, it might be the image.
const FEWEST_CONFUSED: f64 = 2.0;

/// The share of the clean images of each class (row) that the model takes for each (column), by their `labels` and its `logits`; 0 where these are fewer than [`FEWEST_CONFUSED`].
fn confusion(labels: &[usize], logits: &Array2<f32>) -> Array2<f64> {
    let classes = logits.len_of(Axis(1));
    let mut shares = Array2::<f64>::zeros((classes, classes));
    for (&label, predicted) in labels.iter().zip(classes_of(logits)) {
        shares[[label, predicted]] += 1.0;
    }
    for mut row in shares.outer_iter_mut() {
        let images = row.sum().max(1.0);
        row.mapv_inplace(|count| if count < FEWEST_CONFUSED { 0.0 } else { count / images });
    }
    shares
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

/// The norm of a search that was finished and has a trigger.
fn converged_norm(contender: &Contender) -> Option<f64> {
    contender.inversion.as_ref().filter(|inversion| inversion.converged).map(|inversion| inversion.trigger.norm_l1())
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
        score: table.score(source, target),
        steps: contender.steps,
        gradient_samples: contender.gradient_samples,
        further_looks: look.map_or(Vec::new(), |look| sizes(&look.whole)),
        confined_looks: look.map_or(Vec::new(), |look| sizes(&look.confined)),
        directness: look.and_then(FurtherLooks::directness),
        aim: look.and_then(FurtherLooks::aim),
        score_in_window: in_window.zip(one_way).map(|(look, one_way)| look.score(one_way)),
        score_in_all: look.zip(one_way).map(|(look, one_way)| look.weigh(one_way).score),
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
    use ndarray::{Array4, array};

    use super::*;
    use crate::data::Samples;
    use crate::scan::ScanOptions;
    use crate::trigger::Trigger;
    use crate::window::tests::{corner, in_corners};

    #[test]
    fn confusion_is_by_class_and_takes_more_than_one_image() {
        let as_first = [9.0, 0.0, 1.0];
        let logits = array![as_first, as_first, [0.0, 1.0, 0.0], [0.0, 0.0, 5.0], [0.0, 0.0, 3.0], [0.0, 0.0, 3.0]];
        let shares = confusion(&[0, 0, 0, 0, 2, 2], &logits);
        assert_eq!(shares, array![[0.5, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]);
        assert_eq!(confusion(&[0, 0, 1, 1, 1, 1], &logits)[[1, 2]], 0.75);
    }

    #[test]
    fn confined_looks_at_a_pair_are_where_a_trigger_of_it_does_most() {
        let classifier = corner();
        let labels = Some(vec![0, 0, 0, 1, 1]);
        let samples = Samples { images: Array4::zeros((5, 1, 6, 6)), labels, class_names: None, notes: Vec::new() };
        let options = ScanOptions { force: true, ..ScanOptions::new(Config::fast(Norm::L2, 6, 6)) };
        let plan = Plan::new(&classifier, &samples, &options).unwrap();
        let searched = |job: Job, trigger: Trigger, converged: bool| {
            let (steps, extent) = (Vec::new(), None);
            let inversion = Inversion { target_class: 1, trigger, converged, extent, steps, gradient_samples: 0 };
            let mut contender = Contender::of_pair(0, job);
            contender.inversion = Some(inversion);
            contender
        };
        let first = [searched(Job::first(1), in_corners(1.0, 0.9), true)];
        let places = |norm: Norm, round: usize, converged: bool| -> Vec<_> {
            let further =
                Job::whole(1, norm, 0).map(|job| searched(job, in_corners(0.0, 0.5), converged)).collect::<Vec<_>>();
            let before = [&first[..], &further];
            let confined = confined_contenders(&plan, &[(0, 1)], &before, (round, WINDOWS[round]), norm).unwrap();
            let place =
                |look: &Contender| (look.look, look.source, look.window.map(|window| (window.top, window.left)));
            confined.iter().map(place).collect()
        };
        let looks = |first, place| [(first, Some(0), Some(place)), (first + 1, Some(0), Some(place))];
        assert_eq!(places(Norm::L2, 0, true), looks(3, (4, 4)));
        assert_eq!(places(Norm::L2, 1, true), looks(7, (5, 5)));
        assert_eq!(places(Norm::L2, 0, false), looks(3, (0, 0)), "a search that did not converge tells no place");
        assert_eq!(places(Norm::Inf, 0, true), []);
        let in_window = |norm: Norm| first_in_window(&[(0, 1)], &first, norm);
        let place = |look: &Contender| (look.look, look.source, look.window.map(|window| (window.top, window.left)));
        assert_eq!(in_window(Norm::L2).iter().map(place).collect::<Vec<_>>(), [(6, Some(0), Some((0, 0)))]);
        assert!(in_window(Norm::Inf).is_empty());
    }
}
