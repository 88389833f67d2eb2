//! Any bytes as a model: read, described, and written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onnx_grad::Model;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = Model::from_bytes(bytes) else { return };
    let _ = (model.inputs(), model.outputs(), model.operators(), model.metadata(), model.producer());
    let again = Model::from_bytes(&model.to_bytes()).expect("what was read and written");
    // Not `==` on the models, which a NaN among the attributes would fail.
    assert_eq!(again.to_bytes(), model.to_bytes());
});
