use super::element::Element;

/// Arithmetic as ONNX engines do it: integers wrap around and divide towards zero, NaN
/// spreads through minima and maxima.
pub(super) trait Number: Element + PartialOrd {
    const ZERO: Self;
    const ONE: Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// `None` for an integer divided by zero.
    fn div(self, other: Self) -> Option<Self>;
    /// The remainder with the sign of `other`; `None` for an integer divided by zero.
    fn modulo(self, other: Self) -> Option<Self>;
    /// The remainder with the sign of `self`; `None` for an integer divided by zero.
    fn remainder(self, other: Self) -> Option<Self>;
    fn pow(self, exponent: f64) -> Self;
    fn is_nan(self) -> bool;
    /// From a count, exactly where the type has that number.
    fn from_count(count: usize) -> Self;

    fn max(self, other: Self) -> Self {
        if self > other || self.is_nan() { self } else { other }
    }

    fn min(self, other: Self) -> Self {
        if self < other || self.is_nan() { self } else { other }
    }
}

macro_rules! float {
    ($ty:ident) => {
        impl Number for $ty {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            fn add(self, other: Self) -> Self {
                self + other
            }
            fn sub(self, other: Self) -> Self {
                self - other
            }
            fn mul(self, other: Self) -> Self {
                self * other
            }
            fn div(self, other: Self) -> Option<Self> {
                Some(self / other)
            }
            fn modulo(self, other: Self) -> Option<Self> {
                Some(self - other * (self / other).floor())
            }
            fn remainder(self, other: Self) -> Option<Self> {
                Some(self % other)
            }
            fn pow(self, exponent: f64) -> Self {
                self.powf(exponent as $ty)
            }
            fn is_nan(self) -> bool {
                self.is_nan()
            }
            fn from_count(count: usize) -> Self {
                count as $ty
            }
        }
    };
}

macro_rules! integer {
    ($ty:ident) => {
        impl Number for $ty {
            const ZERO: Self = 0;
            const ONE: Self = 1;
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            fn div(self, other: Self) -> Option<Self> {
                (other != 0).then(|| self.wrapping_div(other))
            }
            fn modulo(self, other: Self) -> Option<Self> {
                let remainder = self.remainder(other)?;
                let differs = remainder != 0 && (remainder < 0) != (other < 0);
                Some(if differs { remainder + other } else { remainder })
            }
            fn remainder(self, other: Self) -> Option<Self> {
                (other != 0).then(|| self.wrapping_rem(other))
            }
            fn pow(self, exponent: f64) -> Self {
                (self as f64).powf(exponent) as $ty
            }
            fn is_nan(self) -> bool {
                false
            }
            fn from_count(count: usize) -> Self {
                count as $ty
            }
        }
    };
}

float!(f32);
float!(f64);
integer!(i64);
integer!(i32);
