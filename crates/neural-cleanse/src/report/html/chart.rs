//! Charts as numbers: where things lie in a drawing, which the templates put into SVG.

use std::fmt::Write;

use crate::detection::Rule;
use crate::inversion::{Norm, Step};
use crate::report::{ClassReport, ClassState, ScanReport};

/// The height of the chart of sizes, in pixels. Its width is that of the page, so that horizontal measures are in percent.
pub const HEIGHT: f64 = 240.0;

/// The most labels that fit under the bars on a phone.
const MOST_LABELS: usize = 12;

/// The most points that a curve is drawn with.
const MOST_POINTS: usize = 200;

/// One bar a class, and the lines that tell small from large.
pub struct SizeChart {
    pub bars: Vec<Bar>,
    pub ticks: Vec<Tick>,
    /// The usual size or, by the paper's rule, the median of the norms.
    pub usual: Option<Line>,
    /// Median ± MAD, by the paper's rule.
    pub band: Option<Band>,
    pub flagged_below: Option<Line>,
    pub suspicious_below: Option<Line>,
}

pub struct Bar {
    pub x: f64,
    pub width: f64,
    pub middle: f64,
    pub y: f64,
    pub height: f64,
    pub kind: &'static str,
    pub title: String,
    /// The class's number, if there is room for it.
    pub label: Option<usize>,
    /// What is drawn in short, if there is room for it.
    pub value: Option<String>,
}

pub struct Tick {
    pub y: f64,
    pub label: String,
}

pub struct Line {
    pub y: f64,
    pub value: f64,
}

pub struct Band {
    pub y: f64,
    pub height: f64,
    pub mad: f64,
}

impl SizeChart {
    pub fn new(report: &ScanReport) -> Self {
        let sizes: Vec<f64> = report.classes.iter().map(|class| size(report, class)).collect();
        let converged = report.classes.iter().zip(&sizes).filter(|(class, _)| class.converged);
        let largest = converged.map(|(_, &size)| size).fold(0.0, f64::max);
        let top = if largest > 0.0 { largest * 1.1 } else { sizes.iter().copied().fold(1.0, f64::max) };
        let y = |value: f64| HEIGHT * (1.0 - (value / top).clamp(0.0, 1.0));
        let line = |value: f64| (value > 0.0).then(|| Line { y: y(value), value });

        let slot = 100.0 / sizes.len().max(1) as f64;
        let every = sizes.len().div_ceil(MOST_LABELS).max(1);
        let bars = report.classes.iter().zip(&sizes).enumerate().map(|(i, (class, &size))| {
            let flagged = report.flagged_classes.contains(&class.target_class);
            let height = HEIGHT - y(size);
            Bar {
                x: slot * (i as f64 + 0.14),
                width: slot * 0.72,
                middle: slot * (i as f64 + 0.5),
                y: HEIGHT - height,
                height,
                kind: match (class.state, class.converged) {
                    _ if flagged => "flagged",
                    (ClassState::Dropped, _) => "dropped",
                    (ClassState::Finished, true) => "usual",
                    (ClassState::Finished, false) => "unconverged",
                },
                title: format!("{}: {size:.2}", class.label()),
                label: i.is_multiple_of(every).then_some(class.target_class),
                value: (sizes.len() <= MOST_LABELS).then(|| short(size)),
            }
        });
        let by_ratio = matches!(report.rule, Rule::Ratio { .. });
        SizeChart {
            bars: bars.collect(),
            ticks: ticks(top).into_iter().map(|value| Tick { y: y(value), label: short(value) }).collect(),
            usual: if by_ratio { report.usual_size } else { report.median }.and_then(line),
            band: report.median.zip(report.mad).filter(|(_, mad)| !by_ratio && *mad > 0.0).map(|(median, mad)| {
                let (high, low) = (y(median + mad), y(median - mad));
                Band { y: high, height: low - high, mad }
            }),
            flagged_below: flagged_below(report).and_then(line),
            suspicious_below: match report.rule {
                Rule::Ratio { suspicious_below, .. } => {
                    report.usual_size.and_then(|usual| line(usual * suspicious_below))
                }
                Rule::Mad { .. } => None,
            },
        }
    }
}

