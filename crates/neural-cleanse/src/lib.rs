//! Find and remove backdoors in neural-network classifiers.
//!
//! This is Neural Cleanse (Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor
//! Attacks in Neural Networks", IEEE S&P 2019) for models of any framework, through ONNX: for each
//! class it inverts the smallest [`Trigger`] that sends images there ([`inversion`]), compares
//! the triggers' sizes ([`detection`]) and says whether one is exceptionally small ([`scan()`]).
//! The documented API of `NeuralCleanse` is in [`NeuralCleanse`].

mod aim;
mod attack;
mod calibration;
pub mod classifier;
mod clean_set;
pub mod data;
pub mod detection;
mod elimination;
pub mod engine;
mod engine_check;
mod error;
mod extent;
mod few_classes;
mod files;
mod foreignness;
mod interface;
pub mod inversion;
mod likeness;
mod logits;
mod look;
pub mod margin;
mod median_polish;
mod minibatches;
pub mod mitigation;
mod mode;
mod model_card;
mod network;
mod neural_cleanse;
mod optimiser;
pub mod pairs;
mod preprocessing;
pub mod report;
pub mod scan;
mod scores;
mod searches;
mod store;
mod trainable;
mod trigger;
mod window;

pub use attack::Attack;
pub use calibration::{Calibration, PairCalibration};
pub use classifier::{Classifier, ClassifierOptions, Predictor};
pub use clean_set::CleanSet;
pub use detection::{Rule, Verdict};
pub use error::{Error, Result};
pub use extent::Extent;
pub use files::remove_unfinished;
pub use interface::InterfaceOptions;
pub use inversion::{Config, Inversion, Norm, TriggerKind};
pub use look::{Look, Method};
pub use mitigation::{Backdoor, Mitigation, Repair, mitigate};
pub use mode::{Mode, scan_in_mode};
pub use model_card::ModelCard;
pub use network::{Network, TrainableWeight};
pub use neural_cleanse::{BackdoorExamples, CleansedClassifier, NeuralCleanse, Predictions};
pub use onnx_grad::Model;
pub use optimiser::Optimiser;
pub use preprocessing::{Layout, Preprocessing};
pub use scan::{Scan, ScanOptions, scan};
pub use scores::Scores;
pub use store::{Fingerprint, Store};
pub use trainable::Layers;
pub use trigger::{Stamp, Trigger};
pub use window::Window;
