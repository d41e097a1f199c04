//! Splits the bytes of a JSON array into its elements, as they arrive.
//!
//! Promise: memory is bounded by the largest element; an element is given out only when it was whole,
//! and any split of the bytes gives the same ones. Absent on purpose: what is in an element.

use super::bundle::Capture;

/// An element may be this long.
pub(super) const ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// Nothing needs as much white space between two of them.
const SPACE_BYTES_MAX: u64 = 1024 * 1024;

/// Splits an array into its elements, as its bytes arrive.
#[derive(Default)]
pub(super) struct ArrayReader {
    expect: Expect,
    entry: Option<Capture>,
    space: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Expect {
    #[default]
    Opening,
    /// The second and third byte of a byte order mark.
    Mark(u8),
    FirstEntry,
    Entry,
    Comma,
    Nothing,
}

impl ArrayReader {
    /// Takes the next bytes, and gives `each` the entries that they complete.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), &'static str> {
        while let Some(&byte) = bytes.first() {
            if let Some(mut entry) = self.entry.take() {
                let (taken, has_ended) = entry.scan(bytes);
                entry.bytes.extend_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
                if entry.bytes.len() > ENTRY_BYTES_MAX {
                    return Err("an entry is too long");
                }
                if has_ended {
                    each(&entry.bytes);
                } else {
                    self.entry = Some(entry);
                }
                continue;
            }
            self.step(byte)?;
            bytes = &bytes[1..];
        }
        Ok(())
    }

    /// Takes one byte between entries.
    fn step(&mut self, byte: u8) -> Result<(), &'static str> {
        if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') && !matches!(self.expect, Expect::Mark(_)) {
            self.space += 1;
            return if self.space > SPACE_BYTES_MAX { Err("endless white space") } else { Ok(()) };
        }
        self.space = 0;
        self.expect = match (self.expect, byte) {
            (Expect::Opening, 0xEF) => Expect::Mark(0xBB),
            (Expect::Mark(0xBB), 0xBB) => Expect::Mark(0xBF),
            (Expect::Mark(0xBF), 0xBF) => Expect::Opening,
            (Expect::Opening, b'[') => Expect::FirstEntry,
            (Expect::Opening | Expect::Mark(_), _) => return Err("it does not begin with a bracket"),
            (Expect::FirstEntry | Expect::Comma, b']') => Expect::Nothing,
            (Expect::Comma, b',') => Expect::Entry,
            (Expect::FirstEntry | Expect::Entry, _) => {
                self.entry = Some(Capture::begin(byte).ok_or("it is not JSON")?);
                Expect::Comma
            }
            (Expect::Comma, _) => return Err("it is not JSON"),
            (Expect::Nothing, _) => return Err("there is more after its end"),
        };
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), &'static str> {
        if self.expect == Expect::Nothing { Ok(()) } else { Err("it ended too early") }
    }
}
