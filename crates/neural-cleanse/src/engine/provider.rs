use std::fmt;
use std::str::FromStr;

use super::EngineError;

/// Where ONNX Runtime computes: its execution providers.
///
/// Those besides the processor need a build of ONNX Runtime that has them (the Python packages `onnxruntime-gpu`,
/// `onnxruntime-directml`, or macOS's own), and what they need themselves, such as CUDA's libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Provider {
    /// The processor.
    #[default]
    Cpu,
    /// Nvidia's graphics cards.
    Cuda,
    /// Nvidia's graphics cards, through TensorRT.
    TensorRt,
    /// Apple's processors and accelerators.
    CoreMl,
    /// Graphics cards under Windows.
    DirectMl,
}

impl Provider {
    /// Every provider, in the order in which to list them.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Cuda, Self::TensorRt, Self::CoreMl, Self::DirectMl];

    /// The name under which it is chosen: `cuda`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::CoreMl => "coreml",
            Self::DirectMl => "directml",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Provider {
    type Err = EngineError;

    fn from_str(name: &str) -> Result<Self, EngineError> {
        let named = Self::ALL.into_iter().find(|provider| provider.name() == name);
        named.ok_or_else(|| EngineError::UnknownProvider { name: name.to_owned() })
    }
}
