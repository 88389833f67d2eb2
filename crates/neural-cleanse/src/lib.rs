//! Find and remove backdoors in neural-network classifiers (Neural Cleanse, Wang et al., IEEE S&P 2019).

pub mod data;
pub mod engine;
