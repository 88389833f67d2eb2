//! What the looks at the classes of a model show.

use super::measured::Measured;
use super::survey::{Finished, Survey, size};
use super::{Job, Plan};
use crate::detection::{self, FurtherLooks, Rule, Statistics};
use crate::error::{Error, Result};
use crate::foreignness;
use crate::inversion::{Inversion, Norm};
use crate::look::geometric_mean;

/// How a scan stands.
pub(super) enum Progress {
    /// It asks for these further looks.
    Asks(Vec<Job>),
    /// All looks are taken.
    Complete(Assessment),
}

/// What a survey with further looks shows.
pub(super) struct Assessment {
    /// With what is usual of confined triggers.
    pub statistics: Statistics,
    /// Of each suspicious class, in ascending order of their positions.
    pub looks: Vec<FurtherLooks>,
    /// Of each class, by its triggers with the whole image to change.
    pub foreignness: Vec<Option<f64>>,
}

/// How many rounds of further looks there are at the most: one at suspicious classes, and one at those of them that are close to the bound.
pub(super) const ROUNDS: usize = 2;

impl Plan<'_> {
    /// What `survey` shows, or what is missing.
    ///
    /// # Errors
    /// If its inversions are not those of the classes of this scan and of looks that these call for, or the engine fails.
    pub(super) fn progress(&self, survey: &Survey, measured: &mut Measured<'_>) -> Result<Progress> {
        self.check_classes(survey)?;
        let (norm, rule) = (self.options.config.norm, self.options.rule());
        let statistics = survey.statistics(norm);
        let suspects = survey.suspicious(&statistics, rule);
        let peers = survey.peers(&statistics, &suspects, norm);
        let (mut jobs, mut looked_at) = (Vec::new(), suspects.clone());
        let mut round = 0;
        let assessment = loop {
            // Where the confined looks are is for those at the whole image to tell.
            jobs.extend(survey.whole_jobs(&looked_at, norm, round));
            if let Some(missing) = survey.missing(&jobs) {
                return Ok(Progress::Asks(missing));
            }
            jobs.extend(self.confined_jobs(survey, measured, &looked_at, &peers, round)?);
            if let Some(missing) = survey.missing(&jobs) {
                return Ok(Progress::Asks(missing));
            }
            round += 1;
            let assessment = self.assess(survey, measured, &statistics, &suspects, &peers, round)?;
            looked_at = assessment.close(survey, norm, rule);
            if round == ROUNDS || looked_at.is_empty() {
                break assessment;
            }
        };
        if survey.further.len() != jobs.len() {
            return Err(not_called_for());
        }
        Ok(Progress::Complete(assessment))
    }

    /// The looks of `round`, the first being 0, that are confined to a window, at the classes at `positions`, and one at each of their `peers`. Under the maximum norm there are none.
    fn confined_jobs(
        &self,
        survey: &Survey,
        measured: &mut Measured<'_>,
        positions: &[usize],
        peers: &[usize],
        round: usize,
    ) -> Result<Vec<Job>> {
        let norm = self.options.config.norm;
        let mut jobs = Vec::new();
        if norm == Norm::Inf {
            return Ok(jobs);
        }
        for &position in positions {
            let window = measured.window(survey, position, round + 1)?.into_iter();
            jobs.extend(window.flat_map(|window| Job::confined(survey.class(position), window, norm, round)));
        }
        for &peer in peers {
            let window = measured.window(survey, peer, 0)?;
            jobs.extend(window.and_then(|window| Job::confined(survey.class(peer), window, norm, round).next()));
        }
        Ok(jobs)
    }

    /// That the survey is of the classes of this scan, and each inversion of the class of its job.
    fn check_classes(&self, survey: &Survey) -> Result<()> {
        let mut surveyed: Vec<usize> = (0..survey.finished.len()).map(|i| survey.class(i)).collect();
        surveyed.extend(survey.dropped.iter().map(|class| class.target_class));
        surveyed.sort_unstable();
        if surveyed != self.classes {
            return Err(Error::Config("the inversions are not those of the classes of this scan".into()));
        }
        if survey.further.iter().any(|(job, inversion)| job.class != inversion.target_class) {
            return Err(not_called_for());
        }
        Ok(())
    }

    /// What `rounds` of further looks show of the `suspects`, by what is usual of all classes and, in windows, of their `peers`.
    fn assess(
        &self,
        survey: &Survey,
        measured: &mut Measured<'_>,
        statistics: &Statistics,
        suspects: &[usize],
        peers: &[usize],
        rounds: usize,
    ) -> Result<Assessment> {
        let norm = self.options.config.norm;
        let sizes = |&peer: &usize| survey.looks(peer, norm, rounds).map(|(_, look)| size(norm, look)).collect();
        let sizes_of_peers: Vec<Vec<Option<f64>>> = peers.iter().map(sizes).collect();
        let statistics = statistics.clone().with_confined_sizes(&sizes_of_peers);
        let foreignness = self.foreignness(survey, measured, suspects, rounds)?;
        let looks = |&position: &usize| FurtherLooks {
            foreignness: foreignness[position],
            ..survey.looks_at(position, norm, rounds, |job, inversion| {
                let size = size(norm, inversion)?;
                if job.window.is_some() { statistics.confined_ratio_of(size) } else { statistics.ratio_of(size) }
            })
        };
        Ok(Assessment { looks: suspects.iter().map(looks).collect(), foreignness, statistics })
    }

    /// How foreign to their classes the triggers are, of the classes in the order of the survey: the geometric mean over those with the whole image to change. Measured where
    /// there is something to judge by it.
    fn foreignness(
        &self,
        survey: &Survey,
        measured: &mut Measured<'_>,
        suspects: &[usize],
        rounds: usize,
    ) -> Result<Vec<Option<f64>>> {
        let norm = self.options.config.norm;
        let unmeasured = vec![None; survey.finished.len()];
        if suspects.is_empty() || !survey.is_as_validated(norm) {
            return Ok(unmeasured);
        }
        // Of each class, the distances of all its triggers that count.
        let mut all: Vec<Vec<Vec<f64>>> = vec![Vec::new(); survey.finished.len()];
        for (of_class, Finished { inversion, .. }) in all.iter_mut().zip(&survey.finished) {
            of_class.extend(measured.distances(0, inversion)?);
        }
        let Some(usual) = foreignness::usual(all.iter().flatten()) else { return Ok(unmeasured) };
        for &suspect in suspects {
            for (job, inversion) in survey.looks(suspect, norm, rounds).filter(|(job, _)| job.window.is_none()) {
                all[suspect].extend(measured.distances(job.look, inversion)?);
            }
        }
        let mean = |of_class: &Vec<Vec<f64>>| {
            let multiples = of_class.iter().map(|distances| foreignness::relative(distances, &usual));
            (!of_class.is_empty()).then(|| geometric_mean(multiples))
        };
        Ok(all.iter().map(mean).collect())
    }

    /// Of few classes, which are all looked at again, the extents in the first look and in the further ones, as shares of the image.
    pub(super) fn shares_of_image(&self, survey: &Survey) -> Vec<(Option<f64>, FurtherLooks)> {
        let [_, height, width] = self.classifier.image_shape();
        let share = |inversion: &Inversion| Some(inversion.extent?.pixels() / (height * width) as f64);
        let looks = |position| survey.looks_at(position, self.options.config.norm, ROUNDS, |_, look| share(look));
        (0..survey.finished.len()).map(|i| (share(&survey.finished[i].inversion), looks(i))).collect()
    }
}

