use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::detection::Verdict;

/// How a scan looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// At the size of a class's trigger (by the rule `mad`, at its norm), beside those of the others; of two to four classes, beside the image's size, too.
    Norm,
    /// At a trigger for the images of one class alone: its size beside what source and target lead to expect, and how alike it makes the two.
    Pair,
    /// At the sizes of all triggers for one target, each for the images of one class alone.
    Column,
    /// At which target has the lowest score of each source.
    Shift,
    /// At the largest margin by which any input is of a class.
    Margin,
}

/// One thing that a scan looked at, and what that speaks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Look {
    /// How it looked.
    pub method: Method,
    /// The class whose images are to be sent elsewhere; null where it is all, or none in particular.
    pub source: Option<usize>,
    /// The class that they are to be sent to; null where it is none in particular.
    pub target: Option<usize>,
    /// The figure of the first look: for `norm` the ratio to the usual size (with the rule `mad` the anomaly index, of two to four classes the
    /// extent as a share of the image), for `pair` the score, for `column` the ratio to what is usual, for `shift` how many standard deviations its
    /// scores are below those of other pairs, for `margin` the p-value; null where there is none.
    pub figure: Option<f64>,
    /// The same under further seeds; null for a search that did not converge.
    pub further: Vec<Option<f64>>,
    /// The same of searches that were confined to a third of each side of the image, for `norm` as a ratio to the usual size of such triggers; for the others the size alone, as a
    /// share of what is expected: for `pair` half of them to a fifth and half to a seventh, for `column` and `shift` to a fifth, from each source by itself.
    #[serde(default)]
    pub confined: Vec<Option<f64>>,
    /// What this speaks for by itself.
    pub verdict: Verdict,
    /// The same in words.
    pub words: String,
}

/// The words of all `looks` as one reason. Of the classes with small triggers that were let off, only the one with the smallest is named, and none where another
/// class was not let off; likewise of the pairs.
pub(crate) fn reason(looks: &[Look]) -> String {
    let figure = |look: &&Look| look.figure.unwrap_or(f64::INFINITY);
    let counts = |look: &&Look| {
        let is_alike = |other: &&Look| other.is_of_pairs() == look.is_of_pairs() && other.method != Method::Margin;
        let alike = || looks.iter().filter(is_alike);
        let most_suspicious = alike().min_by(|a, b| figure(a).total_cmp(&figure(b)));
        let others_stand = alike().any(|other| other.verdict != Verdict::Clean);
        !look.is_let_off() || (!others_stand && most_suspicious == Some(look))
    };
    looks.iter().filter(counts).map(|look| look.words.as_str()).collect::<Vec<_>>().join("; ")
}

impl Look {
    /// A look at nothing in particular, without words yet.
    pub(crate) fn by(method: Method, verdict: Verdict, figure: Option<f64>) -> Self {
        Look {
            method,
            source: None,
            target: None,
            figure,
            further: Vec::new(),
            confined: Vec::new(),
            verdict,
            words: String::new(),
        }
    }

    /// Whether it is at a class, a pair or a column whose triggers are no sign of a backdoor.
    fn is_let_off(&self) -> bool {
        let is_at_one = matches!(self.method, Method::Norm | Method::Pair | Method::Column) && self.figure.is_some();
        is_at_one && self.verdict == Verdict::Clean
    }

    fn is_of_pairs(&self) -> bool {
        matches!(self.method, Method::Pair | Method::Column | Method::Shift)
    }
}

/// What all `looks` come to: backdoored if any speaks for it, otherwise inconclusive if any does, otherwise clean.
pub(crate) fn verdict(looks: &[Look]) -> Verdict {
    let speaks = |verdict| looks.iter().any(|look| look.verdict == verdict);
    match (speaks(Verdict::Backdoored), speaks(Verdict::Inconclusive)) {
        (true, _) => Verdict::Backdoored,
        (false, true) => Verdict::Inconclusive,
        (false, false) => Verdict::Clean,
    }
}

/// The geometric mean of the ratios of all looks, the `first` and the `further` ones. A search without a trigger counts as what is usual, 1.
pub(crate) fn mean_of(first: f64, further: &[Option<f64>]) -> f64 {
    geometric_mean(further.iter().map(|ratio| ratio.unwrap_or(1.0)).chain([first]))
}

/// The geometric mean of at least one figure, each a multiple of what is usual: a search without a trigger counts as that, 1, and no trigger as more.
pub(crate) fn mean_of_at_most_usual(figures: impl Iterator<Item = Option<f64>>) -> f64 {
    geometric_mean(figures.map(|figure| figure.unwrap_or(1.0).min(1.0)))
}

/// The geometric mean of at least one figure.
pub(crate) fn geometric_mean(figures: impl Iterator<Item = f64>) -> f64 {
    let logarithms: Vec<f64> = figures.map(f64::ln).collect();
    (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp()
}

/// Figures of further looks, as they stand in a sentence.
pub(crate) fn listed(figures: &[Option<f64>]) -> String {
    let figure = |figure: &Option<f64>| figure.map_or("no trigger".to_owned(), |figure| format!("{figure:.2}"));
    let words: Vec<String> = figures.iter().map(figure).collect();
    match words.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::norm_look;

    #[test]
    fn the_reason_names_what_stands_and_otherwise_what_is_most_suspicious() {
        let look = |class: usize, figure, verdict| norm_look(Some(class), Some(figure), verdict, class.to_string());
        let let_off = [look(3, 0.7, Verdict::Clean), look(5, 0.6, Verdict::Clean)];
        assert_eq!(reason(&let_off), "5");
        let left_out = Look { method: Method::Pair, figure: None, ..look(8, 0.0, Verdict::Clean) };
        let [first, second] = let_off;
        let undecided = look(7, 0.65, Verdict::Inconclusive);
        let looks = [first, undecided, left_out, second];
        assert_eq!(reason(&looks), "7; 8");

        let of_pair = |class: usize, figure, verdict| Look { method: Method::Pair, ..look(class, figure, verdict) };
        let pairs = [of_pair(1, 0.5, Verdict::Clean), of_pair(2, 0.3, Verdict::Clean)];
        assert_eq!(reason(&[&looks[..], &pairs].concat()), "7; 8; 2");
        let column = Look { method: Method::Column, ..look(4, 0.1, Verdict::Backdoored) };
        assert_eq!(reason(&[&looks[..], &pairs, std::slice::from_ref(&column)].concat()), "7; 8; 4");
        let let_off = Look { verdict: Verdict::Clean, ..column };
        let undecided = of_pair(6, 0.35, Verdict::Inconclusive);
        assert_eq!(reason(&[let_off, undecided]), "6");
    }
}
