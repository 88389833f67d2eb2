use crate::TensorData;

/// A Rust type that is one of the element types, for functions generic over them.
pub(super) trait Element: Copy {
    /// The elements of `data` if they are of this type.
    fn of(data: &TensorData) -> Option<&[Self]>;

    /// Elements of this type as the data of a tensor.
    fn into_data(values: Vec<Self>) -> TensorData;
}

macro_rules! element {
    ($($variant:ident => $ty:ty),*) => {
        $(impl Element for $ty {
            fn of(data: &TensorData) -> Option<&[Self]> {
                match data {
                    TensorData::$variant(values) => Some(values),
                    _ => None,
                }
            }

            fn into_data(values: Vec<Self>) -> TensorData {
                TensorData::$variant(values)
            }
        })*
    };
}
element!(F32 => f32, F64 => f64, I64 => i64, I32 => i32, Bool => bool);

/// Evaluates `$body` with `$T` standing for the Rust type of the element type `$element`.
macro_rules! with_type {
    ($element:expr, $T:ident => $body:expr) => {
        match $element {
            crate::ElementType::F32 => with_type!(@ f32, $T, $body),
            crate::ElementType::F64 => with_type!(@ f64, $T, $body),
            crate::ElementType::I64 => with_type!(@ i64, $T, $body),
            crate::ElementType::I32 => with_type!(@ i32, $T, $body),
            crate::ElementType::Bool => with_type!(@ bool, $T, $body),
        }
    };
    (@ $ty:ty, $T:ident, $body:expr) => {{
        type $T = $ty;
        $body
    }};
}
pub(super) use with_type;

/// As [`with_type`] for numbers; `$otherwise` for truth values.
macro_rules! with_number {
    ($element:expr, $T:ident => $body:expr, $otherwise:expr) => {
        match $element {
            crate::ElementType::F32 => with_type!(@ f32, $T, $body),
            crate::ElementType::F64 => with_type!(@ f64, $T, $body),
            crate::ElementType::I64 => with_type!(@ i64, $T, $body),
            crate::ElementType::I32 => with_type!(@ i32, $T, $body),
            crate::ElementType::Bool => $otherwise,
        }
    };
}
pub(super) use with_number;
