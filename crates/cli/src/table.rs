use comfy_table::{CellAlignment, Table, TableComponent, presets};
use neural_cleanse::mitigation::{Measurement, Repair};
use neural_cleanse::report::{ClassState, ScanReport};

/// One line a class: number, name, norm, ratio, anomaly index, attack success rate, steps and state.
pub fn of_classes(report: &ScanReport) -> Table {
    let mut table = plain();
    table.set_header(["class", "name", "L1 norm", "÷ median", "anomaly index", "ASR", "steps", "state"]);
    for class in &report.classes {
        let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.2}"));
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

/// One line a stage of a repair: what it is, clean accuracy, the success rate of each reversed trigger and of the true
/// one, and the filter's error rates, all in percent.
pub fn of_repair(repair: &Repair, targets: &[usize]) -> Table {
    let mut table = plain();
    let mut header = vec!["stage".to_owned(), "clean accuracy".to_owned()];
    header.extend(targets.iter().map(|target| format!("ASR, reversed ({target})")));
    header.extend(["ASR, true", "false positives", "let through", "what was done"].map(str::to_owned));
    table.set_header(header);
    let mut add = |stage: &str, measurement: &Measurement, summary: &str| {
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        let perhaps = |share: Option<f64>| share.map_or("–".to_owned(), percent);
        let mut row = vec![stage.to_owned(), percent(measurement.clean_accuracy)];
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
    align_right(&mut table, 1..targets.len() + 5);
    table
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
