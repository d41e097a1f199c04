//! The faults the server can play, by name.
//!
//! Deliberately absent: how each is played (`page_faults.rs` for what a page says, `wire_faults.rs` for how
//! bytes arrive, `answer.rs` for answers of another kind), when (`script.rs`), and the file
//! they are written in (`fault_file.rs`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A fault, and which requests get it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScriptedFault {
    /// Only requests for this person; set for [`FaultAt::Everything`] alone.
    pub person: Option<String>,
    pub at: FaultAt,
    /// Only this page, counted from 1 by offset. Where a kind adds something to a record
    /// (see `FaultKind::is_placed`) it is the page it stands on, and the fault lasts on all
    /// of them, so that `total` is the same everywhere.
    pub page: Option<usize>,
    /// The first request that gets it, of those that fit, counted from 1.
    pub from_request: u32,
    /// How many requests get it; `None`: all from then on.
    pub times: Option<u32>,
    pub kind: FaultKind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAt {
    #[default]
    Everything,
    Token,
    /// The list of consents.
    Consents,
    /// One consent record.
    Consent,
}

/// How much of a body is sent: a whole number of bytes, or a fraction from 0.0 to 1.0.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Keep {
    Bytes(usize),
    Fraction(f64),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorBody {
    /// An `OperationOutcome`.
    #[default]
    JsonOutcome,
    /// JSON that is not FHIR.
    Json,
    /// A proxy's page.
    Html,
    Empty,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DuplicateOrder {
    #[default]
    OlderFirst,
    NewerFirst,
}

/// The kinds of faults.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultKind {
    // Another answer.
    Status {
        status: u16,
        #[serde(default)]
        body: ErrorBody,
        retry_after: Option<String>,
    },
    /// A 403 for each person's first request, and never again.
    ForbiddenOnce,
    /// All tokens end, this request's among them: a 401.
    ExpireTokenMidPull,
    /// A login page with status 200.
    #[serde(rename = "html_200")]
    Html200,
    /// A Patient where a Bundle should be.
    WrongResource,
    /// Any body with any status and content type.
    Answer {
        #[serde(default = "ok")]
        status: u16,
        #[serde(default = "json")]
        content_type: String,
        body: String,
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// The right page, with status 203.
    #[serde(rename = "status_203")]
    Status203,
    Redirect {
        location: String,
        #[serde(default = "found")]
        status: u16,
    },
    /// A token answer that does not say when the token expires.
    TokenWithoutExpiration,

    // The bytes of the answer.
    /// The connection is accepted and closed without a byte.
    AcceptAndClose,
    ResetMidBody {
        #[serde(default = "half")]
        keep: Keep,
    },
    /// Ends in the middle of a chunk; with `keep = 1.0` only the last, empty chunk is missing.
    CutChunk {
        #[serde(default = "half")]
        keep: Keep,
    },
    /// `Content-Length` says more than comes.
    ShortContentLength {
        #[serde(default = "half")]
        keep: Keep,
    },
    /// Neither length nor chunks: the body ends where the connection does, here too early.
    CloseDelimitedCut {
        #[serde(default = "half")]
        keep: Keep,
    },
    /// As above, but what arrives is whole JSON, with this many entries too few.
    CloseDelimitedBoundary {
        #[serde(default = "one")]
        drop: usize,
    },
    CutGzip {
        #[serde(default = "half")]
        keep: Keep,
    },
    /// gzip under this name, in so many members; damaged, no way to read it. Only for clients that
    /// accept a coding.
    Coded {
        #[serde(default = "gzip")]
        name: String,
        #[serde(default = "one")]
        members: usize,
        #[serde(default)]
        damaged: bool,
    },
    /// White space that compresses a thousandfold, before a page.
    GzipBomb {
        #[serde(default = "gigabyte")]
        megabytes: u32,
    },
    SlowDrip {
        #[serde(default = "one")]
        bytes: usize,
        #[serde(default = "drip")]
        interval_ms: u64,
    },
    StallBeforeHeaders {
        #[serde(default = "hour")]
        seconds: u64,
    },
    StallMidBody {
        #[serde(default = "half")]
        keep: Keep,
        #[serde(default = "hour")]
        seconds: u64,
    },
    HugeHeader {
        #[serde(default = "two_megabytes")]
        bytes: usize,
    },
    /// These bytes instead of an answer, then the end of the connection. In a file a string,
    /// or an array of numbers from 0 to 255.
    Raw {
        bytes: RawBytes,
    },

    // Links.
    NextOtherOrigin {
        #[serde(default = "nowhere")]
        origin: String,
    },
    NextOtherPath {
        #[serde(default = "other_path")]
        path: String,
    },
    NextUserinfo,
    NextSelfLoop,
    NextAbLoop,
    /// Ever new offsets, with entries on every page.
    NextEndless,
    NextLostFilters,
    /// Right, but written without scheme and host.
    NextRelative,
    /// Right, but after the entries.
    LinksLast,
    /// Leads to the right page, and is written in another way.
    NextWritten {
        how: LinkSpelling,
    },

    // Pages and their counts.
    /// One page more than needed, empty, with a right `next` link.
    EmptyPageInMiddle,
    /// From this page on nothing but empty pages, each with a `next` link.
    EmptyPagesForever,
    TotalShrinks {
        #[serde(default = "one_less")]
        by: i64,
    },
    TotalOff {
        by: i64,
    },
    TotalMissing,
    /// One more on each second page.
    TotalMoves,
    /// Any JSON, or none, where the count should be.
    TotalWritten {
        text: String,
    },
    /// `total` is right, and no more than this of the record is ever sent: the last page has no `next` link.
    CutShort {
        sent: usize,
    },
    /// Not an entry, and `total` is 0.
    EmptyRecord,
    /// From the second page on all begin one entry late: one entry is never sent.
    PageSkipsEntry,
    /// Each page begins with the last entry of the one before; nothing is missing.
    PageRepeatsEntry,
    /// Each page has moved by one: one entry is sent again, and the last one never.
    PageSlides,
    SinceIgnored,
    TypeIgnored,

    // Entries. The placed ones are added to the record and counted in `total`.
    DeepNesting {
        #[serde(default = "deep")]
        depth: usize,
    },
    InvalidUtf8,
    NulByte,
    EntryWithoutId,
    EntryNoResource,
    EntryNotObject,
    UnknownTypeEntry,
    BigResource {
        #[serde(default = "thirty_megabytes")]
        bytes: usize,
    },
    /// Placed, but about the answer and so not counted.
    ErrorOutcomeEntry,
    /// Placed, but about the answer and so not counted.
    WarningOutcomeEntry,
    /// An OperationOutcome of any kind; without a `mode` no `search` goes with it. Placed, not counted.
    OutcomeEntry {
        #[serde(default = "warning")]
        severity: String,
        #[serde(default = "incomplete")]
        code: String,
        mode: Option<String>,
        id: Option<String>,
    },
    /// Placed, and beside what `total` counts: what the matches refer to.
    IncludeEntries {
        #[serde(default = "one")]
        count: usize,
    },
    /// An entry whose JSON ends where it should, with a number that is none.
    NumberNotJson {
        #[serde(default = "plus_three")]
        number: String,
    },
    /// A text that ends in half a surrogate pair.
    HalfSurrogate,
    /// U+0000 in one of the names of an entry.
    NulInName {
        #[serde(default)]
        place: NamePlace,
    },
    /// A name of so many bytes.
    LongName {
        #[serde(default = "three_kilobytes")]
        bytes: usize,
    },
    /// The last entry of the page comes in a version that nobody can store.
    LastEntryUnstorable {
        #[serde(default)]
        how: Unstorable,
    },
    /// All Observations have this one address.
    SharedFullUrl {
        #[serde(default = "undefined")]
        tail: String,
    },
    /// The addresses of all entries but the Person end in this: a version, or a name made anew.
    FullUrlSuffix {
        suffix: String,
    },
    /// The last entry of the page in an older state as well; nothing else differs.
    DuplicateEntry {
        #[serde(default)]
        order: DuplicateOrder,
    },
    /// The first entry that is not the Person has lost its address.
    EntryWithoutFullUrl,
    /// An entry that is no JSON in the midst of the page.
    BrokenJson,
    /// A byte order mark before the body.
    Bom,
}

/// How a link is written that leads to the right page all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkSpelling {
    /// Letters of a UUID in the other case.
    OtherCaseUuid,
    LowerCaseRoot,
    DoubleSlash,
    TrailingSlash,
    /// `&amp;` for `&`.
    Html,
    /// Everything that can be is percent-encoded.
    Encoded,
}

