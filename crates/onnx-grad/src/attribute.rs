use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Tensor;

/// The value of a node's attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// An integer.
    Int(i64),
    /// Several integers.
    Ints(Vec<i64>),
    /// A number.
    Float(f32),
    /// Several numbers.
    Floats(Vec<f32>),
    /// A UTF-8 string.
    String(String),
    /// Several UTF-8 strings.
    Strings(Vec<String>),
    /// A constant.
    Tensor(Arc<Tensor>),
}

/// The attributes of a node by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(BTreeMap<String, Attribute>);

impl Attributes {
    /// No attributes.
    pub fn new() -> Self {
        Attributes::default()
    }

    /// The attribute called `name`.
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.0.get(name)
    }

    /// Sets an attribute, replacing one of the same name.
    pub fn set(&mut self, name: &str, value: impl Into<Attribute>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// The same attributes with one more, for building: `Attributes::new().with("axis", 1)`.
    pub fn with(mut self, name: &str, value: impl Into<Attribute>) -> Self {
        self.set(name, value);
        self
    }

    /// Removes an attribute and returns it.
    pub fn remove(&mut self, name: &str) -> Option<Attribute> {
        self.0.remove(name)
    }

    /// Names and values in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Attribute)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl<const N: usize, V: Into<Attribute>> From<[(&str, V); N]> for Attributes {
    fn from(pairs: [(&str, V); N]) -> Self {
        Attributes(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
    }
}

impl From<()> for Attributes {
    fn from((): ()) -> Self {
        Attributes::new()
    }
}

macro_rules! attribute_from {
    ($($from:ty => |$value:ident| $attribute:expr),* $(,)?) => {
        $(impl From<$from> for Attribute {
            fn from($value: $from) -> Self {
                $attribute
            }
        })*
    };
}

attribute_from! {
    i64 => |value| Attribute::Int(value),
    f32 => |value| Attribute::Float(value),
    &[i64] => |value| Attribute::Ints(value.to_vec()),
    Vec<i64> => |value| Attribute::Ints(value),
    &str => |value| Attribute::String(value.to_owned()),
    Tensor => |value| Attribute::Tensor(Arc::new(value)),
}
