use std::collections::BTreeMap;

use parquet::basic::{ConvertedType, Type};
use parquet::file::metadata::FileMetaData;
use parquet::schema::types::ColumnDescriptor;
use serde::Deserialize;

/// Which columns of a Parquet file have the images and the labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// `None` is the only column of images, or the one called `image` or `img`.
    pub image: Option<String>,
    /// `None` is the one called `label` or `labels`, or the only one that the file says has classes.
    pub label: Option<String>,
}

/// A column as it is stored.
pub(super) struct Column {
    /// Its position among all that are stored.
    pub(super) leaf: usize,
    /// The definition level of a value that is not null.
    pub(super) defined: i16,
    /// Whether numbers have 64 bits, not 32.
    pub(super) wide: bool,
}

/// The columns that were chosen in one file.
pub(super) struct Chosen {
    pub(super) image: Column,
    pub(super) label: Option<Column>,
    pub(super) class_names: Option<Vec<String>>,
}

impl Chosen {
    /// The columns of a file, or why they cannot be told.
    pub(super) fn of(metadata: &FileMetaData, wanted: &Columns) -> Result<Self, String> {
        let leaves = metadata.schema_descr().columns();
        let stored = |fits: fn(&ColumnDescriptor) -> bool| -> BTreeMap<&str, Column> {
            let all = leaves.iter().enumerate().filter(|(_, leaf)| leaf.max_rep_level() == 0 && fits(leaf));
            all.map(|(i, leaf)| {
                let column =
                    Column { leaf: i, defined: leaf.max_def_level(), wide: leaf.physical_type() == Type::INT64 };
                (leaf.path().parts()[0].as_str(), column)
            })
            .collect()
        };
        let (mut images, mut numbers) = (stored(is_image), stored(is_number));
        let class_names = class_names(metadata);

        let image = match &wanted.image {
            Some(name) => name.clone(),
            None => told(&images, &["image", "img"]).ok_or_else(|| ambiguous("images", &images, "--image-column"))?,
        };
        let column = images.remove(image.as_str());
        let image = column.ok_or_else(|| format!("`{image}` is not a column of images: {}", listed(&images)))?;
        let label = match &wanted.label {
            Some(name) => Some(name.clone()),
            None => match named(&numbers, &["label", "labels"]) {
                Some(name) => Some(name),
                None => {
                    numbers.retain(|name, _| class_names.contains_key(*name));
                    if numbers.len() > 1 {
                        return Err(ambiguous("labels", &numbers, "--label-column"));
                    }
                    numbers.keys().next().map(|name| (*name).to_owned())
                }
            },
        };
        let names = label.as_ref().and_then(|name| class_names.get(name).cloned());
        let label = label
            .map(|name| {
                let column = numbers.remove(name.as_str());
                column.ok_or_else(|| format!("`{name}` is not a column of whole numbers: {}", listed(&numbers)))
            })
            .transpose()?;
        Ok(Chosen { image, label, class_names: names })
    }
}

/// The bytes in a struct, or bytes by themselves, that are not text.
fn is_image(leaf: &ColumnDescriptor) -> bool {
    let parts = leaf.path().parts();
    leaf.physical_type() == Type::BYTE_ARRAY
        && leaf.converted_type() != ConvertedType::UTF8
        && (parts.len() == 1 || parts.len() == 2 && parts[1] == "bytes")
}

fn is_number(leaf: &ColumnDescriptor) -> bool {
    matches!(leaf.physical_type(), Type::INT32 | Type::INT64) && leaf.path().parts().len() == 1
}

/// The only column, or the first of `names` that there is.
fn told(columns: &BTreeMap<&str, Column>, names: &[&str]) -> Option<String> {
    match columns.len() {
        1 => columns.keys().next().map(|name| (*name).to_owned()),
        _ => named(columns, names),
    }
}

fn named(columns: &BTreeMap<&str, Column>, names: &[&str]) -> Option<String> {
    names.iter().find(|name| columns.contains_key(**name)).map(|name| (*name).to_owned())
}

fn ambiguous(what: &str, columns: &BTreeMap<&str, Column>, option: &str) -> String {
    format!("which column has the {what} does not show: choose one ({option}); {}", listed(columns))
}

fn listed(columns: &BTreeMap<&str, Column>) -> String {
    match columns.len() {
        0 => "there is none".to_owned(),
        _ => format!("there are {}", columns.keys().copied().collect::<Vec<_>>().join(", ")),
    }
}

#[derive(Deserialize)]
struct HuggingFace {
    info: Info,
}

#[derive(Deserialize)]
struct Info {
    features: BTreeMap<String, serde_json::Value>,
}

/// The names of the classes by column, as Hugging Face writes them into the file's metadata.
fn class_names(metadata: &FileMetaData) -> BTreeMap<String, Vec<String>> {
    let entries = metadata.key_value_metadata().into_iter().flatten();
    let text = entries.filter(|entry| entry.key == "huggingface").find_map(|entry| entry.value.as_deref());
    let parsed = text.and_then(|text| serde_json::from_str::<HuggingFace>(text).ok());
    let features = parsed.map(|parsed| parsed.info.features).unwrap_or_default();
    let names = |feature: &serde_json::Value| {
        (feature.get("_type")? == "ClassLabel").then(|| serde_json::from_value(feature.get("names")?.clone()).ok())?
    };
    features.iter().filter_map(|(column, feature)| Some((column.clone(), names(feature)?))).collect()
}
