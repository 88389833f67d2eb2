//! The outermost layer of the protocol-buffers encoding.
//!
//! rten 0.27 seeks by the lengths that a file states, backwards if they are large
//! enough, and then never ends; so the fields of the model message are walked first.

/// Whether `bytes` are a sequence of whole protocol-buffers fields, and at least one.
///
/// The content of the fields is not looked into.
pub(super) fn is_whole_message(mut bytes: &[u8]) -> bool {
    if bytes.is_empty() {
        return false;
    }
    while !bytes.is_empty() {
        let Some(rest) = skip_field(bytes) else { return false };
        bytes = rest;
    }
    true
}

fn skip_field(bytes: &[u8]) -> Option<&[u8]> {
    let (key, rest) = varint(bytes)?;
    match key & 7 {
        0 => varint(rest).map(|(_, rest)| rest),
        1 => rest.get(8..),
        2 => {
            let (length, rest) = varint(rest)?;
            rest.get(usize::try_from(length).ok()?..)
        }
        5 => rest.get(4..),
        _ => None,
    }
}

/// A variable-length integer and the bytes behind it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_fields_pass() {
        let cases: [(&[u8], bool); 9] = [
            (&[0x08, 0x09], true),
            (&[0x08, 0x80, 0x01], true),
            (&[0x3a, 2, 1, 2, 0x08, 9], true),
            (&[], false),
            (&[0x08], false),
            (&[0x3a, 3, 1, 2], false),
            (&[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], false),
            (&[0xff; 64], false),
            (b"garbage", false),
        ];
        for (bytes, expected) in cases {
            assert_eq!(is_whole_message(bytes), expected, "{bytes:?}");
        }
    }
}
