use comfy_table::{CellAlignment, Table, TableComponent, presets};
use neural_cleanse::mitigation::{Measurement, Repair};
use neural_cleanse::report::{ClassReport, ClassState, Comparison, MarginsReport, PairReport, ScanReport, Summary};

/// One line a class: number, name, norm, ratio, anomaly index, attack success rate, steps and state.
pub fn of_classes(report: &ScanReport) -> Table {
    let mut table = plain();
    table.set_header(["class", "name", "L1 norm", "ratio", "anomaly index", "ASR", "steps", "state"]);
    for class in &report.classes {
        let state = match (class.state, class.converged) {
            _ if report.flagged_classes.contains(&class.target_class) => "FLAGGED",
            (ClassState::Dropped, _) => "dropped",
            (ClassState::Finished, true) => "",
            (ClassState::Finished, false) => "not converged",
        };
        table.add_row([
            class.target_class.to_string(),
            class.name.clone(),
            number(class.norm_l1),
            number(class.ratio),
            number(class.anomaly_index),
            class.attack_success_rate.map_or("–".to_owned(), |rate| format!("{rate:.3}")),
            class.steps.to_string(),
            state.to_owned(),
        ]);
    }
    align_right(&mut table, [0, 2, 3, 4, 5, 6]);
    table
}

/// How many pairs are shown.
const PAIRS: usize = 10;

/// The pairs that are attacked and those with the lowest scores, one a line: source, target, norm, share of what is expected, likeness as a share of the usual, leaning, score, that of the first
/// look in a window, and of those that were looked at again the directness and the aim of the triggers in a window and the score in all; and the success rate.
pub fn of_pairs(pairs: &[PairReport]) -> Table {
    let mut table = plain();
    table.set_header([
        "source",
        "target",
        "L1 norm",
        "÷ expected",
        "likeness",
        "leaning",
        "score",
        "in window",
        "directness",
        "aim",
        "in all",
        "ASR",
        "steps",
        "state",
    ]);
    let mut lowest: Vec<&PairReport> = pairs.iter().filter(|pair| pair.score.is_some()).collect();
    lowest.sort_by(|a, b| b.attacked.cmp(&a.attacked).then(lowest_score(a).total_cmp(&lowest_score(b))));
    for pair in lowest.into_iter().take(PAIRS) {
        table.add_row([
            pair.source.to_string(),
            pair.target.to_string(),
            number(pair.norm_l1),
            number(pair.share),
            number(pair.likeness),
            number(pair.leaning),
            number(pair.score),
            number(pair.score_in_window),
            number(pair.directness),
            number(pair.aim),
            number(pair.score_in_all),
            pair.attack_success_rate.map_or("–".to_owned(), |rate| format!("{rate:.3}")),
            pair.steps.to_string(),
            if pair.attacked { "FLAGGED" } else { "" }.to_owned(),
        ]);
    }
    align_right(&mut table, 0..13);
    table
}

/// What makes the pair most suspicious, with the whole image to change or in a window.
fn lowest_score(pair: &PairReport) -> f64 {
    [pair.score, pair.score_in_window].into_iter().flatten().fold(f64::INFINITY, f64::min)
}

/// One line a class: its largest margin.
pub fn of_margins(margins: &MarginsReport) -> Table {
    let mut table = plain();
    table.set_header(["class", "largest margin"]);
    for (class, margin) in margins.margins.iter().enumerate() {
        table.add_row([class.to_string(), format!("{margin:.2}")]);
    }
    align_right(&mut table, 0..2);
    table
}

/// One line a stage of a repair: what it is, clean accuracy, how many images of each target are recognised and how many clean ones of
/// other classes go there, the success rate of each reversed trigger and of the true one, and the filter's error rates, all in percent.
pub fn of_repair(repair: &Repair, targets: &[usize]) -> Table {
    let mut table = plain();
    let mut header = vec!["stage".to_owned(), "clean accuracy".to_owned()];
    header.extend(targets.iter().map(|target| format!("recall ({target})")));
    header.extend(targets.iter().map(|target| format!("no trigger ({target})")));
    header.extend(targets.iter().map(|target| format!("ASR, reversed ({target})")));
    header.extend(["ASR, true", "false positives", "let through", "what was done"].map(str::to_owned));
    table.set_header(header);
    let mut add = |stage: &str, measurement: &Measurement, summary: &str| {
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        let perhaps = |share: Option<f64>| share.map_or("–".to_owned(), percent);
        let mut row = vec![stage.to_owned(), percent(measurement.clean_accuracy)];
        row.extend(measurement.target_recalls.iter().map(|&share| perhaps(share)));
        row.extend(measurement.natural_confusion_rates.iter().map(|&rate| percent(rate)));
        row.extend(measurement.attack_success_rates.iter().map(|&rate| percent(rate)));
        row.push(perhaps(measurement.true_attack_success_rate));
        row.push(perhaps(measurement.false_positive_rate));
        row.push(perhaps(measurement.false_negative_rate));
        row.push(summary.to_owned());
        table.add_row(row);
    };
    add("before", &repair.before, "");
    for outcome in &repair.outcomes {
        add(&outcome.method, &outcome.after, &outcome.summary);
    }
    align_right(&mut table, 1..3 * targets.len() + 5);
    table
}

/// One line a model: verdict, smallest ratio, anomaly index, flagged classes and reason.
pub fn of_models(summary: &Summary) -> Table {
    let mut table = plain();
    table.set_header(["model", "verdict", "ratio", "anomaly index", "flagged", "reason"]);
    for model in &summary.models {
        let flagged: Vec<String> = model.flagged_classes.iter().map(usize::to_string).collect();
        table.add_row([
            model.model.clone(),
            model.outcome(),
            number(model.ratio),
            number(model.anomaly_index),
            flagged.join(", "),
            model.reason.clone(),
        ]);
    }
    align_right(&mut table, [2, 3]);
    table
}

/// One line a class: norm, ratio and attack success rate in both scans.
pub fn of_comparison(comparison: &Comparison) -> Table {
    let mut table = plain();
    table.set_header([
        "class",
        "name",
        "L1 norm: 1st",
        "2nd",
        "ratio: 1st",
        "2nd",
        "ASR: 1st",
        "2nd",
        "flagged: 1st",
        "2nd",
    ]);
    for class in &comparison.classes {
        let named = class.first.as_ref().or(class.second.as_ref());
        let mut row = vec![class.target_class.to_string(), named.map_or(String::new(), |class| class.name.clone())];
        let figures: [fn(&ClassReport) -> Option<f64>; 3] =
            [|class| class.norm_l1, |class| class.ratio, |class| class.attack_success_rate];
        for figure in figures {
            row.extend([&class.first, &class.second].map(|class| number(class.as_ref().and_then(figure))));
        }
        let flagged = [&comparison.first, &comparison.second]
            .map(|scan| if scan.flagged_classes.contains(&class.target_class) { "FLAGGED" } else { "" }.to_owned());
        row.extend(flagged);
        table.add_row(row);
    }
    align_right(&mut table, [0, 2, 3, 4, 5, 6, 7]);
    table
}

fn number(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.2}"))
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_style(TableComponent::HeaderLines, '─').set_style(TableComponent::MiddleHeaderIntersections, '─');
    table
}

fn align_right(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for i in columns {
        if let Some(column) = table.column_mut(i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// `number` of what is called so: `1 search`, `2 searches`.
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
