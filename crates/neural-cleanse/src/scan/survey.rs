use std::iter::once;

use super::DroppedClass;
use crate::detection::{self, FurtherLooks, Rule, Statistics};
use crate::few_classes;
use crate::inversion::{Inversion, Norm};
use crate::searches::Contender;
use crate::trigger::Trigger;
use crate::window::Window;

/// How many further inversions a suspicious class or pair is given in a round, with the whole image to change, and as many confined to a window.
pub(crate) const FURTHER_LOOKS: usize = 2;

/// The part of each side of the image that this window has.
pub(super) const WINDOW: usize = 3;

/// How many further looks these are in all. The maximum norm, which makes triggers faint rather than small, is judged without the confined ones.
fn all_further_looks(norm: Norm) -> usize {
    if norm == Norm::Inf { FURTHER_LOOKS } else { 2 * FURTHER_LOOKS }
}

/// How many classes that are not suspicious say what is usual in a window.
const PEERS: usize = 3;

/// One inversion that a scan asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Job {
    /// The class to invert.
    pub class: usize,
    /// 0, or the number of a further look at the class.
    pub look: u64,
    /// What the trigger is confined to; `None` is the whole image.
    pub window: Option<Window>,
}

impl Job {
    /// The first look at a class.
    pub fn first(class: usize) -> Self {
        Job { class, look: 0, window: None }
    }

    /// The further looks at the whole image that a class is given in a round, the first being 0.
    pub(crate) fn whole(class: usize, norm: Norm, round: usize) -> impl Iterator<Item = Job> {
        let before = (round * all_further_looks(norm)) as u64;
        (1..=FURTHER_LOOKS as u64).map(move |look| Job { class, look: before + look, window: None })
    }

    /// The looks of that round that are confined to `window`.
    pub(crate) fn confined(class: usize, window: Window, norm: Norm, round: usize) -> impl Iterator<Item = Job> {
        let (all, before) = (all_further_looks(norm), round * all_further_looks(norm));
        (FURTHER_LOOKS + 1..=all).map(move |look| Job { class, look: (before + look) as u64, window: Some(window) })
    }
}

/// What came of the inversions of a scan so far: the first of every class, and further looks at some.
#[derive(Default)]
pub struct Survey {
    /// In the order of the classes.
    pub(super) finished: Vec<Finished>,
    pub(super) dropped: Vec<DroppedClass>,
    /// What stands for all classes; `None` is the finished ones.
    typical: Option<Typical>,
    /// In the order of the classes and the looks at each.
    pub(super) further: Vec<(Job, Inversion)>,
}

struct Typical {
    norms: Vec<Option<f64>>,
    sizes: Vec<Option<f64>>,
}

pub(super) struct Finished {
    pub inversion: Inversion,
    pub gradient_samples: u64,
}

impl Survey {
    /// Of what came of jobs so far, in any order: no class was dropped.
    pub fn of(done: impl IntoIterator<Item = (Job, Inversion)>) -> Self {
        let mut survey = Survey::default();
        survey.add(done);
        survey
    }

    /// Takes up what came of further jobs.
    pub fn add(&mut self, done: impl IntoIterator<Item = (Job, Inversion)>) {
        for (job, inversion) in done {
            if job.look == 0 {
                self.finished.push(Finished { gradient_samples: inversion.gradient_samples, inversion });
            } else {
                self.further.push((job, inversion));
            }
        }
        self.finished.sort_by_key(|class| class.inversion.target_class);
        self.further.sort_by_key(|(job, _)| (job.class, job.look));
    }

    /// Of `contenders` after a race, in the order of the classes. Those at the positions `sample` stand for all, with `norms`; those at `references` tell
    /// how much larger or smaller than its norm the size of a class is, that was dropped.
    pub(crate) fn of_race(
        contenders: Vec<Contender>,
        sample: &[usize],
        norms: Vec<Option<f64>>,
        references: &[usize],
    ) -> Self {
        let finished = |i: usize| contenders[i].inversion.as_ref();
        let per_norm = |&i: &usize| Some(finished(i)?.size()? / finished(i)?.trigger.norm_l1());
        let per_norm = detection::median(&references.iter().filter_map(per_norm).collect::<Vec<_>>()).unwrap_or(1.0);
        let size = |(&i, norm): (&usize, &Option<f64>)| match finished(i) {
            Some(inversion) => inversion.size(),
            None => norm.map(|norm| norm * per_norm),
        };
        let typical = Typical { sizes: sample.iter().zip(&norms).map(size).collect(), norms };
        let (mut finished, mut dropped) = (Vec::new(), Vec::new());
        for contender in contenders {
            let (norm_l1, gradient_samples) = (contender.norm(), contender.gradient_samples);
            match contender.inversion {
                Some(inversion) => finished.push(Finished { inversion, gradient_samples }),
                None => dropped.push(DroppedClass {
                    target_class: contender.class,
                    steps: contender.steps,
                    gradient_samples,
                    norm_l1,
                }),
            }
        }
        Survey { finished, dropped, typical: Some(typical), further: Vec::new() }
    }

