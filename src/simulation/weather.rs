//! The weather between the client and the server: what goes wrong for whom, for a while.
//!
//! Decides about one request at a time, by a hash of what is asked and when: the same request at the
//! same time meets the same weather.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::sandbox::{FaultKind, ScriptedFault};

/// A kind of bad weather, and which patients it falls on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sky {
    pub(super) shape: Shape,
    pub(super) salt: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Nothing answers.
    Down,
    /// Each request may fail in its own way.
    Flaky,
    /// 429, for a third of all.
    Limited,
    /// 429, with a wait of two hours.
    LimitedForHours,
    /// 403 as HealthEx writes it, though everybody has consented: for all, for half, for one.
    RefusesAll,
    RefusesHalf,
    RefusesOne,
    /// And answers nothing when it is asked again.
    RefusesOneUnclearly,
    /// 403 as a limiter writes it.
    LimiterRefuses,
    LimiterRefusesOne,
    /// A proxy's pages.
    Proxy,
    /// The key and secret are refused.
    KeyBroken,
    /// A wrong `total`, none, or another one on each page.
    TotalOff,
    TotalMissing,
    TotalMoves,
    SinceIgnored,
    LinksLast,
    LostFilters,
    RepeatedEntries,
    /// Each patient's next page lacks an entry, once.
    HidesOnce,
    /// Each patient's next answer forgets an entry, and counts as if there were none.
    ForgetsOnce,
    /// 404 for one patient.
    UnknownOne,
    /// The consent records fail, are forbidden to us, break off, lack everybody or half of all patients, or
    /// cannot be read.
    RecordsFail,
    RecordsForbidden,
    RecordsCut,
    RecordsEmpty,
    RecordsHalved,
    RecordsUnreadable,
    /// They answer about all, and fail when they are asked about one.
    RecordsOfOneFail,
}

impl Shape {
    pub(super) const ALL: [Self; 22] = [
        Self::Down,
        Self::Flaky,
        Self::Limited,
        Self::LimitedForHours,
        Self::RefusesAll,
        Self::RefusesHalf,
        Self::RefusesOne,
        Self::RefusesOneUnclearly,
        Self::LimiterRefuses,
        Self::LimiterRefusesOne,
        Self::Proxy,
        Self::KeyBroken,
        Self::TotalOff,
        Self::TotalMissing,
        Self::TotalMoves,
        Self::SinceIgnored,
        Self::LinksLast,
        Self::LostFilters,
        Self::RepeatedEntries,
        Self::HidesOnce,
        Self::ForgetsOnce,
        Self::UnknownOne,
    ];

    /// Those of the consent records.
    pub(super) const OF_RECORDS: [Self; 7] = [
        Self::RecordsFail,
        Self::RecordsForbidden,
        Self::RecordsCut,
        Self::RecordsEmpty,
        Self::RecordsHalved,
        Self::RecordsUnreadable,
        Self::RecordsOfOneFail,
    ];

    /// Those after which somebody could be purged who is permitted.
    pub(super) const REFUSING: [Self; 7] = [
        Self::RefusesAll,
        Self::RefusesHalf,
        Self::RefusesOne,
        Self::RefusesOneUnclearly,
        Self::LimiterRefuses,
        Self::LimiterRefusesOne,
        Self::Proxy,
    ];
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    NoConnection,
    /// An answer that is not the server's own, or not about what was asked.
    Instead {
        status: u16,
        body: &'static str,
        header: Option<(&'static str, &'static str)>,
    },
    /// The body ends after so many thousandths.
    CutAt(u32),
    /// The same, and nothing shows that there was more.
    EndsAt(u32),
    /// Not a byte more, until the client gives up.
    StallsAt(u32),
    /// The server's answer, but for the records of half of the patients.
    HalfOfTheRecords(Sky),
    /// The server's answer, with a word in it that is none of a record.
    UnreadableRecords,
}

const FORBIDDEN: &str =
    r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"forbidden"}]}"#;
const THROTTLED: &str =
    r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"throttled"}]}"#;
