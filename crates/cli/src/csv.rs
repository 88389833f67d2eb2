use std::io::{self, Write};

/// Writes one line of CSV (RFC 4180): fields are in quotes if they have to be.
pub fn write_line<'a>(out: &mut impl Write, fields: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
    for (i, field) in fields.into_iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        if field.contains([',', '"', '\n', '\r']) {
            write!(out, "{comma}\"{}\"", field.replace('"', "\"\""))?;
        } else {
            write!(out, "{comma}{field}")?;
        }
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_if_they_have_to_be() {
        let mut out = Vec::new();
        write_line(&mut out, ["plain", "", "a,b", "say \"no\"", "two\nlines"]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "plain,,\"a,b\",\"say \"\"no\"\"\",\"two\nlines\"\n");
    }
}