    /// The looks of `round`, the first being 0, that have the whole image to change, at the classes at `positions`.
    pub(super) fn whole_jobs(&self, positions: &[usize], norm: Norm, round: usize) -> Vec<Job> {
        positions.iter().flat_map(|&position| Job::whole(self.class(position), norm, round)).collect()
    }

    /// The triggers that had the whole image to change, of the class at `position`: of the first look and those of so many `rounds`.
    pub(super) fn whole_triggers(&self, position: usize, norm: Norm, rounds: usize) -> Vec<&Trigger> {
        let further = self.looks(position, norm, rounds).filter(|(job, _)| job.window.is_none());
        let whole = once(&self.finished[position].inversion).chain(further.map(|(_, inversion)| inversion));
        whole.filter(|inversion| inversion.converged).map(|inversion| &inversion.trigger).collect()
    }

    /// What came of the looks at the class at `position` in so many `rounds`, in their order.
    pub(super) fn looks(&self, position: usize, norm: Norm, rounds: usize) -> impl Iterator<Item = &(Job, Inversion)> {
        let (class, last) = (self.class(position), (rounds * all_further_looks(norm)) as u64);
        self.further.iter().filter(move |(job, _)| job.class == class && job.look <= last)
    }

    /// The `figure` of each of them.
    pub(super) fn looks_at(
        &self,
        position: usize,
        norm: Norm,
        rounds: usize,
        figure: impl Fn(&Job, &Inversion) -> Option<f64>,
    ) -> FurtherLooks {
        let of = |confined: bool| {
            let looks = self.looks(position, norm, rounds).filter(|(job, _)| job.window.is_some() == confined);
            looks.map(|(job, inversion)| figure(job, inversion)).collect()
        };
        let closely = self.looks(position, norm, rounds).any(|(job, _)| job.look > all_further_looks(norm) as u64);
        FurtherLooks { position, whole: of(false), confined: of(true), foreignness: None, closely }
    }

    /// Those of `jobs` that are not done, if there are any.
    pub(super) fn missing(&self, jobs: &[Job]) -> Option<Vec<Job>> {
        let is_done = |job: &&Job| self.further.iter().any(|(done, _)| done == *job);
        let missing: Vec<Job> = jobs.iter().filter(|job| !is_done(job)).copied().collect();
        (!missing.is_empty()).then_some(missing)
    }

    /// Whether there are so few classes that a rule of their own judges them.
    pub(super) fn is_of_few(&self) -> bool {
        few_classes::applies(self.finished.len() + self.dropped.len())
    }

    /// Whether what was validated for norm 2 and five classes and more applies: what is usual in a window, foreignness, and closer looks.
    pub(super) fn is_as_validated(&self, norm: Norm) -> bool {
        norm == Norm::L2 && !self.is_of_few()
    }

    /// The positions of the classes that call for further looks.
    pub(super) fn suspicious(&self, statistics: &Statistics, rule: Rule) -> Vec<usize> {
        if self.is_of_few() { (0..self.finished.len()).collect() } else { detection::suspicious(statistics, rule) }
    }

    /// The positions of the classes whose confined triggers say what is usual: those of the sizes nearest to the usual one that are not among the `suspects`.
    pub(super) fn peers(&self, statistics: &Statistics, suspects: &[usize], norm: Norm) -> Vec<usize> {
        if suspects.is_empty() || !self.is_as_validated(norm) {
            return Vec::new();
        }
        let distance = |i: usize| Some((statistics.standings[i].ratio.filter(|&ratio| ratio > 0.0)?.ln().abs(), i));
        let others = (0..self.finished.len()).filter(|i| !suspects.contains(i));
        let mut distances: Vec<(f64, usize)> = others.filter_map(distance).collect();
        distances.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        distances.into_iter().take(PEERS).map(|(_, i)| i).collect()
    }