/// How limiters write a 403: any sign by itself says that it passes.
const LIMITERS: [(&str, Option<(&str, &str)>); 4] = [
    (THROTTLED, None),
    (THROTTLED, Some(("x-ratelimit-remaining", "0"))),
    ("", Some(("retry-after", "30"))),
    (r#"{"message":"Limit Exceeded"}"#, Some(("x-amzn-errortype", "LimitExceededException"))),
];
const NOT_FOUND: &str =
    r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found"}]}"#;
const PAGE: &str = "<!DOCTYPE html><html><body>Please sign in</body></html>";

/// A request, as far as the weather cares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exposed<'a> {
    pub(super) asks: Asks<'a>,
    /// Counts requests.
    pub(super) number: u64,
    pub(super) persons: &'a [String],
}

/// What a request is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asks<'a> {
    Token,
    /// All consent records, or something of one patient's.
    Records {
        of_one: bool,
    },
    /// Something of a patient, or, for one entry and without any filter, whether it is permitted.
    Patient {
        person: &'a str,
        is_question: bool,
    },
}

impl Sky {
    /// Returns a number below `below` for what this sky does about `name`.
    fn hash(self, name: &str, number: u64, below: u64) -> u64 {
        xxh3_64_with_seed(format!("{name} {number}").as_bytes(), self.salt) % below
    }

    fn is_the_one(self, person: &str, persons: &[String]) -> bool {
        let one = usize::try_from(self.salt % persons.len().max(1) as u64).unwrap_or_default();
        persons.get(one).is_some_and(|one| one == person)
    }

    /// Returns what befalls a request, if anything does.
    pub(super) fn fate(self, request: Exposed<'_>) -> Option<Fate> {
        let Exposed { asks, number, persons } = request;
        let refused = Fate::Instead { status: 403, body: FORBIDDEN, header: None };
        let limited =
            |wait| Fate::Instead { status: 429, body: THROTTLED, header: Some(("retry-after", wait)) };
        let (person, is_question) = match asks {
            Asks::Token | Asks::Records { .. } if self.shape == Shape::Down => {
                return Some(Fate::NoConnection);
            }
            Asks::Token | Asks::Records { .. } if self.shape == Shape::Flaky => {
                return self.flaky("token", number);
            }
            Asks::Token | Asks::Records { .. } if self.shape == Shape::Proxy => {
                return Some(Fate::Instead { status: 200, body: PAGE, header: None });
            }
            Asks::Token => return None,
            Asks::Records { of_one } => return self.fate_of_records(of_one, number),
            Asks::Patient { person, is_question } => (person, is_question),
        };
        match self.shape {
            Shape::Down => Some(Fate::NoConnection),
            Shape::Flaky => self.flaky(person, number),
            Shape::Limited => (self.hash(person, number, 3) == 0).then(|| limited("20")),
            Shape::LimitedForHours => (self.hash(person, number, 3) == 0).then(|| limited("7200")),
            Shape::RefusesAll => Some(refused),
            Shape::RefusesHalf => (self.hash(person, 0, 2) == 0).then_some(refused),
            Shape::RefusesOne => self.is_the_one(person, persons).then_some(refused),
            Shape::RefusesOneUnclearly if !self.is_the_one(person, persons) => None,
            Shape::RefusesOneUnclearly if is_question => {
                Some(Fate::Instead { status: 503, body: "", header: None })
            }
            Shape::RefusesOneUnclearly => Some(refused),
            Shape::LimiterRefusesOne if !self.is_the_one(person, persons) => None,
            Shape::LimiterRefuses | Shape::LimiterRefusesOne => {
                let (body, header) = LIMITERS[usize::try_from(self.salt % 4).unwrap_or_default()];
                Some(Fate::Instead { status: 403, body, header })
            }
            Shape::Proxy => {
                let status = if self.hash(person, number, 2) == 0 { 403 } else { 200 };
                Some(Fate::Instead { status, body: PAGE, header: None })
            }
            Shape::UnknownOne => self.is_the_one(person, persons).then_some(Fate::Instead {
                status: 404,
                body: NOT_FOUND,
                header: None,
            }),
            _ => None,
        }
    }

    fn fate_of_records(self, of_one: bool, number: u64) -> Option<Fate> {
        let instead = |status, body| Some(Fate::Instead { status, body, header: None });
        match self.shape {
            // The key may read the records, or it may not.
            Shape::RefusesAll if self.salt.is_multiple_of(2) => instead(403, FORBIDDEN),
            Shape::Limited if self.hash("records", number, 3) == 0 => instead(429, THROTTLED),
            Shape::RecordsFail => instead(503, ""),
            Shape::RecordsForbidden => instead(403, FORBIDDEN),
            Shape::RecordsCut => {
                let at = u32::try_from(self.hash("records", number, 1000)).unwrap_or_default();
                Some(if self.salt.is_multiple_of(4) { Fate::CutAt(at) } else { Fate::EndsAt(at) })
            }
            Shape::RecordsEmpty => instead(200, "[]"),
            Shape::RecordsHalved => Some(Fate::HalfOfTheRecords(self)),
            Shape::RecordsUnreadable => Some(Fate::UnreadableRecords),
            Shape::RecordsOfOneFail if of_one => instead(503, ""),
            _ => None,
        }
    }

