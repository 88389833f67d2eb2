//! The pages of a column, none of whose sizes is believed before it is held against the bytes that are there. The crate's own
//! reader takes the memory that a page says it needs.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use flate2::read::MultiGzDecoder;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;

use super::super::bounded;
use super::header::Fields;

/// The most bytes that a page may have when it is decompressed.
const MAX_PAGE: u32 = 512 << 20;

/// Snappy writes at most 64 bytes for every three that it reads.
const MAX_SNAPPY: usize = 22;

/// Reads the pages of one column of one row group, one after the other.
pub(super) struct Pages {
    file: File,
    /// Where the next page is, or if its header has been read, what follows that.
    at: u64,
    end: u64,
    compression: Compression,
    /// How many values the column is said to have.
    values: i64,
    next: Option<Header>,
}

/// What the header of a page says.
struct Header {
    kind: Kind,
    /// The number of bytes that follow.
    stored: u32,
    /// The number of bytes that they become.
    size: u32,
}

enum Kind {
    Dictionary {
        values: u32,
    },
    Data {
        values: u32,
        encoding: Encoding,
    },
    Data2 {
        values: u32,
        encoding: Encoding,
        nulls: u32,
        rows: u32,
        definitions: u32,
        repetitions: u32,
        is_compressed: bool,
    },
    Other,
}

impl Pages {
    pub(super) fn of(file: &File, column: &ColumnChunkMetaData) -> Result<Self, String> {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        let range = u64::try_from(start).ok().zip(u64::try_from(column.compressed_size()).ok());
        let end = range.and_then(|(start, length)| start.checked_add(length));
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        match (range, end) {
            (Some((at, _)), Some(end)) if end <= length => {
                let file = file.try_clone().map_err(|error| error.to_string())?;
                Ok(Pages { file, at, end, compression: column.compression(), values: column.num_values(), next: None })
            }
            _ => Err("a column is said to lie outside of the file".to_owned()),
        }
    }

    /// What is stored from here on, up to `length` bytes.
    fn stored(&mut self, length: u64) -> Result<impl Read, String> {
        self.file.seek(SeekFrom::Start(self.at)).map_err(|error| error.to_string())?;
        Ok((&self.file).take(length))
    }

    /// The header of the next page that has values or a dictionary.
    fn header(&mut self) -> Result<Option<&Header>, String> {
        while self.next.is_none() && self.at < self.end {
            let stored = BufReader::new(self.stored(self.end - self.at)?);
            let (fields, length) = Fields::read(stored).map_err(|error| error.to_string())?;
            self.at += length;
            let header = Header::of(&fields)?;
            if u64::from(header.stored) > self.end - self.at {
                return Err("a page is longer than its column".to_owned());
            }
            match header.kind {
                Kind::Other => self.at += u64::from(header.stored),
                _ => self.next = Some(header),
            }
        }
        Ok(self.next.as_ref())
    }

    fn page(&mut self) -> Result<Option<Page>, String> {
        self.header()?;
        let Some(Header { kind, stored, size }) = self.next.take() else { return Ok(None) };
        let bytes = bounded::rest(self.stored(stored.into())?, stored as usize).map_err(|error| error.to_string())?;
        self.at += u64::from(stored);
        let size = size as usize;
        Ok(Some(match kind {
            Kind::Dictionary { values } => {
                let buf = decompressed(self.compression, bytes, size)?;
                // A number has four bytes, and so has the length of a text.
                if i64::from(values) > self.values || (values as usize).saturating_mul(4) > buf.len() {
                    return Err("a dictionary is said to have more values than there are".to_owned());
                }
                Page::DictionaryPage {
                    buf: buf.into(),
                    num_values: values,
                    encoding: Encoding::PLAIN,
                    is_sorted: false,
                }
            }
            Kind::Data { values, encoding } => Page::DataPage {
                buf: decompressed(self.compression, bytes, size)?.into(),
                num_values: values,
                encoding,
                def_level_encoding: Encoding::RLE,
                rep_level_encoding: Encoding::RLE,
                statistics: None,
            },
            Kind::Data2 { values, encoding, nulls, rows, definitions, repetitions, is_compressed } => {
                // The levels come first, and are not compressed.
                let levels = definitions as usize + repetitions as usize;
                let (levels, rest) = bytes.split_at_checked(levels).ok_or("a page is shorter than its levels")?;
                let compression = if is_compressed { self.compression } else { Compression::UNCOMPRESSED };
                let size = size.checked_sub(levels.len()).ok_or("a page is shorter than its levels")?;
                let values_alone = match size {
                    0 => Vec::new(),
                    _ => decompressed(compression, rest.to_vec(), size)?,
                };
                Page::DataPageV2 {
                    buf: [levels, &values_alone].concat().into(),
                    num_values: values,
                    encoding,
                    num_nulls: nulls,
                    num_rows: rows,
                    def_levels_byte_len: definitions,
                    rep_levels_byte_len: repetitions,
                    is_compressed: false,
                    statistics: None,
                }
            }
            Kind::Other => return Ok(None),
        }))
    }
}

