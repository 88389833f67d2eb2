use super::{DroppedClass, ScanOptions};
use crate::detection::{self, FurtherLooks, Rule, Statistics};
use crate::few_classes;
use crate::inversion::{Inversion, Norm};
use crate::searches::Contender;
use crate::trigger::Trigger;
use crate::window::Window;

/// How many further inversions a suspicious class or pair is given, with the whole image to change, and as many confined to a window.
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

    /// The further looks at a class: at the whole image, and confined to `window`.
    pub(crate) fn further(class: usize, window: Window, norm: Norm) -> impl Iterator<Item = Job> {
        let confined = move |look| (look > FURTHER_LOOKS).then_some(window);
        (1..=all_further_looks(norm)).map(move |look| Job { class, look: look as u64, window: confined(look) })
    }
}

/// What came of the first inversion of every class.
pub struct Survey {
    /// In the order of the classes.
    pub(super) finished: Vec<Finished>,
    pub(super) dropped: Vec<DroppedClass>,
    /// What stands for all classes; `None` is the finished ones.
    typical: Option<Typical>,
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
    /// Of `inversions` of all classes, in ascending order: none was dropped.
    pub fn of_all(inversions: Vec<Inversion>) -> Self {
        let finished = |inversion: Inversion| Finished { gradient_samples: inversion.gradient_samples, inversion };
        Survey { finished: inversions.into_iter().map(finished).collect(), dropped: Vec::new(), typical: None }
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
        Survey { finished, dropped, typical: Some(typical) }
    }

    /// The further looks that the suspicious classes are given under `options`: at the whole image, and confined to where their triggers are most opaque. After them, under
    /// norm 2, for which it was validated, one that is confined at each of the classes that these are compared with.
    pub fn further_jobs(&self, options: &ScanOptions) -> Vec<Job> {
        let norm = options.config.norm;
        let statistics = self.statistics(norm);
        let suspects = self.suspicious(&statistics, options.rule());
        let peers = self.peers(&statistics, &suspects, norm);
        let looks = |i: usize| {
            let Inversion { target_class: class, ref trigger, .. } = self.finished[i].inversion;
            Job::further(class, Window::densest(trigger, WINDOW), norm)
        };
        let confined_look = |i| looks(i).find(|job| job.window.is_some());
        suspects.into_iter().flat_map(looks).chain(peers.into_iter().filter_map(confined_look)).collect()
    }

    /// Whether there are so few classes that a rule of their own judges them.
    pub(super) fn is_of_few(&self) -> bool {
        few_classes::applies(self.finished.len() + self.dropped.len())
    }

    /// The positions of the classes that call for further looks.
    pub(super) fn suspicious(&self, statistics: &Statistics, rule: Rule) -> Vec<usize> {
        if self.is_of_few() { (0..self.finished.len()).collect() } else { detection::suspicious(statistics, rule) }
    }

    /// The positions of the classes whose confined triggers say what is usual: those of the sizes nearest to the usual one that are not among the `suspects`.
    fn peers(&self, statistics: &Statistics, suspects: &[usize], norm: Norm) -> Vec<usize> {
        if suspects.is_empty() || self.is_of_few() || norm != Norm::L2 {
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
        finished.chain(self.dropped.iter().map(|class| class.gradient_samples)).sum()
    }
}

/// The figures of the `further` inversions, which are those of the `suspects` in their order: `whole` of each with the whole image to change, and `confined` of each other.
pub(super) fn looks_at(
    suspects: &[usize],
    further: &[Inversion],
    norm: Norm,
    whole: impl Fn(&Inversion) -> Option<f64>,
    confined: impl Fn(&Inversion) -> Option<f64>,
) -> Vec<FurtherLooks> {
    let looks = |(&position, inversions): (&usize, &[Inversion])| {
        let (free, windowed) = inversions.split_at(FURTHER_LOOKS);
        FurtherLooks {
            position,
            whole: free.iter().map(&whole).collect(),
            confined: windowed.iter().map(&confined).collect(),
            foreignness: None,
        }
    };
    suspects.iter().zip(further.chunks(all_further_looks(norm))).map(looks).collect()
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