    /// Returns those of whom there is no record, where there are half of all records.
    pub(super) fn without_a_record(self, persons: &[String]) -> Vec<&str> {
        let is_lost = |person: &&String| self.hash(person, 0, 2) == 0;
        persons.iter().filter(is_lost).map(String::as_str).collect()
    }

    fn flaky(self, name: &str, number: u64) -> Option<Fate> {
        let at = u32::try_from(self.hash(name, number + 1, 1000)).unwrap_or_default();
        match self.hash(name, number, 10) {
            0 => Some(Fate::NoConnection),
            1 => Some(Fate::Instead { status: 503, body: "", header: None }),
            2 => Some(Fate::Instead { status: 503, body: "", header: Some(("retry-after", "5")) }),
            3 => Some(Fate::CutAt(at)),
            4 => Some(Fate::StallsAt(at)),
            _ => None,
        }
    }

    /// Returns what the server itself does wrong meanwhile.
    pub(super) fn faults(self, persons: &[String]) -> Vec<ScriptedFault> {
        let kind = match self.shape {
            Shape::TotalOff => FaultKind::TotalOff { by: if self.salt.is_multiple_of(2) { 2 } else { -1 } },
            Shape::TotalMissing => FaultKind::TotalMissing,
            Shape::TotalMoves => FaultKind::TotalMoves,
            Shape::SinceIgnored => FaultKind::SinceIgnored,
            Shape::LinksLast => FaultKind::LinksLast,
            Shape::LostFilters => FaultKind::NextLostFilters,
            Shape::RepeatedEntries => FaultKind::PageRepeatsEntry,
            Shape::HidesOnce => {
                let sent = usize::try_from(self.salt % 3).unwrap_or_default();
                let drop = FaultKind::CutShort { sent };
                let once = |person: &String| ScriptedFault {
                    person: Some(person.clone()),
                    ..ScriptedFault::once(drop.clone())
                };
                return persons.iter().map(once).collect();
            }
            _ => return Vec::new(),
        };
        vec![ScriptedFault::always(kind)]
    }
}

impl fmt::Display for Sky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.shape {
            Shape::Down => "nothing answers",
            Shape::Flaky => "half of all requests fail",
            Shape::Limited => "a third of all requests are limited",
            Shape::LimitedForHours => "a third of all requests are told to wait two hours",
            Shape::RefusesAll => "the server refuses everybody",
            Shape::RefusesHalf => "the server refuses half of the patients",
            Shape::RefusesOne => "the server refuses one patient",
            Shape::RefusesOneUnclearly => "the server refuses one patient, and fails when it is asked again",
            Shape::LimiterRefuses => "a limiter answers with 403",
            Shape::LimiterRefusesOne => "a limiter answers with 403 about one patient",
            Shape::Proxy => "a proxy answers with its pages",
            Shape::KeyBroken => "the key is refused",
            Shape::TotalOff => "every total is wrong",
            Shape::TotalMissing => "there is no total",
            Shape::TotalMoves => "each page has another total",
            Shape::SinceIgnored => "_since is ignored",
            Shape::LinksLast => "links come after the entries",
            Shape::LostFilters => "next links lose their filters",
            Shape::RepeatedEntries => "pages repeat an entry",
            Shape::HidesOnce => "the next page of each patient lacks entries",
            Shape::ForgetsOnce => "the next answer about each patient forgets an entry",
            Shape::UnknownOne => "the server does not know one patient",
            Shape::RecordsFail => "the consent records fail",
            Shape::RecordsForbidden => "the consent records are forbidden",
            Shape::RecordsCut => "the consent records break off",
            Shape::RecordsEmpty => "there are no consent records",
            Shape::RecordsHalved => "the consent records lack half of all patients",
            Shape::RecordsUnreadable => "the consent records cannot be read",
            Shape::RecordsOfOneFail => "the consent records fail when they are asked about one patient",
        })
    }
}
