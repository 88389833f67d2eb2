//! Reverse-mode differentiation of ONNX graphs.
//!
//! A model is read, checked and brought to one opset with static shapes
//! ([`Graph`]), simplified ([`simplify`]), differentiated ([`differentiate`]) and
//! written as an ordinary ONNX model again, which any ONNX engine runs.
