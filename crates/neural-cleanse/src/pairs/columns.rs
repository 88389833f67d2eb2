//! What the triggers for one target, each for the images of one class alone, come to together: what finds a backdoor that concerns all sources.

use crate::detection::{self, Verdict};
use crate::inversion::Norm;
use crate::look::{self, Look, Method};

/// How columns are judged.
#[derive(Debug, Clone, Copy)]
pub struct ColumnBounds {
    /// A column with a score below this is flagged.
    backdoored_below: f64,
    /// One whose triggers are below this share of the usual size is looked at again.
    pub suspicious_below: f64,
}

impl ColumnBounds {
    /// Those that go with the norm that is optimised; those of the maximum norm are not validated.
    pub fn of(norm: Norm) -> Self {
        let [backdoored_below, suspicious_below] = match norm {
            Norm::L1 => [0.25, 0.3],
            Norm::L2 => [0.44, 0.57],
            Norm::Inf => [1.0 / 3.0, 0.5],
        };
        ColumnBounds { backdoored_below, suspicious_below }
    }
}

/// A column that stands out, with the further looks at it.
#[derive(Debug, Clone)]
pub struct ColumnLooks {
    /// The class that images are sent to.
    pub target: usize,
    /// The size of its triggers as a share of what is usual.
    pub share: f64,
    /// Likewise, for each source, that of a trigger that is confined to a [window](crate::Window), the same for all; `None` for one that did not converge. None under the
    /// maximum norm.
    pub confined: Vec<Option<f64>>,
}

impl ColumnLooks {
    /// The geometric mean of the sizes in the window, where a search that did not converge counts as usual and no trigger as more; `None` where there was no window.
    fn in_place(&self) -> Option<f64> {
        (!self.confined.is_empty()).then(|| look::mean_of_at_most_usual(self.confined.iter().copied()))
    }

    /// What it is judged by: the geometric mean of the sizes without and with a window.
    fn score(&self) -> f64 {
        self.in_place().map_or(self.share, |in_place| (self.share * in_place).sqrt())
    }

    /// Whether three quarters of the sources have a trigger in the window, as of an attack on all; a few classes that border on the target may, too.
    fn is_of_most_sources(&self) -> bool {
        4 * self.confined.iter().flatten().count() >= 3 * self.confined.len()
    }

    /// What it speaks for.
    pub fn verdict(&self, bounds: ColumnBounds) -> Verdict {
        match detection::decide(self.score(), bounds.backdoored_below) {
            Verdict::Backdoored if !self.is_of_most_sources() => Verdict::Inconclusive,
            verdict => verdict,
        }
    }

    /// The same in words; the class goes by `name`.
    pub fn look(&self, name: &str, bounds: ColumnBounds) -> Look {
        let ColumnBounds { backdoored_below: bound, .. } = bounds;
        let verdict = self.verdict(bounds);
        let mut words = format!(
            "images of every single class go to class {name} by triggers of {:.2} times the usual size",
            self.share
        );
        if let Some(in_place) = self.in_place() {
            let (found, sources) = (self.confined.iter().flatten().count(), self.confined.len());
            words += &format!(
                ", and confined to a fifth of each side {in_place:.2} times (from {found} of {sources} classes): {:.2} in all",
                self.score()
            );
        }
        words += &match verdict {
            Verdict::Backdoored => format!(": under the bound of {bound:.2}"),
            Verdict::Clean => format!(": not under the bound of {bound:.2}"),
            Verdict::Inconclusive => ": undecided (--mode targets looks closer)".to_owned(),
        };
        let confined = self.confined.clone();
        Look { target: Some(self.target), confined, words, ..Look::by(Method::Column, verdict, Some(self.share)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(share: f64, confined: Vec<Option<f64>>) -> Verdict {
        ColumnLooks { target: 8, share, confined }.verdict(ColumnBounds::of(Norm::L2))
    }

    #[test]
    fn a_column_is_flagged_where_its_triggers_are_small_in_one_place_too() {
        assert_eq!(verdict(0.3, vec![Some(0.3); 9]), Verdict::Backdoored);
        assert_eq!(verdict(0.5, vec![Some(0.3); 9]), Verdict::Backdoored);
        assert_eq!(verdict(0.3, vec![None; 9]), Verdict::Clean);
        assert_eq!(verdict(0.3, vec![Some(50.0); 9]), Verdict::Clean);
        assert_eq!(verdict(0.44, vec![Some(0.44); 9]), Verdict::Inconclusive);
        // One source that has no trigger there outweighs none of the others, but a few that have one do not make an attack on all.
        assert_eq!(verdict(0.2, [vec![Some(0.2); 8], vec![None]].concat()), Verdict::Backdoored);
        assert_eq!(verdict(0.2, [vec![Some(0.1); 6], vec![None; 3]].concat()), Verdict::Inconclusive);
    }

    #[test]
    fn without_a_window_it_is_judged_by_its_share() {
        assert_eq!(verdict(0.3, vec![]), Verdict::Backdoored);
        assert_eq!(verdict(0.5, vec![]), Verdict::Clean);
    }

    #[test]
    fn the_words_tell_what_was_found_in_one_place() {
        let column = ColumnLooks { target: 8, share: 0.36, confined: [vec![None; 7], vec![Some(1.0); 2]].concat() };
        let look = column.look("shirt", ColumnBounds::of(Norm::L2));
        assert_eq!(look.verdict, Verdict::Clean);
        assert!(look.words.contains("class shirt by triggers of 0.36 times the usual size"), "{}", look.words);
        assert!(look.words.contains("1.00 times (from 2 of 9 classes): 0.60 in all"), "{}", look.words);
    }
}
