//! What the triggers for the pairs of a shift, each class with the one that is so many further on, come to together: what finds all-to-all attacks.

use crate::detection::Verdict;
use crate::look::{Look, Method};

/// A shift whose scores are this far below those of all other pairs is an all-to-all attack, in standard deviations. (`docs/modes.md` has what was measured.)
const SHIFTED_FROM: f64 = 1.4;

/// From this distance on the figures allow no conclusion.
pub const PERHAPS_SHIFTED_FROM: f64 = 1.3;

/// From this distance on they do not, either, where the triggers are in no one place.
const PERHAPS_SPREAD_FROM: f64 = 2.0;

/// A shift that stands out, with the further looks at it.
#[derive(Debug, Clone)]
pub struct ShiftLooks {
    /// How many classes further on the target is than the source.
    pub shift: usize,
    /// How far its scores are below those of all other pairs, in standard deviations.
    pub below: f64,
    /// For each of its pairs, the share of what is expected that the size of a trigger has which is confined to a [window](crate::Window), the same for all; `None` for one that did not
    /// converge. None under the maximum norm.
    pub confined: Vec<Option<f64>>,
}

impl ShiftLooks {
    /// Whether half of the pairs have a trigger in one place, as of a patch that sends each class to the next. Of classes that are alike by their order, only some have.
    fn is_in_one_place(&self) -> bool {
        2 * self.found() >= self.confined.len()
    }

    fn found(&self) -> usize {
        self.confined.iter().flatten().count()
    }

    /// What it speaks for.
    pub fn verdict(&self) -> Verdict {
        match (self.below, self.is_in_one_place()) {
            (SHIFTED_FROM.., true) => Verdict::Backdoored,
            (PERHAPS_SHIFTED_FROM.., true) | (PERHAPS_SPREAD_FROM.., false) => Verdict::Inconclusive,
            _ => Verdict::Clean,
        }
    }

    /// The same in words.
    pub fn look(&self) -> Look {
        let ShiftLooks { shift, below, confined } = self;
        let mut words = format!(
            "images of each class y go to class y + {shift} by triggers whose scores are {below:.2} standard deviations below those of all other pairs, where the bounds are {SHIFTED_FROM:.1} \
             and {PERHAPS_SHIFTED_FROM:.1}"
        );
        if !confined.is_empty() {
            words += &format!(", confined to a fifth of each side from {} of {} classes", self.found(), confined.len());
        }
        let verdict = self.verdict();
        words += match verdict {
            Verdict::Backdoored => ": an all-to-all attack",
            Verdict::Clean => ": not flagged, for they are in no one place",
            Verdict::Inconclusive => ": undecided",
        };
        Look { confined: confined.clone(), words, ..Look::by(Method::Shift, verdict, Some(*below)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_is_an_attack_where_its_triggers_are_in_one_place() {
        let cases = [
            (1.4, 5, Verdict::Backdoored),
            (1.39, 5, Verdict::Inconclusive),
            (6.0, 10, Verdict::Backdoored),
            (1.6, 4, Verdict::Clean),
            (2.0, 4, Verdict::Inconclusive),
            (6.0, 0, Verdict::Inconclusive),
        ];
        for (below, found, verdict) in cases {
            let confined = [vec![Some(0.2); found], vec![None; 10 - found]].concat();
            let looks = ShiftLooks { shift: 2, below, confined };
            assert_eq!(looks.verdict(), verdict, "{below} {found}");
            assert!(looks.look().words.contains(&format!("from {found} of 10 classes")), "{}", looks.look().words);
        }
    }

    #[test]
    fn without_a_window_it_is_judged_by_its_scores() {
        let verdict = |below| ShiftLooks { shift: 2, below, confined: Vec::new() }.verdict();
        assert_eq!([1.3, 1.4].map(verdict), [Verdict::Inconclusive, Verdict::Backdoored]);
    }
}