impl Header {
    /// As <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift> numbers the fields.
    fn of(page: &Fields) -> Result<Self, String> {
        let number = |fields: &Fields, field| fields.number(field).ok_or("a page has a header that makes no sense");
        let part = |field| page.fields(field).ok_or("a page has a header that makes no sense");
        let kind = match number(page, 1)? {
            0 => Kind::Data { values: number(part(5)?, 1)?, encoding: encoding(number(part(5)?, 2)?)? },
            2 => Kind::Dictionary { values: number(part(7)?, 1)? },
            3 => Kind::Data2 {
                values: number(part(8)?, 1)?,
                nulls: number(part(8)?, 2)?,
                rows: number(part(8)?, 3)?,
                encoding: encoding(number(part(8)?, 4)?)?,
                definitions: number(part(8)?, 5)?,
                repetitions: number(part(8)?, 6)?,
                is_compressed: part(8)?.truth(7).unwrap_or(true),
            },
            _ => Kind::Other,
        };
        let header = Header { kind, stored: number(page, 3)?, size: number(page, 2)? };
        if header.size > MAX_PAGE {
            return Err(format!("a page of {} bytes is larger than the limit of {MAX_PAGE}", header.size));
        }
        Ok(header)
    }
}

/// An encoding that takes no memory but for the values that are asked for; the delta encodings take what a page says it has.
fn encoding(number: u32) -> Result<Encoding, String> {
    match number {
        0 => Ok(Encoding::PLAIN),
        2 => Ok(Encoding::PLAIN_DICTIONARY),
        8 => Ok(Encoding::RLE_DICTIONARY),
        _ => Err(format!("encoding {number} is not read: write the file with dictionaries or plain values")),
    }
}

/// The `size` bytes that `stored` is decompressed to. Memory grows with what comes out, not with what was announced.
fn decompressed(compression: Compression, stored: Vec<u8>, size: usize) -> Result<Vec<u8>, String> {
    let whole = |reader: Box<dyn Read + '_>| bounded::rest(reader, size).map_err(|error| error.to_string());
    match compression {
        Compression::UNCOMPRESSED if stored.len() == size => Ok(stored),
        Compression::UNCOMPRESSED => Err("a page has another length than its header says".to_owned()),
        Compression::SNAPPY => {
            if snap::raw::decompress_len(&stored) != Ok(size) || size / MAX_SNAPPY > stored.len() {
                return Err("a page has another length than its header says".to_owned());
            }
            snap::raw::Decoder::new().decompress_vec(&stored).map_err(|error| error.to_string())
        }
        Compression::GZIP(_) => whole(Box::new(MultiGzDecoder::new(stored.as_slice()))),
        Compression::ZSTD(_) => {
            whole(Box::new(zstd::Decoder::with_buffer(stored.as_slice()).map_err(|error| error.to_string())?))
        }
        other => {
            Err(format!("it is compressed with {other}, which is not read: write it with Snappy, gzip or Zstandard"))
        }
    }
}

