use comfy_table::{CellAlignment, Table, TableComponent, presets};
use neural_cleanse::report::ScanReport;

/// One line a class: number, name, norm, ratio, anomaly index, attack success rate, steps and state.
pub fn of_classes(report: &ScanReport) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).remove_style(TableComponent::HorizontalLines);
    table.set_header(["class", "name", "L1 norm", "÷ median", "anomaly index", "ASR", "steps", "state"]);
    for class in &report.classes {
        let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.2}"));
        let state = match (report.flagged_classes.contains(&class.target_class), class.converged) {
            (true, _) => "FLAGGED",
            (false, true) => "",
            (false, false) => "not converged",
        };
        table.add_row([
            class.target_class.to_string(),
            class.name.clone(),
            format!("{:.2}", class.norm_l1),
            number(class.ratio),
            number(class.anomaly_index),
            format!("{:.3}", class.attack_success_rate),
            class.steps.to_string(),
            state.to_owned(),
        ]);
    }
    for i in [0, 2, 3, 4, 5, 6] {
        if let Some(column) = table.column_mut(i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
