//! Two-way tables as row effect + column effect + residual (Tukey, "Exploratory Data Analysis", 1977).

use ndarray::{Array2, ArrayView1, Axis};

use crate::detection::median;

/// A table, taken apart: `overall + rows[i] + columns[j] + residuals[[i, j]]` is the entry at `[i, j]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Polished {
    /// The typical entry.
    pub overall: f64,
    /// How each row differs from it.
    pub rows: Vec<f64>,
    /// How each column differs from it.
    pub columns: Vec<f64>,
    /// What neither explains; `None` where the table has no entry.
    pub residuals: Array2<Option<f64>>,
}

/// How often rows and columns take turns. Medians of tables settle in a few rounds, or go round in small circles.
const ROUNDS: usize = 10;

/// Takes `table` apart by medians, which single entries do not move. Rows and columns without entries have the effect 0.
pub fn median_polish(table: Array2<Option<f64>>) -> Polished {
    let (height, width) = table.dim();
    let mut polished = Polished { overall: 0.0, rows: vec![0.0; height], columns: vec![0.0; width], residuals: table };
    for _ in 0..ROUNDS {
        for axis in [Axis(0), Axis(1)] {
            polished.sweep(axis);
        }
    }
    polished
}

impl Polished {
    /// Moves the medians along `axis` from the residuals to the effects, and that of the effects to the overall.
    fn sweep(&mut self, axis: Axis) {
        let effects = if axis == Axis(0) { &mut self.rows } else { &mut self.columns };
        for (effect, mut line) in effects.iter_mut().zip(self.residuals.axis_iter_mut(axis)) {
            let middle = median_of_entries(line.view());
            line.iter_mut().flatten().for_each(|entry| *entry -= middle);
            *effect += middle;
        }
        let middle = median(effects).unwrap_or(0.0);
        effects.iter_mut().for_each(|effect| *effect -= middle);
        self.overall += middle;
    }
}

fn median_of_entries(line: ArrayView1<'_, Option<f64>>) -> f64 {
    median(&line.iter().flatten().copied().collect::<Vec<_>>()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn additive(rows: &[f64], columns: &[f64]) -> Array2<Option<f64>> {
        Array2::from_shape_fn((rows.len(), columns.len()), |(i, j)| Some(4.0 + rows[i] + columns[j]))
    }

    const ROWS: [f64; 6] = [0.3, -0.2, 0.0, 0.5, -0.4, 0.1];
    const COLUMNS: [f64; 6] = [0.0, -2.0, 0.2, -0.1, 0.3, -0.3];

    #[test]
    fn an_additive_table_has_no_residuals_and_a_missing_entry_stays_missing() {
        let mut table = additive(&ROWS, &COLUMNS);
        table[[2, 2]] = None;
        let polished = median_polish(table);
        for ((i, j), residual) in polished.residuals.indexed_iter() {
            assert_eq!(residual.is_none(), (i, j) == (2, 2));
            assert!(residual.is_none_or(|residual| residual.abs() < 1e-9), "{i}, {j}: {residual:?}");
        }
        assert!((polished.overall + polished.rows[0] + polished.columns[1] - (4.0 + 0.3 - 2.0)).abs() < 1e-9);
    }

    #[test]
    fn an_exceptional_entry_moves_its_own_residual_alone() {
        let mut table = additive(&ROWS, &COLUMNS);
        table[[3, 4]] = table[[3, 4]].map(|entry| entry - 1.5);
        for ((i, j), residual) in median_polish(table).residuals.indexed_iter() {
            let expected = if (i, j) == (3, 4) { -1.5 } else { 0.0 };
            assert!(residual.is_none_or(|residual| (residual - expected).abs() < 1e-9), "{i}, {j}: {residual:?}");
        }
    }

    #[test]
    fn an_empty_table_is_no_reason_to_fail() {
        let polished = median_polish(Array2::from_elem((3, 3), None));
        assert_eq!((polished.overall, polished.rows[1], polished.columns[2]), (0.0, 0.0, 0.0));
        assert_eq!(median_polish(Array2::from_elem((0, 0), None)).rows, Vec::<f64>::new());
    }
}
