//! What is searched for again, of pairs that stand out, and where.

use super::{inversion_of, is_of, source};
use crate::error::Result;
use crate::inversion::Norm;
use crate::scan::{FURTHER_LOOKS, Job, Plan};
use crate::searches::Contender;
use crate::window::Window;

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
pub const LOOK_AT_SHIFT: u64 = 4 * FURTHER_LOOKS as u64 + 1;

/// The further looks at the `suspicious` pairs that have the whole image to change.
pub fn whole_contenders(suspicious: &[(usize, usize)], norm: Norm) -> Vec<Contender> {
    let looks = |&(source, target): &(usize, usize)| {
        Job::whole(target, norm, 0).map(move |job| Contender::of_pair(source, job))
    };
    suspicious.iter().flat_map(looks).collect()
}

/// The looks at the `candidates` that are confined to where the `first` trigger of each is most opaque. Under the maximum norm, which makes triggers faint rather than small, there are
/// none.
pub fn first_in_window(candidates: &[(usize, usize)], first: &[Contender], norm: Norm) -> Vec<Contender> {
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

/// What `search` comes to for the `suspicious` pairs in windows of each size, one after the other: each where a trigger of the pair does most, of those that the looks `before` found and
/// those in larger windows. Under the maximum norm there are none, either.
///
/// # Errors
/// If the engine fails, or the search does.
pub fn in_windows(
    plan: &Plan<'_>,
    suspicious: &[(usize, usize)],
    before: [&[Contender]; 2],
    norm: Norm,
    search: impl Fn(Vec<Contender>) -> Result<Vec<Contender>>,
) -> Result<Vec<Contender>> {
    let mut found: Vec<Contender> = Vec::new();
    if norm == Norm::Inf {
        return Ok(found);
    }
    for (round, part) in WINDOWS.into_iter().enumerate() {
        let mut looks = Vec::new();
        for &pair in suspicious {
            let of_pair = before.into_iter().flatten().chain(&found).filter(|look| is_of(look, pair));
            let triggers = of_pair.filter_map(|look| look.inversion.as_ref()).filter(|inversion| inversion.converged);
            let triggers = triggers.map(|inversion| &inversion.trigger);
            let place = (Some(pair.0), pair.1);
            let window = Window::of_most_effect(plan.classifier, &plan.working, place, triggers, part)?;
            let jobs = window.into_iter().flat_map(|window| Job::confined(pair.1, window, norm, round));
            looks.extend(jobs.map(|job| Contender::of_pair(pair.0, job)));
        }
        found.extend(search(looks)?);
    }
    Ok(found)
}

/// For each of `targets`, the triggers from every source, confined to one place.
pub fn pairs_of_columns(targets: &[usize], first: &[Contender], norm: Norm) -> Vec<Contender> {
    let of_target = |&target: &usize| in_one_place(move |pair| pair.1 == target, LOOK_AT_COLUMN, first, norm);
    targets.iter().flat_map(of_target).collect()
}

/// The triggers for the pairs that belong together, confined to the one place where those that were found for them are most opaque together, by the look of this number. Under the
/// maximum norm, which makes triggers faint rather than small, there are none.
pub fn in_one_place(
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

#[cfg(test)]
mod tests {
    use ndarray::Array4;

    use super::*;
    use crate::data::Samples;
    use crate::inversion::{Config, Inversion};
    use crate::scan::ScanOptions;
    use crate::trigger::Trigger;
    use crate::window::tests::{corner, in_corners};

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
        let place = |look: &Contender| (look.look, look.source, look.window.map(|window| (window.top, window.left)));
        // The windows in which a pair is searched for, where the searches find `confined`.
        let places = |norm: Norm, converged: bool, confined: &Trigger| -> Vec<_> {
            let further =
                Job::whole(1, norm, 0).map(|job| searched(job, in_corners(0.0, 0.5), converged)).collect::<Vec<_>>();
            let search = |looks: Vec<Contender>| {
                let job = |look: &Contender| Job { class: look.class, look: look.look, window: look.window };
                Ok(looks.iter().map(|look| searched(job(look), confined.clone(), true)).collect())
            };
            let confined = in_windows(&plan, &[(0, 1)], [&first, &further], norm, search).unwrap();
            confined.iter().map(place).collect()
        };
        let looks = |places: [_; 2]| {
            let numbers = [(3, places[0]), (4, places[0]), (7, places[1]), (8, places[1])];
            numbers.map(|(number, place)| (number, Some(0), Some(place)))
        };
        let (least, most) = (in_corners(0.1, 0.0), in_corners(0.0, 1.0));
        assert_eq!(places(Norm::L2, true, &least), looks([(4, 4), (5, 5)]));
        assert_eq!(places(Norm::L2, false, &least), looks([(0, 0), (0, 0)]), "what did not converge tells no place");
        assert_eq!(places(Norm::L2, false, &most), looks([(0, 0), (5, 5)]), "what was found in a larger window counts");
        assert_eq!(places(Norm::Inf, true, &least), []);
        let in_window = |norm: Norm| first_in_window(&[(0, 1)], &first, norm);
        assert_eq!(in_window(Norm::L2).iter().map(place).collect::<Vec<_>>(), [(6, Some(0), Some((0, 0)))]);
        assert!(in_window(Norm::Inf).is_empty());
    }
}
