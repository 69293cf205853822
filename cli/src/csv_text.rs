//! CSV as other programs write it: lines counted as editors do, and what is wrong told with its line.

use std::io::{self, Read};

use csv::ErrorKind;

/// A reader's text without carriage returns. The `csv` crate takes a line as ended before the line feed of `\r\n`, so that
/// every line after it bears the number of the one before.
pub(crate) struct CsvText<R>(pub(crate) R);

impl<R: Read> Read for CsvText<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.0.read(buffer)?;
            let mut kept = 0;
            for at in 0..read {
                if buffer[at] != b'\r' {
                    buffer[kept] = buffer[at];
                    kept += 1;
                }
            }
            // Nothing would mean the end.
            if kept > 0 || read == 0 {
                return Ok(kept);
            }
        }
    }
}

/// What is wrong with a file, without the place in bytes: that is one of the text without carriage returns.
pub(crate) fn told(error: &csv::Error) -> String {
    let problem = match error.kind() {
        ErrorKind::Deserialize { err, .. } => err.to_string(),
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("it has {len} columns, and the head has {expected_len}")
        }
        ErrorKind::Utf8 { err, .. } => err.to_string(),
        _ => return error.to_string(),
    };
    error.position().map_or(problem.clone(), |at| format!("line {}: {problem}", at.line()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_no_carriage_returns_however_it_is_read() {
        let whole = || CsvText(&b"a,b\r\n\r\n1,\"2\r\n3\"\r\n"[..]);
        let mut text = Vec::new();
        whole().read_to_end(&mut text).unwrap();
        assert_eq!(text, b"a,b\n\n1,\"2\n3\"\n");
        let (mut text, mut reader, mut one) = (Vec::new(), whole(), [0]);
        while reader.read(&mut one).unwrap() > 0 {
            text.push(one[0]);
        }
        assert_eq!(text, b"a,b\n\n1,\"2\n3\"\n");
    }
}