/// Where a name stands in an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NamePlace {
    #[default]
    FullUrl,
    Id,
    Source,
    VersionId,
}

/// Why a version of an entry cannot be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unstorable {
    #[default]
    NotUtf8,
    NotJson,
    TooDeep,
    NoType,
}

/// Bytes that a file may write as text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum RawBytes {
    Text(String),
    Bytes(Vec<u8>),
}

impl RawBytes {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

// Serde takes defaults as functions.
fn ok() -> u16 {
    200
}
fn found() -> u16 {
    302
}
fn json() -> String {
    "application/json".to_owned()
}
fn half() -> Keep {
    Keep::Fraction(0.5)
}
fn one() -> usize {
    1
}
fn one_less() -> i64 {
    1
}
fn drip() -> u64 {
    400
}
fn gzip() -> String {
    "gzip".to_owned()
}
fn warning() -> String {
    "warning".to_owned()
}
fn incomplete() -> String {
    "incomplete".to_owned()
}
fn plus_three() -> String {
    "+3.0".to_owned()
}
fn three_kilobytes() -> usize {
    3000
}
fn undefined() -> String {
    "Observation/undefined".to_owned()
}
fn hour() -> u64 {
    3600
}
fn gigabyte() -> u32 {
    1024
}
fn two_megabytes() -> usize {
    2_000_000
}
fn thirty_megabytes() -> usize {
    30_000_000
}
fn deep() -> usize {
    100_000
}
// Port 9 is "discard": nobody listens there.
fn nowhere() -> String {
    "http://127.0.0.1:9".to_owned()
}
fn other_path() -> String {
    "/FHIR/R4/Person/somebody-else/$everything".to_owned()
}

impl FaultKind {
    /// Returns its name in a file and in the log.
    pub(super) fn name(&self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            Ok(serde_json::Value::Object(fields)) => fields.keys().next().cloned().unwrap_or_default(),
            _ => String::new(),
        }
    }

