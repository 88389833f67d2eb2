use std::fmt;

/// The element types which graphs may hold. float16 and bfloat16 models are converted to
/// float32 when they are imported, the narrow integers to int64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// 64-bit signed integers: shapes, axes, indices.
    I64,
    /// 32-bit signed integers.
    I32,
    /// Truth values.
    Bool,
}

impl ElementType {
    /// Whether values of this type can have a gradient.
    pub fn is_float(self) -> bool {
        matches!(self, ElementType::F32 | ElementType::F64)
    }

    /// Whether values of this type count: int32 and int64.
    pub fn is_integer(self) -> bool {
        matches!(self, ElementType::I64 | ElementType::I32)
    }

    /// The type that ONNX numbers `code` in `TensorProto.DataType`.
    pub(crate) fn from_onnx(code: i64) -> Option<Self> {
        match code {
            1 => Some(ElementType::F32),
            6 => Some(ElementType::I32),
            7 => Some(ElementType::I64),
            9 => Some(ElementType::Bool),
            11 => Some(ElementType::F64),
            _ => None,
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ElementType::F32 => "float32",
            ElementType::F64 => "float64",
            ElementType::I64 => "int64",
            ElementType::I32 => "int32",
            ElementType::Bool => "bool",
        })
    }
}

/// Element type and static shape of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueType {
    /// The type of each element.
    pub element: ElementType,
    /// The extent of each axis; empty for a scalar.
    pub shape: Vec<usize>,
}

impl ValueType {
    /// The most elements that a value of a graph may have.
    pub const MAX_LEN: usize = i32::MAX as usize;

    /// The most axes that a value of a graph may have.
    pub const MAX_RANK: usize = 32;

    /// A type from its parts.
    pub fn new(element: ElementType, shape: impl Into<Vec<usize>>) -> Self {
        ValueType { element, shape: shape.into() }
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether rank and size stay within [`ValueType::MAX_RANK`] and [`ValueType::MAX_LEN`], axes
    /// of no elements counting as one, so that no product of extents overflows.
    pub fn is_bounded(&self) -> bool {
        let len = self.shape.iter().try_fold(1usize, |len, &extent| len.checked_mul(extent.max(1)));
        self.rank() <= ValueType::MAX_RANK && len.is_some_and(|len| len <= ValueType::MAX_LEN)
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.element, self.shape)
    }
}

/// The elements of a [`Tensor`], in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum TensorData {
    /// float32
    F32(Vec<f32>),
    /// float64
    F64(Vec<f64>),
    /// int64
    I64(Vec<i64>),
    /// int32
    I32(Vec<i32>),
    /// bool
    Bool(Vec<bool>),
}

impl TensorData {
    /// The type of each element.
    pub fn element(&self) -> ElementType {
        match self {
            TensorData::F32(_) => ElementType::F32,
            TensorData::F64(_) => ElementType::F64,
            TensorData::I64(_) => ElementType::I64,
            TensorData::I32(_) => ElementType::I32,
            TensorData::Bool(_) => ElementType::Bool,
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            TensorData::F32(v) => v.len(),
            TensorData::F64(v) => v.len(),
            TensorData::I64(v) => v.len(),
            TensorData::I32(v) => v.len(),
            TensorData::Bool(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A constant: a shape and its elements in row-major order, as many as the shape says.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: TensorData,
}

impl Tensor {
    /// A tensor of `shape` with the elements `data`.
    ///
    /// # Panics
    /// If `data` does not have as many elements as `shape` says: callers check what comes from files.
    pub fn new(shape: impl Into<Vec<usize>>, data: TensorData) -> Self {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "tensor data does not fill its shape {shape:?}");
        Tensor { shape, data }
    }

    /// A one-dimensional int64 tensor, as shapes, axes and pads are given.
    pub fn ints(values: &[i64]) -> Self {
        Tensor::new([values.len()], TensorData::I64(values.to_vec()))
    }

    /// A scalar of a floating-point type; an integer type truncates `value`, bool tests it against 0.
    pub fn scalar(element: ElementType, value: f64) -> Self {
        Tensor::floats(element, [], &[value])
    }

    /// A tensor of type `element` with `values` converted to it.
    pub fn floats(element: ElementType, shape: impl Into<Vec<usize>>, values: &[f64]) -> Self {
        let data = match element {
            ElementType::F32 => TensorData::F32(values.iter().map(|&v| v as f32).collect()),
            ElementType::F64 => TensorData::F64(values.to_vec()),
            ElementType::I64 => TensorData::I64(values.iter().map(|&v| v as i64).collect()),
            ElementType::I32 => TensorData::I32(values.iter().map(|&v| v as i32).collect()),
            ElementType::Bool => TensorData::Bool(values.iter().map(|&v| v != 0.0).collect()),
        };
        Tensor::new(shape, data)
    }

    /// The extent of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements in row-major order.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The type of each element.
    pub fn element(&self) -> ElementType {
        self.data.element()
    }

    /// Element type and shape.
    pub fn value_type(&self) -> ValueType {
        ValueType::new(self.element(), self.shape.clone())
    }

    /// The same elements under another shape of the same size.
    pub fn reshaped(self, shape: impl Into<Vec<usize>>) -> Self {
        Tensor::new(shape, self.data)
    }

    /// A tensor of `shape` whose elements are those at `sources` in the row-major order of this one.
    ///
    /// # Panics
    /// If a source is beyond the elements, or if there are not as many sources as `shape` says.
    pub(crate) fn gathered(&self, shape: impl Into<Vec<usize>>, sources: &[usize]) -> Self {
        let data = match &self.data {
            TensorData::F32(v) => TensorData::F32(sources.iter().map(|&i| v[i]).collect()),
            TensorData::F64(v) => TensorData::F64(sources.iter().map(|&i| v[i]).collect()),
            TensorData::I64(v) => TensorData::I64(sources.iter().map(|&i| v[i]).collect()),
            TensorData::I32(v) => TensorData::I32(sources.iter().map(|&i| v[i]).collect()),
            TensorData::Bool(v) => TensorData::Bool(sources.iter().map(|&i| v[i]).collect()),
        };
        Tensor::new(shape, data)
    }

    /// The elements as float64 (bool as 0 and 1).
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.data {
            TensorData::F32(v) => v.iter().map(|&v| f64::from(v)).collect(),
            TensorData::F64(v) => v.clone(),
            TensorData::I64(v) => v.iter().map(|&v| v as f64).collect(),
            TensorData::I32(v) => v.iter().map(|&v| f64::from(v)).collect(),
            TensorData::Bool(v) => v.iter().map(|&v| f64::from(u8::from(v))).collect(),
        }
    }

    /// The elements as int64, if they are integers.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match &self.data {
            TensorData::I64(v) => Some(v.clone()),
            TensorData::I32(v) => Some(v.iter().map(|&v| i64::from(v)).collect()),
            _ => None,
        }
    }

    /// The elements as float32, if they are.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            TensorData::F32(v) => Some(v),
            _ => None,
        }
    }
}
