//! Parquet files in the layout of Hugging Face: images as structs with the bytes of an image file, labels as numbers.

mod columns;
mod header;
mod pages;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use rayon::prelude::*;

use super::images::{self, Decoded};
use super::{DataError, Samples, Wanted, bounded, labels, subset};
use crate::files;
use columns::Chosen;
pub use columns::Columns;
use pages::Pages;

/// The most rows that are read, in all files together.
const MAX_ROWS: usize = 1 << 24;

/// How many images are held undecoded at a time.
const UNDECODED: usize = 256;

/// How many labels are read at a time.
const LABELS: usize = 1 << 16;

/// The Parquet files of a folder, in the order of their names.
pub(super) fn shards(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let unreadable = |source| DataError::Read { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet")) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads the samples in the files at `paths`, which belong together, one after the other.
pub(super) fn load(paths: &[PathBuf], labels: Option<&Path>, wanted: &Wanted) -> Result<Samples, DataError> {
    let shards: Vec<Shard> = paths.iter().map(|path| Shard::open(path, &wanted.columns)).collect::<Result<_, _>>()?;
    let first = shards.first().ok_or_else(|| DataError::Empty { path: PathBuf::from(".") })?;
    let rows = shards.iter().fold(0usize, |rows, shard| rows.saturating_add(shard.rows));
    if rows == 0 {
        return Err(DataError::Empty { path: first.path.clone() });
    }
    if rows > MAX_ROWS {
        return Err(first.malformed(format!("there are {rows} rows, and {MAX_ROWS} is the limit")));
    }
    if !matches!(wanted.channels, 1 | 3) {
        return Err(DataError::Channels { path: first.path.clone(), channels: wanted.channels });
    }
    let labels = match labels {
        Some(file) => Some(labels::load(file, rows)?),
        None => all_labels(&shards)?,
    };
    let mut order: Vec<usize> = match wanted.at_most {
        Some(picked) if picked.samples < rows => subset::order(labels.as_deref(), rows, picked.seed),
        _ => (0..rows).collect(),
    };
    order.truncate(wanted.at_most.map_or(rows, |picked| picked.samples));
    let shape = [order.len(), wanted.channels, wanted.height, wanted.width];
    bounded::values(&shape).map_err(|reason| first.malformed(reason))?;
    let decoded = decode_rows(&shards, &order, wanted)?;
    let name = |row: usize| format!("row {} of {}", order[row], first.path.display());
    Ok(Samples {
        notes: images::resized_note(&decoded, name, wanted).into_iter().collect(),
        images: images::stack(&decoded, shape),
        labels: labels.map(|labels| order.iter().map(|&row| labels[row]).collect()),
        class_names: first.columns.class_names.clone(),
    })
}

/// The shape `[C, H, W]` of the first image.
pub(super) fn first_shape(path: &Path, columns: &Columns) -> Result<[usize; 3], DataError> {
    let shard = Shard::open(path, columns)?;
    let mut shape = None;
    shard.images(&[0], &mut |_, bytes| {
        shape = Some(images::shape_of_bytes(bytes[0].data())?);
        Ok(())
    })?;
    shape.ok_or_else(|| DataError::Empty { path: path.to_owned() })
}

/// The labels of all rows, if the files have any. -1 is how the layout says that a sample has none.
fn all_labels(shards: &[Shard]) -> Result<Option<Vec<usize>>, DataError> {
    let mut all = Vec::new();
    for shard in shards {
        all.extend(shard.labels()?);
    }
    if all.iter().all(|label| label.is_none_or(|label| label == -1)) {
        return Ok(None);
    }
    let class = |(row, label): (usize, &Option<i64>)| {
        label.and_then(|label| usize::try_from(label).ok()).ok_or_else(|| DataError::Labels {
            path: shards[0].path.clone(),
            reason: format!(
                "row {row} has {}, while others have labels",
                label.map_or("none".into(), |l| l.to_string())
            ),
        })
    };
    all.iter().enumerate().map(class).collect::<Result<Vec<usize>, _>>().map(Some)
}

/// The images of the rows in `order`, numbered through all shards, in that order.
fn decode_rows(shards: &[Shard], order: &[usize], wanted: &Wanted) -> Result<Vec<Decoded>, DataError> {
    let mut places: Vec<(usize, usize)> = order.iter().enumerate().map(|(place, &row)| (row, place)).collect();
    places.sort_unstable();
    let mut images: Vec<Option<Decoded>> = order.iter().map(|_| None).collect();
    let (mut start, mut done) = (0, 0);
    for shard in shards {
        let own = &places[done..done + places[done..].partition_point(|&(row, _)| row < start + shard.rows)];
        let rows: Vec<usize> = own.iter().map(|&(row, _)| row - start).collect();
        shard.images(&rows, &mut |first, files| {
            let decode = |file: &ByteArray| images::decode_bytes(file.data(), wanted);
            let decoded: Vec<_> = files.par_iter().map(decode).collect();
            for (i, image) in decoded.into_iter().enumerate() {
                let image = image.map_err(|reason| format!("row {}: {reason}", rows[first + i]))?;
                images[own[first + i].1] = Some(image);
            }
            Ok(())
        })?;
        start += shard.rows;
        done += own.len();
    }
    let found: Vec<Decoded> = images.into_iter().flatten().collect();
    if found.len() == order.len() { Ok(found) } else { Err(shards[0].malformed("rows are missing".to_owned())) }
}

/// Takes image files, with the position of the first among the rows that were asked for.
type TakeImages<'a> = dyn FnMut(usize, &[ByteArray]) -> Result<(), String> + 'a;

/// One file.
struct Shard {
    path: PathBuf,
    file: File,
    metadata: ParquetMetaData,
    columns: Chosen,
    rows: usize,
}

impl Shard {
    fn open(path: &Path, columns: &Columns) -> Result<Self, DataError> {
        let file = files::open(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
        let malformed = |reason| DataError::Malformed { path: path.to_owned(), reason };
        let metadata = guarded(|| ParquetMetaDataReader::new().parse_and_finish(&file).map_err(damaged));
        let metadata = metadata.map_err(malformed)?;
        let columns = Chosen::of(metadata.file_metadata(), columns).map_err(malformed)?;
        let groups = metadata.row_groups().iter();
        let counts = groups.map(|group| usize::try_from(group.num_rows()).ok()).collect::<Option<Vec<usize>>>();
        let rows = counts.and_then(|counts| counts.into_iter().try_fold(0usize, usize::checked_add));
        // An image has a byte, if not many.
        let bytes = file.metadata().map_or(0, |file| file.len());
        let rows = rows.filter(|rows| *rows as u64 <= bytes);
        let rows = rows.ok_or_else(|| malformed("its number of rows makes no sense".to_owned()))?;
        Ok(Shard { path: path.to_owned(), file, metadata, columns, rows })
    }

    fn malformed(&self, reason: String) -> DataError {
        DataError::Malformed { path: self.path.clone(), reason }
    }

    /// A reader of one column, whose type is `T`, of a row group.
    fn column<T: DataType>(&self, group: &RowGroupMetaData, leaf: usize) -> Result<ColumnReaderImpl<T>, String> {
        let column = group.columns().get(leaf).ok_or("a row group has too few columns")?;
        let pages = Pages::of(&self.file, column)?;
        Ok(ColumnReaderImpl::new(column.column_descr_ptr(), Box::new(pages)))
    }

    /// Gives `take` the image files of `rows`, which ascend, a few at a time, with the position in `rows` of the first.
    fn images(&self, rows: &[usize], take: &mut TakeImages<'_>) -> Result<(), DataError> {
        let column = &self.columns.image;
        let mut read = || -> Result<(), String> {
            let (mut start, mut done) = (0, 0);
            for group in self.metadata.row_groups() {
                let end = start + group.num_rows() as usize;
                let own = &rows[done..done + rows[done..].partition_point(|&row| row < end)];
                if !own.is_empty() {
                    let mut reader = self.column::<ByteArrayType>(group, column.leaf)?;
                    let mut next = start;
                    for (chunk, few) in own.chunks(UNDECODED).enumerate() {
                        let mut files = Vec::with_capacity(few.len());
                        for &row in few {
                            skip(&mut reader, row - next)?;
                            files.extend(values::<ByteArrayType>(&mut reader, 1, column.defined)?);
                            next = row + 1;
                        }
                        let files: Option<Vec<ByteArray>> = files.into_iter().collect();
                        let files = files.filter(|files| files.len() == few.len()).ok_or_else(|| {
                            format!("rows from {} on have no image, or only the name of its file", few[0])
                        })?;
                        take(done + chunk * UNDECODED, &files)?;
                    }
                    done += own.len();
                }
                start = end;
            }
            Ok(())
        };
        guarded(&mut read).map_err(|reason| self.malformed(reason))
    }

    /// The labels of all rows; nothing if the file has no labels.
    fn labels(&self) -> Result<Vec<Option<i64>>, DataError> {
        let Some(column) = &self.columns.label else { return Ok(vec![None; self.rows]) };
        let read = || -> Result<Vec<Option<i64>>, String> {
            let mut labels = Vec::new();
            for group in self.metadata.row_groups() {
                if column.wide {
                    let reader = self.column::<Int64Type>(group, column.leaf)?;
                    all_values(reader, column.defined, &mut labels, self.rows)?;
                } else {
                    let reader = self.column::<Int32Type>(group, column.leaf)?;
                    let mut narrow: Vec<Option<i32>> = Vec::new();
                    all_values(reader, column.defined, &mut narrow, self.rows)?;
                    labels.extend(narrow.into_iter().map(|label| label.map(i64::from)));
                }
            }
            if labels.len() == self.rows {
                Ok(labels)
            } else {
                Err("the labels are not as many as the rows".to_owned())
            }
        };
        guarded(read).map_err(|reason| self.malformed(reason))
    }
}

fn damaged(error: ParquetError) -> String {
    format!("the Parquet file is damaged or of a kind that is not supported: {error}")
}

/// Runs what decodes a file that may be malformed; that the decoder panics on it is an error, too.
fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("the Parquet file is damaged".to_owned()))
}

fn skip<T: DataType>(reader: &mut ColumnReaderImpl<T>, rows: usize) -> Result<(), String> {
    match reader.skip_records(rows).map_err(damaged)? {
        skipped if skipped == rows => Ok(()),
        _ => Err("the Parquet file has fewer rows than it says".to_owned()),
    }
}

/// The next `count` values, or as many as there are; `None` where one is null. A value that is there has the definition level
/// `defined`.
fn values<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    count: usize,
    defined: i16,
) -> Result<Vec<Option<T::T>>, String> {
    let (mut levels, mut found) = (Vec::new(), Vec::new());
    let (rows, _, _) = reader.read_records(count, Some(&mut levels), None, &mut found).map_err(damaged)?;
    let mut found = found.into_iter();
    if defined == 0 {
        return Ok(found.map(Some).collect());
    }
    Ok(levels.into_iter().take(rows).map(|level| if level == defined { found.next() } else { None }).collect())
}

fn all_values<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    defined: i16,
    into: &mut Vec<Option<T::T>>,
    limit: usize,
) -> Result<(), String> {
    loop {
        let more = values(&mut reader, LABELS, defined)?;
        if more.is_empty() || into.len() > limit {
            return Ok(());
        }
        into.extend(more);
    }
}