    /// Returns whether it changes one place of a record, so that all pages must agree about it.
    pub(super) fn is_placed(&self) -> bool {
        self.adds_to_total()
            || matches!(
                self,
                Self::ErrorOutcomeEntry
                    | Self::WarningOutcomeEntry
                    | Self::OutcomeEntry { .. }
                    | Self::IncludeEntries { .. }
                    | Self::EmptyPageInMiddle
                    | Self::EmptyPagesForever
            )
    }

    /// Returns whether it adds an entry that a right `total` counts.
    pub(super) fn adds_to_total(&self) -> bool {
        matches!(
            self,
            Self::DeepNesting { .. }
                | Self::InvalidUtf8
                | Self::NulByte
                | Self::EntryWithoutId
                | Self::EntryNoResource
                | Self::EntryNotObject
                | Self::UnknownTypeEntry
                | Self::BigResource { .. }
                | Self::NumberNotJson { .. }
                | Self::HalfSurrogate
                | Self::NulInName { .. }
                | Self::LongName { .. }
        )
    }
}

impl ScriptedFault {
    /// Plays `kind` for every `$everything` request from now on.
    pub fn always(kind: FaultKind) -> Self {
        Self { person: None, at: FaultAt::Everything, page: None, from_request: 1, times: None, kind }
    }

    /// Plays `kind` for the next `$everything` request.
    pub fn once(kind: FaultKind) -> Self {
        Self { times: Some(1), ..Self::always(kind) }
    }
}
