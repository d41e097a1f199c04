//! The content coding of a body: bytes as they travel become bytes as they are meant.
//!
//! Promise: any number of gzip members are one body, `gzip` is known by each of its names, and a
//! body that is cut off or damaged is an error. Absent on purpose: codings that are never asked for.

use std::io::{Error, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};

/// Bytes decoded in one step: they grow a thousandfold at most, and what they become must fit.
const STEP_BYTES: usize = 4096;

/// A body whose coding cannot be undone. Holds nothing of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotDecoded {
    #[error("the answer's body is coded as {0:?}, which was not asked for")]
    Unknown(String),
    #[error("the answer's body says that it is gzip, and is damaged or is not ({0})")]
    Damaged(#[from] Error),
}

/// Undoes the coding of one body.
pub(super) enum Decoder {
    Plain,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

impl Decoder {
    /// Reads which coding the headers of an answer name.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, NotDecoded> {
        let named = headers.get_all(CONTENT_ENCODING).into_iter();
        let named: Vec<_> = named.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        let codings = named.iter().flat_map(|value| value.split(',')).map(str::trim);
        let codings = codings.filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"));
        match codings.collect::<Vec<_>>().as_slice() {
            [] => Ok(Self::Plain),
            [one] if one.eq_ignore_ascii_case("gzip") || one.eq_ignore_ascii_case("x-gzip") => {
                Ok(Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))))
            }
            others => Err(NotDecoded::Unknown(printable(&others.join(", ")))),
        }
    }

    /// Decodes some of `bytes` and takes them off; there may be nothing to show for them yet.
    pub(super) fn step(&mut self, bytes: &mut Bytes) -> Result<Bytes, NotDecoded> {
        match self {
            Self::Plain => Ok(std::mem::take(bytes)),
            Self::Gzip(gzip) => {
                let some = bytes.split_to(bytes.len().min(STEP_BYTES));
                gzip.write_all(&some)?;
                gzip.flush()?;
                Ok(std::mem::take(gzip.get_mut()).into())
            }
        }
    }

    /// Says whether the body was whole, once all of it has been decoded.
    pub(super) fn finish(self) -> Result<Bytes, NotDecoded> {
        match self {
            Self::Plain => Ok(Bytes::new()),
            Self::Gzip(gzip) => Ok(gzip.finish()?.into()),
        }
    }
}

/// A header can hold anything; a message holds what a coding is named by.
fn printable(codings: &str) -> String {
    codings.chars().filter(|letter| letter.is_ascii_graphic() || *letter == ' ').take(40).collect()
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const TEXT: &[u8] = b"a text that is long enough to be worth it, worth it, worth it, worth it";

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn decoded(coding: &str, body: &[u8], chunk_bytes: usize) -> Result<Vec<u8>, NotDecoded> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, coding.parse().unwrap());
        let mut decoder = Decoder::of(&headers)?;
        let mut text = Vec::new();
        for chunk in body.chunks(chunk_bytes) {
            let mut chunk = Bytes::copy_from_slice(chunk);
            while !chunk.is_empty() {
                text.extend(decoder.step(&mut chunk)?);
            }
        }
        text.extend(decoder.finish()?);
        Ok(text)
    }

    #[test]
    fn a_body_is_decoded_by_whatever_name_and_in_however_many_members() {
        let members = [gzip(TEXT), gzip(b""), gzip(TEXT)].concat();
        for coding in ["gzip", "GZIP", "x-gzip", "X-GZip", "identity, gzip", " gzip ,"] {
            for chunk_bytes in [1, 7, 10_000] {
                assert_eq!(
                    decoded(coding, &members, chunk_bytes).unwrap(),
                    [TEXT, TEXT].concat(),
                    "{coding}"
                );
            }
        }
        for coding in ["identity", "", ","] {
            assert_eq!(decoded(coding, TEXT, 5).unwrap(), TEXT, "{coding:?}");
        }
        let large = vec![b' '; 10_000_000];
        assert_eq!(decoded("gzip", &gzip(&large), 1 << 20).unwrap(), large);
    }

    #[test]
    fn what_cannot_be_decoded_is_an_error_that_names_the_coding() {
        for coding in ["br", "deflate", "gzip, gzip"] {
            let failed = decoded(coding, TEXT, 5).unwrap_err().to_string();
            assert!(failed.contains(&format!("{coding:?}")), "{failed}");
        }
        let whole = gzip(TEXT);
        for cut in 0..whole.len() {
            let failed = decoded("gzip", &whole[..cut], 5).unwrap_err();
            assert!(failed.to_string().contains("gzip"), "{cut}: {failed}");
        }
        assert!(decoded("gzip", TEXT, 5).is_err());
        let mut damaged = whole.clone();
        damaged[20] ^= 1;
        assert!(decoded("gzip", &damaged, 5).is_err());
        assert!(decoded("gzip", &[&whole[..], b"\0\0\0"].concat(), 5).is_err());
    }
}
