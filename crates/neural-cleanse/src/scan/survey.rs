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
const WINDOW: usize = 3;

/// How many further looks these are in all. The maximum norm, which makes triggers faint rather than small, is judged without the confined ones.
pub(crate) fn all_further_looks(norm: Norm) -> usize {
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

    /// The further looks at a class in a round, the first being 0: at the whole image, and confined to `window`.
    pub(crate) fn further(class: usize, window: Window, norm: Norm, round: usize) -> impl Iterator<Item = Job> {
        let before = round * all_further_looks(norm);
        let confined = move |look| (look > FURTHER_LOOKS).then_some(window);
        (1..=all_further_looks(norm)).map(move |look| Job {
            class,
            look: (before + look) as u64,
            window: confined(look),
        })
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

    /// The looks of `round`, the first being 0, at the classes at `positions`: at the whole image, and confined to where their triggers are most opaque. After them one that is
    /// confined at each of their `peers`.
    pub(super) fn further_jobs(&self, positions: &[usize], peers: &[usize], norm: Norm, round: usize) -> Vec<Job> {
        let looks = |&position: &usize| {
            let window = self.window(position, norm, round).into_iter();
            window.flat_map(move |window| Job::further(self.class(position), window, norm, round))
        };
        let confined_look = |position| looks(position).find(|job| job.window.is_some());
        let of_peers = if positions.is_empty() { &[] } else { peers };
        positions.iter().flat_map(looks).chain(of_peers.iter().filter_map(confined_look)).collect()
    }

    /// Where the triggers of the class at `position` are most opaque together, of the looks at the whole image before `round`.
    fn window(&self, position: usize, norm: Norm, round: usize) -> Option<Window> {
        let further = self.looks(position, norm, round).filter(|(job, _)| job.window.is_none());
        let whole = once(&self.finished[position].inversion).chain(further.map(|(_, inversion)| inversion));
        let found = whole.filter(|inversion| inversion.converged).map(|inversion| &inversion.trigger);
        Window::densest_of(found, WINDOW)
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

    /// Those of `jobs` that are not done.
    pub(super) fn missing(&self, jobs: &[Job]) -> Vec<Job> {
        let is_done = |job: &&Job| self.further.iter().any(|(done, _)| done == *job);
        jobs.iter().filter(|job| !is_done(job)).copied().collect()
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

    /// What a look at class 0 finds, with a trigger that is opaque at one pixel.
    fn found(job: Job, row: usize, column: usize) -> (Job, Inversion) {
        let mut mask = Array3::zeros((1, 9, 9));
        mask[[0, row, column]] = 1.0;
        let trigger = Trigger::new(mask, Array3::zeros((1, 9, 9))).unwrap();
        let inversion = Inversion {
            target_class: job.class,
            trigger,
            converged: true,
            extent: None,
            steps: Vec::new(),
            gradient_samples: 0,
        };
        (job, inversion)
    }

    #[test]
    fn closer_looks_are_where_all_triggers_in_the_whole_image_are_most_opaque_together() {
        let at = |top, left| Some(Window { top, left, height: 3, width: 3 });
        let windows = |survey: &Survey, round| {
            let jobs = survey.further_jobs(&[0], &[], Norm::L2, round);
            jobs.iter().map(|job| job.window).collect::<Vec<_>>()
        };
        let mut survey = Survey::of([found(Job::first(0), 1, 1)]);
        assert_eq!(windows(&survey, 0), [None, None, at(0, 0), at(0, 0)]);
        let places = [(7, 7), (8, 8), (1, 1), (1, 1)];
        let further = survey.further_jobs(&[0], &[], Norm::L2, 0).into_iter().zip(places);
        survey.add(further.map(|(job, (row, column))| found(job, row, column)));
        assert_eq!(windows(&survey, 1), [None, None, at(6, 6), at(6, 6)], "those in a window tell no place");
    }
}
