use serde::{Deserialize, Serialize};

use super::config::{Config, StartCost};

/// The dynamic weight of the mask's norm, and the decision to stop early.
///
/// This is the rule of the paper's released code: the cost rises after `patience` successes in a
/// row and falls after as many failures, so that the attack success rate hovers about its
/// threshold while the norm shrinks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CostSchedule {
    cost: f64,
    init_cost: f64,
    factor_up: f64,
    factor_down: f64,
    patience: usize,
    successes: usize,
    failures: usize,
    has_risen: bool,
    has_fallen: bool,
}

impl CostSchedule {
    /// The schedule as it stands before the first step.
    pub fn new(config: &Config) -> Self {
        CostSchedule {
            cost: match config.start_cost {
                StartCost::Zero => 0.0,
                StartCost::InitCost => config.init_cost,
            },
            init_cost: config.init_cost,
            factor_up: config.cost_multiplier,
            factor_down: config.cost_multiplier.powf(1.5),
            patience: config.patience,
            successes: 0,
            failures: 0,
            has_risen: false,
            has_fallen: false,
        }
    }

    /// The weight of the norm for the next step.
    pub fn cost(&self) -> f64 {
        self.cost
    }

    /// Whether the cost has been raised and lowered at least once each.
    pub fn has_turned(&self) -> bool {
        self.has_risen && self.has_fallen
    }

    /// Takes note of a finished step: whether its attack success rate reached the threshold.
    pub fn record(&mut self, success: bool) {
        if success {
            self.successes += 1;
            self.failures = 0;
        } else {
            self.failures += 1;
            self.successes = 0;
        }
        if self.successes >= self.patience {
            self.successes = 0;
            if self.cost == 0.0 {
                self.cost = self.init_cost;
            } else {
                self.cost *= self.factor_up;
                self.has_risen = true;
            }
        } else if self.failures >= self.patience {
            self.failures = 0;
            if self.cost > 0.0 {
                self.cost /= self.factor_down;
                self.has_fallen = true;
            }
        }
    }
}

/// Counts the steps in which the best norm did not improve.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EarlyStop {
    threshold: f64,
    patience: usize,
    best: f64,
    stale_steps: usize,
}

impl EarlyStop {
    /// The rule of `config`, or none if it is switched off.
    pub fn new(config: &Config) -> Option<Self> {
        config.early_stop.then_some(EarlyStop {
            threshold: config.early_stop_threshold,
            patience: config.early_stop_patience,
            best: f64::INFINITY,
            stale_steps: 0,
        })
    }

    /// Takes note of the best norm after a step (`None` before the first success) and says whether
    /// the class is finished.
    pub fn record(&mut self, best: Option<f64>, schedule: &CostSchedule) -> bool {
        if let Some(norm) = best {
            if norm < self.threshold * self.best {
                self.stale_steps = 0;
            } else {
                self.stale_steps += 1;
            }
            self.best = self.best.min(norm);
        }
        schedule.has_turned() && self.stale_steps >= self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule() -> CostSchedule {
        CostSchedule::new(&Config { patience: 2, init_cost: 0.01, cost_multiplier: 4.0, ..Config::default() })
    }

    fn costs_after(schedule: &mut CostSchedule, steps: &str) -> Vec<f64> {
        steps
            .chars()
            .map(|step| {
                schedule.record(step == '+');
                schedule.cost()
            })
            .collect()
    }

    #[test]
    fn the_cost_stays_zero_until_patience_successes_in_a_row() {
        assert_eq!(costs_after(&mut schedule(), "+-+--++"), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.01]);
    }

    #[test]
    fn the_cost_rises_by_the_multiplier_and_falls_by_its_power_of_one_and_a_half() {
        let mut schedule = schedule();
        assert_eq!(costs_after(&mut schedule, "++++"), [0.0, 0.01, 0.01, 0.04]);
        assert!(!schedule.has_turned());
        assert_eq!(costs_after(&mut schedule, "--"), [0.04, 0.005]);
        assert!(schedule.has_turned());
    }

    #[test]
    fn a_counter_is_cleared_when_it_fires_and_by_the_other_kind_of_step() {
        let mut schedule = schedule();
        costs_after(&mut schedule, "++");
        assert_eq!(costs_after(&mut schedule, "+-+-+-"), [0.01; 6]);
        assert_eq!(costs_after(&mut schedule, "+++++"), [0.01, 0.04, 0.04, 0.16, 0.16]);
    }

    #[test]
    fn early_stop_waits_for_a_cost_which_went_up_and_down() {
        let config = Config { early_stop_patience: 2, patience: 1, ..Config::default() };
        let mut schedule = CostSchedule::new(&config);
        let mut early_stop = EarlyStop::new(&config).unwrap();
        for success in [true, true, true, true] {
            schedule.record(success);
            assert!(!early_stop.record(Some(10.0), &schedule));
        }
        schedule.record(false);
        assert!(early_stop.record(Some(10.0), &schedule));
    }

    #[test]
    fn an_improvement_starts_the_count_again() {
        let config = Config { early_stop_patience: 2, patience: 1, ..Config::default() };
        let mut schedule = CostSchedule::new(&config);
        [true, true, false].into_iter().for_each(|success| schedule.record(success));
        let mut early_stop = EarlyStop::new(&config).unwrap();
        let norms = [None, Some(10.0), Some(9.95), Some(5.0), Some(5.0), Some(4.99)];
        let stops = norms.map(|norm| early_stop.record(norm, &schedule));
        assert_eq!(stops, [false, false, false, false, false, true]);
        assert!(EarlyStop::new(&Config { early_stop: false, ..config }).is_none());
    }
}