impl Assessment {
    /// The positions of the suspicious classes that are worth a closer look: those that are close to the bound.
    fn close(&self, survey: &Survey, norm: Norm, rule: Rule) -> Vec<usize> {
        if !survey.is_as_validated(norm) {
            return Vec::new();
        }
        let is_close = |look: &&FurtherLooks| detection::is_close(&self.statistics, rule, look);
        self.looks.iter().filter(is_close).map(|look| look.position).collect()
    }
}

fn not_called_for() -> Error {
    Error::Config("the further looks are not those that the suspicious classes call for".into())
}

#[cfg(test)]
mod tests {
    use ndarray::Array4;

    use super::*;
    use crate::data::Samples;
    use crate::inversion::Config;
    use crate::scan::ScanOptions;
    use crate::trigger::Trigger;
    use crate::window::tests::{corner, in_corners};

    fn found(job: Job, trigger: Trigger) -> (Job, Inversion) {
        let steps = Vec::new();
        (job, Inversion { target_class: job.class, trigger, converged: true, extent: None, steps, gradient_samples: 0 })
    }

    #[test]
    fn confined_looks_are_asked_for_where_a_trigger_does_most_once_the_whole_image_was_looked_at() {
        let classifier = corner();
        let labels = Some(vec![0, 0, 0, 1, 1]);
        let samples = Samples { images: Array4::zeros((5, 1, 6, 6)), labels, class_names: None, notes: Vec::new() };
        let options = ScanOptions { force: true, ..ScanOptions::new(Config::fast(Norm::L2, 6, 6)) };
        let plan = Plan::new(&classifier, &samples, &options).unwrap();
        // Most opaque in the first corner, but for one; it is the last corner that leads to class 1.
        let (opaque, effective) = (in_corners(1.0, 0.9), in_corners(0.0, 0.5));
        let mut survey = Survey::of(plan.first_jobs().into_iter().map(|job| found(job, opaque.clone())));
        let whole = plan.next_jobs(&survey).unwrap();
        assert_eq!(whole.iter().map(|job| (job.class, job.look)).collect::<Vec<_>>(), [(0, 1), (0, 2), (1, 1), (1, 2)]);
        assert!(whole.iter().all(|job| job.window.is_none()));
        let trigger = |job: &Job| if job.look == 2 { effective.clone() } else { opaque.clone() };
        survey.add(whole.into_iter().map(|job| found(job, trigger(&job))));
        let confined = plan.next_jobs(&survey).unwrap();
        let of_class = confined.iter().filter(|job| job.class == 1);
        let places: Vec<_> =
            of_class.map(|job| (job.look, job.window.map(|window| (window.top, window.left)))).collect();
        assert_eq!(places, [(3, Some((4, 4))), (4, Some((4, 4)))]);
    }
}
