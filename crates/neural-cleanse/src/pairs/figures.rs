//! What the triggers of pairs come to, as shares of what is usual for the model: their sizes, and what they do to images and to logits.

use ndarray::Array2;
use rayon::prelude::*;

use super::further_looks::Found;
use super::source;
use crate::aim;
use crate::detection::median;
use crate::error::Result;
use crate::inversion::Inversion;
use crate::likeness::{self, Likeness, Usual};
use crate::scan::Plan;
use crate::searches::Contender;

/// What is usual for the triggers of a model: the medians of the pairs that stand for that or, where none was dropped, of all.
pub struct Figures<'a> {
    plan: &'a Plan<'a>,
    /// The logits of the working images.
    clean: Array2<f32>,
    size_per_norm: Option<f64>,
    likeness: Usual,
    aim: Option<f64>,
}

impl<'a> Figures<'a> {
    /// By the first searches for all pairs, of which those at `references` stand for what is usual. `clean` are the logits of the working images. Gives the likeness of all, too, as
    /// [`likenesses`] does.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn of(
        plan: &'a Plan<'a>,
        clean: Array2<f32>,
        contenders: &[Contender],
        references: &[usize],
    ) -> Result<(Self, Array2<Option<f64>>)> {
        let (likenesses, likeness) = likenesses(plan, contenders, references)?;
        let aims: Vec<Option<f64>> =
            contenders.iter().map(|contender| aim_by(plan, &clean, contender)).collect::<Result<_>>()?;
        let aim = median_of_typical(aims.into_iter(), references);
        let size_per_norm = median_of_typical(contenders.iter().map(size_per_norm), references);
        Ok((Figures { plan, clean, size_per_norm, likeness, aim }, likenesses))
    }

    /// The sizes of the triggers in place of their `norms`, as multiples of what a trigger of norm 1 usually has. What was dropped counts as usual.
    pub fn sizes(&self, mut norms: Array2<Option<f64>>, contenders: &[Contender]) -> Array2<Option<f64>> {
        for contender in contenders {
            let norm = &mut norms[[source(contender), contender.class]];
            *norm = norm.map(|norm| norm * self.relative_size(contender));
        }
        norms
    }

    /// The same of one search, if it was finished and has a trigger.
    pub fn size(&self, look: &Contender) -> Option<f64> {
        let converged = look.inversion.as_ref().filter(|inversion| inversion.converged)?;
        Some(converged.trigger.norm_l1() * self.relative_size(look))
    }

    /// All that is asked of a trigger, likewise.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn found_by(&self, look: &Contender) -> Result<Option<Found>> {
        let Some(size) = self.size(look) else { return Ok(None) };
        let alike = likeness_by(self.plan, look)?;
        let aim = aim::relative(aim_by(self.plan, &self.clean, look)?, self.aim);
        let likeness = alike.and_then(|alike| self.likeness.likeness(alike));
        let directness = alike.and_then(|alike| self.likeness.directness(alike));
        Ok(Some(Found { size, likeness, directness, aim }))
    }

    /// What a size is to its norm, as a multiple of the usual.
    fn relative_size(&self, contender: &Contender) -> f64 {
        size_per_norm(contender).zip(self.size_per_norm).map_or(1.0, |(size, usual)| size / usual)
    }
}

/// The [likeness](likeness::likeness) that the triggers of all pairs give, `[source, target]`, as a share of the usual, and what that is: the medians of the
/// pairs at `references` or, where none was dropped, of all.
///
/// # Errors
/// If a trigger does not fit the images.
pub fn likenesses(
    plan: &Plan<'_>,
    contenders: &[Contender],
    references: &[usize],
) -> Result<(Array2<Option<f64>>, Usual)> {
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

/// The median of the figures of the pairs at `references` or, where there are none, of all.
fn median_of_typical(figures: impl Iterator<Item = Option<f64>>, references: &[usize]) -> Option<f64> {
    let is_typical = |i: &usize| references.is_empty() || references.contains(i);
    let of_typical = figures.enumerate().filter_map(|(i, figure)| figure.filter(|_| is_typical(&i)));
    median(&of_typical.collect::<Vec<_>>())
}

/// Of a search that was finished and has a trigger.
fn size_per_norm(contender: &Contender) -> Option<f64> {
    let inversion = contender.inversion.as_ref()?;
    let norm = inversion.trigger.norm_l1();
    inversion.size().filter(|size| norm > 0.0 && *size > 0.0).map(|size| size / norm)
}

/// Of a search that was finished.
fn likeness_by(plan: &Plan<'_>, contender: &Contender) -> Result<Option<Likeness>> {
    match &contender.inversion {
        Some(inversion) => likeness::likeness(&plan.working, &inversion.trigger, source(contender), contender.class),
        None => Ok(None),
    }
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
