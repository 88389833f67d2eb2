use crate::look;

/// Further looks at one suspicious class: the ratio of each inversion under another seed, to what is usual; `None` for one that did not converge.
#[derive(Debug, Clone, PartialEq)]
pub struct FurtherLooks {
    /// The position of the class.
    pub position: usize,
    /// Those with the whole image to change, to the [usual size](super::Statistics::usual_size).
    pub whole: Vec<Option<f64>>,
    /// Those that were confined to a [`Window`](crate::Window), to the [usual size of confined triggers](super::Statistics::usual_confined_size).
    pub confined: Vec<Option<f64>>,
    /// How foreign to the class the triggers of the first look and of those with the whole image to change are, by what the layers of the model see of them, as a multiple of what
    /// is usual: 1 is as foreign as those of the other classes, and less is natural. `None` where it was not measured.
    pub foreignness: Option<f64>,
    /// Whether the class was close to the bound, and so was looked at as often again: then its score decides, however close it is by now.
    pub closely: bool,
}

/// How many times its size a trigger may count for being larger in a window. Faint pictures that are blended in are spread over the image and no patches, but so small that
/// even this leaves little of them.
const SPREAD: f64 = 2.0;

impl FurtherLooks {
    /// What a class with this `ratio` at first is judged by: the geometric mean of its ratios without and with a window, each kind being the geometric mean of
    /// its looks; divided by the root of the foreignness. A search that did not converge counts as what is usual, 1, and a trigger in a window as no more than that.
    /// Where the ratio with a window is the larger one, it stands for the other, too, but for no more than twice that: what is smaller without a window is
    /// spread over the image, as no patch is.
    ///
    /// ```
    /// use neural_cleanse::detection::FurtherLooks;
    ///
    /// let looks = |whole, confined| FurtherLooks { position: 0, whole, confined, foreignness: None, closely: false };
    /// let score = looks(vec![Some(0.4)], vec![Some(0.1), Some(0.1)]).score(0.4);
    /// assert!((score - 0.2).abs() < 1e-9);
    /// let score = looks(vec![], vec![None, Some(0.49)]).score(0.5);
    /// assert!((score - 0.7).abs() < 1e-9);
    /// let faint = looks(vec![], vec![None, None]).score(0.08);
    /// assert!((faint - 0.4).abs() < 1e-9);
    /// let natural = FurtherLooks { foreignness: Some(0.25), ..looks(vec![], vec![]) };
    /// assert!((natural.score(0.3) - 0.6).abs() < 1e-9);
    /// ```
    pub fn score(&self, ratio: f64) -> f64 {
        let whole = self.whole_ratio(ratio);
        let size = if self.confined.is_empty() {
            whole
        } else {
            let confined = look::mean_of_at_most_usual(self.confined.iter().copied());
            (whole.max(confined.min(SPREAD * whole)) * confined).sqrt()
        };
        size / self.foreignness.unwrap_or(1.0).sqrt()
    }

    /// Of a class with this `ratio` at first, the geometric mean of all that had the whole image to change.
    pub fn whole_ratio(&self, ratio: f64) -> f64 {
        look::mean_of(ratio, &self.whole)
    }

    /// As it stands in a sentence.
    pub(crate) fn in_words(&self) -> String {
        let mut words = String::new();
        for (how, figures) in
            [("under further seeds", &self.whole), ("confined to a third of each side", &self.confined)]
        {
            if !figures.is_empty() {
                words += &format!(", {how} {}", look::listed(figures));
            }
        }
        if let Some(foreignness) = self.foreignness {
            words += &format!(", {foreignness:.2} times as foreign to the class as is usual");
        }
        words
    }
}