/// What the rule compares with its bounds.
fn size(report: &ScanReport, class: &ClassReport) -> f64 {
    let norm = if report.parameters.norm == Norm::Inf { class.norm_inf } else { class.norm_l1 };
    let size = match report.rule {
        Rule::Ratio { .. } => class.score.or(class.ratio).zip(report.usual_size).map(|(score, usual)| score * usual),
        Rule::Mad { .. } => None,
    };
    size.or(norm).unwrap_or(0.0)
}

/// What the rule flags a class below.
fn flagged_below(report: &ScanReport) -> Option<f64> {
    match report.rule {
        Rule::Ratio { backdoored_below, .. } => Some(backdoored_below * report.usual_size?),
        Rule::Mad { threshold } => Some(report.median? - threshold * report.mad?),
    }
}

/// Round numbers from 0 to `top`, six at the most.
fn ticks(top: f64) -> Vec<f64> {
    let magnitude = 10f64.powf((top / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude).into_iter().find(|step| top / step <= 5.0);
    let step = step.unwrap_or(top);
    (0..=5).map(|i| step * f64::from(i)).filter(|&value| value <= top).collect()
}

/// Three digits or so.
fn short(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 1.0 => format!("{v:.1}").trim_end_matches(".0").to_owned(),
        v => format!("{v:.2}"),
    }
}

/// One figure over the steps of an inversion, in a box of 100 × 40.
pub struct Curve {
    pub name: &'static str,
    pub points: String,
    pub first: String,
    pub last: String,
    pub largest: String,
}

/// Attack success rate, norm and cost over the steps.
pub fn curves(steps: &[Step]) -> Vec<Curve> {
    if steps.is_empty() {
        return Vec::new();
    }
    let rate = |step: &Step| step.attack_success_rate;
    vec![
        curve("attack success rate", steps, Some(1.0), rate),
        curve("norm of the mask", steps, None, |step| step.norm),
        curve("cost", steps, None, |step| step.cost),
    ]
}

fn curve(name: &'static str, steps: &[Step], top: Option<f64>, figure: impl Fn(&Step) -> f64) -> Curve {
    let largest = steps.iter().map(&figure).fold(0.0, f64::max);
    let top = top.unwrap_or(largest).max(f64::MIN_POSITIVE);
    let every = steps.len().div_ceil(MOST_POINTS);
    let last = steps.len() - 1;
    let mut points = String::new();
    for (i, step) in steps.iter().enumerate().filter(|(i, _)| i.is_multiple_of(every) || *i == last) {
        let x = 100.0 * i as f64 / last.max(1) as f64;
        let y = 39.0 - 38.0 * figure(step) / top;
        let _ = write!(points, "{x:.1},{y:.1} ");
    }
    let figure = |step: &Step| significant(figure(step));
    Curve { name, points, first: figure(&steps[0]), last: figure(&steps[last]), largest: significant(largest) }
}

fn significant(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.01 { format!("{value:.1e}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(130.0), [0.0, 50.0, 100.0]);
        assert_eq!(ticks(1.0), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(9.0), [0.0, 2.0, 4.0, 6.0, 8.0]);
    }

    #[test]
    fn a_curve_runs_from_the_first_step_to_the_last_within_its_box() {
        let step = |step: usize| Step {
            step,
            cross_entropy: 1.0,
            attack_success_rate: step as f64 / 1000.0,
            norm: 2000.0 - step as f64,
            cost: 0.0,
        };
        let steps: Vec<Step> = (1..=1000).map(step).collect();
        let curves = curves(&steps);
        for curve in &curves {
            let points: Vec<(f64, f64)> = (curve.points.split_whitespace())
                .map(|point| point.split_once(',').unwrap())
                .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
                .collect();
            assert!(points.len() <= MOST_POINTS + 1, "{}", points.len());
            assert!(points.iter().all(|(x, y)| (0.0..=100.0).contains(x) && (0.0..=40.0).contains(y)), "{points:?}");
            assert_eq!((points[0].0, points[points.len() - 1].0), (0.0, 100.0));
        }
        assert_eq!((&*curves[0].last, &*curves[1].first, &*curves[2].largest), ("1.00", "1999.00", "0.00"));
    }
}