    pub(super) fn class(&self, position: usize) -> usize {
        self.finished[position].inversion.target_class
    }

    pub(super) fn norms(&self, norm: Norm) -> Vec<Option<f64>> {
        self.finished.iter().map(|class| statistic(norm, &class.inversion)).collect()
    }

    pub(super) fn statistics(&self, norm: Norm) -> Statistics {
        let norms = self.norms(norm);
        let statistics = match &self.typical {
            None => Statistics::of(&norms),
            Some(typical) => Statistics::among(&norms, &typical.norms),
        };
        if norm == Norm::Inf {
            return statistics;
        }
        let sizes: Vec<Option<f64>> = self.finished.iter().map(|class| size(norm, &class.inversion)).collect();
        statistics.with_sizes(&sizes, self.typical.as_ref().map_or(&sizes, |typical| &typical.sizes))
    }

    pub(super) fn gradient_samples(&self) -> u64 {
        let finished = self.finished.iter().map(|class| class.gradient_samples);
        let further = self.further.iter().map(|(_, inversion)| inversion.gradient_samples);
        finished.chain(self.dropped.iter().map(|class| class.gradient_samples)).chain(further).sum()
    }
}

/// What the paper's rule looks at.
pub(super) fn norm_of(norm: Norm, trigger: &Trigger) -> f64 {
    match norm {
        Norm::L1 | Norm::L2 => trigger.norm_l1(),
        Norm::Inf => trigger.norm_inf(),
    }
}

pub(super) fn statistic(norm: Norm, inversion: &Inversion) -> Option<f64> {
    inversion.converged.then(|| norm_of(norm, &inversion.trigger))
}

/// What the ratio rule looks at; under the maximum norm, which makes triggers large and faint, that norm.
pub(super) fn size(norm: Norm, inversion: &Inversion) -> Option<f64> {
    if norm == Norm::Inf { statistic(norm, inversion) } else { inversion.size() }
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    /// What a look at class 0 finds, with a trigger that is opaque at the pixel `[at, at]`.
    fn found(job: Job, converged: bool, at: usize) -> (Job, Inversion) {
        let mut mask = Array3::zeros((1, 9, 9));
        mask[[0, at, at]] = 1.0;
        let trigger = Trigger::new(mask, Array3::zeros((1, 9, 9))).unwrap();
        let inversion = Inversion {
            target_class: job.class,
            trigger,
            converged,
            extent: None,
            steps: Vec::new(),
            gradient_samples: 0,
        };
        (job, inversion)
    }

    #[test]
    fn windows_are_where_triggers_with_the_whole_image_to_change_are() {
        let window = Window { top: 0, left: 0, height: 3, width: 3 };
        let round = |round| Job::whole(0, Norm::L2, round).chain(Job::confined(0, window, Norm::L2, round));
        let survey =
            Survey::of([Job::first(0)].into_iter().chain(round(0)).chain(round(1)).zip(0..).map(|(job, at)| {
                let converged = job.look != 2;
                found(job, converged, at)
            }));
        let at = |rounds| -> Vec<usize> {
            let triggers = survey.whole_triggers(0, Norm::L2, rounds);
            triggers.iter().filter_map(|trigger| (0..9).find(|&at| trigger.mask[[0, at, at]] > 0.0)).collect()
        };
        assert_eq!([at(0), at(1), at(2)], [vec![0], vec![0, 1], vec![0, 1, 5, 6]]);
    }

    #[test]
    fn the_looks_of_a_round_have_numbers_of_their_own() {
        let window = Window { top: 0, left: 0, height: 3, width: 3 };
        let looks = |norm, round| {
            let jobs = Job::whole(0, norm, round).chain(Job::confined(0, window, norm, round));
            jobs.map(|job| (job.look, job.window.is_some())).collect::<Vec<_>>()
        };
        assert_eq!(looks(Norm::L2, 0), [(1, false), (2, false), (3, true), (4, true)]);
        assert_eq!(looks(Norm::L2, 1), [(5, false), (6, false), (7, true), (8, true)]);
        assert_eq!(looks(Norm::Inf, 1), [(3, false), (4, false)]);
    }
}
