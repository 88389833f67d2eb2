//! The header of a page: a Thrift structure in the compact protocol,
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.

use std::collections::BTreeMap;
use std::io::{self, Read, sink};

/// The longest header that is read. It may have the least and the greatest value of the page.
const MAX_HEADER: u64 = 16 << 20;

/// How deep structures may lie in one another; a page header needs three.
const MAX_DEPTH: u8 = 8;

/// A structure's fields by their numbers. Text, lists and floats, of which none is needed, are left out.
pub(super) struct Fields(BTreeMap<i64, Value>);

enum Value {
    Number(i64),
    Truth(bool),
    Fields(Fields),
}

impl Fields {
    /// Reads the structure that `reader` is at, and no further; also says how many bytes it has.
    pub(super) fn read(reader: impl Read) -> io::Result<(Self, u64)> {
        let mut reader = reader.take(MAX_HEADER);
        let fields = structure(&mut reader, MAX_DEPTH)?;
        Ok((fields, MAX_HEADER - reader.limit()))
    }

    /// A number that is not negative.
    pub(super) fn number(&self, field: i64) -> Option<u32> {
        if let Value::Number(number) = self.0.get(&field)? { u32::try_from(*number).ok() } else { None }
    }

    pub(super) fn truth(&self, field: i64) -> Option<bool> {
        if let Value::Truth(truth) = self.0.get(&field)? { Some(*truth) } else { None }
    }

    pub(super) fn fields(&self, field: i64) -> Option<&Fields> {
        if let Value::Fields(fields) = self.0.get(&field)? { Some(fields) } else { None }
    }
}

fn structure(reader: &mut impl Read, depth: u8) -> io::Result<Fields> {
    let mut fields = BTreeMap::new();
    let mut number = 0i64;
    loop {
        let head = byte(reader)?;
        if head == 0 {
            return Ok(Fields(fields));
        }
        number = match head >> 4 {
            0 => zigzag(varint(reader)?),
            step => number.checked_add(step.into()).ok_or_else(malformed)?,
        };
        let value = match head & 15 {
            kind @ (1 | 2) => Some(Value::Truth(kind == 1)),
            kind => value(reader, kind, depth)?,
        };
        fields.extend(value.map(|value| (number, value)));
    }
}

/// A value of this kind, each of which takes at least one byte; `None` if it is one that is left out.
fn value(reader: &mut impl Read, kind: u8, depth: u8) -> io::Result<Option<Value>> {
    match kind {
        1..=3 => Ok(Some(Value::Number(byte(reader)?.into()))),
        4..=6 => Ok(Some(Value::Number(zigzag(varint(reader)?)))),
        7 => skip(reader, 8).map(|()| None),
        8 => {
            let length = varint(reader)?;
            skip(reader, length).map(|()| None)
        }
        9 | 10 => {
            let head = byte(reader)?;
            let length = if head >> 4 == 15 { varint(reader)? } else { (head >> 4).into() };
            let depth = depth.checked_sub(1).ok_or_else(malformed)?;
            (0..length).try_for_each(|_| value(reader, head & 15, depth).map(drop)).map(|()| None)
        }
        12 => {
            let depth = depth.checked_sub(1).ok_or_else(malformed)?;
            structure(reader, depth).map(|fields| Some(Value::Fields(fields)))
        }
        _ => Err(malformed()),
    }
}

fn byte(reader: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    reader.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn varint(reader: &mut impl Read) -> io::Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = byte(reader)?;
        number |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Ok(number);
        }
    }
    Err(malformed())
}

fn zigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn skip(reader: &mut impl Read, length: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.take(length), &mut sink())?;
    if skipped == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a page has a malformed header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_whatever_lies_between_them() {
        // 1: 300, 2: true, 3: "ab", 4: a list of two numbers, 5: { 1: -1 }, and 100 by its own number: 7.
        let bytes = [
            0x15, 0xd8, 0x04, 0x11, 0x18, 2, b'a', b'b', 0x19, 0x25, 2, 4, 0x1c, 0x15, 1, 0, 0x05, 0xc8, 0x01, 14, 0,
            99,
        ];
        let (fields, length) = Fields::read(&bytes[..]).expect("fields");
        assert_eq!(length, bytes.len() as u64 - 1);
        assert_eq!((fields.number(1), fields.truth(2), fields.number(3)), (Some(300), Some(true), None));
        assert_eq!((fields.number(100), fields.fields(4).is_none()), (Some(7), true));
        assert_eq!(fields.fields(5).expect("a structure").number(1), None, "a negative number");
    }

    #[test]
    fn what_is_no_structure_is_an_error() {
        let deep = [0x1c; 100];
        let endless = [0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        let cases: [&[u8]; 6] = [b"", &[0x15], &[0x15, 0xff], &[0x18, 200, 1, 0], &deep, &endless];
        for bytes in cases {
            assert!(Fields::read(bytes).is_err(), "{bytes:?}");
        }
        assert!(Fields::read(&[0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0][..]).is_err());
    }
}