impl Iterator for Pages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        self.page().map_err(ParquetError::General)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        let header = self.header().map_err(ParquetError::General)?;
        Ok(header.map(|header| match header.kind {
            Kind::Data { values, .. } => {
                PageMetadata { num_rows: None, num_levels: Some(values as usize), is_dict: false }
            }
            Kind::Data2 { values, rows, .. } => {
                PageMetadata { num_rows: Some(rows as usize), num_levels: Some(values as usize), is_dict: false }
            }
            _ => PageMetadata { num_rows: None, num_levels: None, is_dict: true },
        }))
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.header().map_err(ParquetError::General)?;
        self.at += self.next.take().map_or(0, |header| u64::from(header.stored));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use flate2::Compression as Level;
    use flate2::write::GzEncoder;
    use parquet::basic::Type;
    use parquet::schema::types::{ColumnDescriptor, ColumnPath, Type as Schema};

    use super::*;

    /// The fields of a structure that are numbers, from 1 on.
    fn numbers(numbers: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &number in numbers {
            bytes.push(0x15);
            let mut left = u64::from(number) << 1;
            while left >= 128 {
                bytes.push(left as u8 | 128);
                left >>= 7;
            }
            bytes.push(left as u8);
        }
        bytes
    }

    /// A page of this kind that says that it becomes `size` bytes, with `details` in the field of this number.
    fn page(kind: u32, size: u32, (field, details): (u8, &[u32]), stored: &[u8]) -> Vec<u8> {
        let head = numbers(&[kind, size, stored.len() as u32]);
        [&head, &[(field - 3) << 4 | 12][..], &numbers(details), &[0, 0], stored].concat()
    }

    fn data(size: u32, encoding: u32, stored: &[u8]) -> Vec<u8> {
        page(0, size, (5, &[1, encoding, 3, 3]), stored)
    }

    fn dictionary(values: u32, stored: &[u8]) -> Vec<u8> {
        page(2, stored.len() as u32, (7, &[values, 0]), stored)
    }

    /// All pages of a column of ten numbers that has these bytes.
    fn read(bytes: &[u8], compression: Compression) -> Result<Vec<Page>, String> {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes).expect("room for it");
        let schema = Schema::primitive_type_builder("label", Type::INT32).build().expect("a type");
        let column = ColumnDescriptor::new(Arc::new(schema), 0, 0, ColumnPath::from("label"));
        let column = ColumnChunkMetaData::builder(Arc::new(column))
            .set_compression(compression)
            .set_num_values(10)
            .set_data_page_offset(0)
            .set_total_compressed_size(bytes.len() as i64)
            .build()
            .expect("a column");
        Pages::of(&file, &column)?.collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn pages_are_decompressed_and_others_left_out() {
        let values = [1, 0, 0, 0];
        let snappy = snap::raw::Encoder::new().compress_vec(&values).expect("memory");
        let zstd = zstd::encode_all(&values[..], 0).expect("memory");
        let cases = [
            (Compression::UNCOMPRESSED, values.to_vec()),
            (Compression::SNAPPY, snappy),
            (Compression::GZIP(Default::default()), gzip(&values)),
            (Compression::ZSTD(Default::default()), zstd),
        ];
        for (compression, stored) in cases {
            let index = page(1, 9, (6, &[]), b"left out");
            let pages = read(&[index, data(4, 0, &stored), data(4, 8, &stored)].concat(), compression).expect("pages");
            let found: Vec<_> = pages.iter().map(|page| (page.buffer().to_vec(), page.encoding())).collect();
            assert_eq!(found, [(values.to_vec(), Encoding::PLAIN), (values.to_vec(), Encoding::RLE_DICTIONARY)]);
        }
    }

    #[test]
    fn no_size_is_believed() {
        use Compression::{GZIP, SNAPPY, UNCOMPRESSED, ZSTD};
        let zeros = vec![0; 1 << 20];
        let zstd = zstd::encode_all(&zeros[..], 0).expect("memory");
        // One gibibyte is what this says that it becomes.
        let snappy = [0x80, 0x80, 0x80, 0x80, 0x04, 0];
        let longer = [data(4, 0, &[]), vec![1]].concat();
        let levels = page(3, 4, (8, &[1, 0, 1, 0, 400, 0]), &[0; 4]);
        let cases = [
            (UNCOMPRESSED, data(5, 0, &[0; 4]), "another length than its header says"),
            (UNCOMPRESSED, data(u32::MAX >> 1, 0, &[0; 4]), "larger than the limit"),
            (UNCOMPRESSED, data(4, 0, &[0; 4])[..12].to_vec(), ""),
            (UNCOMPRESSED, dictionary(3, &[0; 8]), "more values than there are"),
            (UNCOMPRESSED, dictionary(11, &[0; 44]), "more values than there are"),
            (UNCOMPRESSED, levels, "shorter than its levels"),
            (UNCOMPRESSED, data(4, 5, &[0; 4]), "encoding 5 is not read"),
            (UNCOMPRESSED, longer, ""),
            (UNCOMPRESSED, vec![0x15, 9], ""),
            (GZIP(Default::default()), data(4, 0, &gzip(&zeros)), "and more follow"),
            (GZIP(Default::default()), data(500 << 20, 0, &gzip(&zeros)), "1048576 follow"),
            (ZSTD(Default::default()), data(4, 0, &zstd), "and more follow"),
            (ZSTD(Default::default()), data(500 << 20, 0, &zstd), "1048576 follow"),
            (SNAPPY, data(500 << 20, 0, &snappy), "another length than its header says"),
            (SNAPPY, data(1 << 29, 0, &[0x80, 0x80, 0x80, 0x80, 0x02, 0]), "another length than its header says"),
            (Compression::LZ4, data(4, 0, &[0; 4]), "LZ4, which is not read"),
        ];
        for (compression, bytes, words) in cases {
            let error = read(&bytes, compression).expect_err(words);
            assert!(error.contains(words), "`{words}` is not in: {error}");
        }
    }
}
