//! Faults of a page: in its window, links, counts and entries.
//!
//! Promise: a fault changes what its name says and nothing else; without one the page is what
//! the contract asks for. Deliberately absent: when a fault is played, and how bytes travel.

use std::sync::Arc;

use axum::body::Bytes;

use super::entry_faults;
use super::faults::{DuplicateOrder, FaultKind, LinkSpelling};
use super::page::{BundlePage, LinkOrder, Linker, PageEntry, Window, step, write_entry};
use super::population::StoredEntry;
use super::query::Parameters;
use super::script::DueFault;
use super::state::PersonRecord;

/// A request for a page, and the fault to play.
pub(super) struct PageRequest<'a> {
    pub(super) base: &'a str,
    pub(super) person_id: &'a str,
    pub(super) parameters: &'a Parameters,
    pub(super) fault: Option<&'a DueFault>,
}

/// Returns which page this is, counted from 1.
pub(super) fn page_number(parameters: &Parameters) -> usize {
    parameters.count.map_or(1, |count| parameters.offset / count + 1)
}

impl PageRequest<'_> {
    pub(super) fn build(&self, person: &PersonRecord) -> BundlePage {
        let filter = self.filter();
        let total = person.matching(&filter).count();
        let window = self.window(total);
        let chosen = person.matching(&filter).skip(window.start);
        let chosen = chosen.take(window.end.saturating_sub(window.start)).cloned().collect();
        let linker = Linker {
            base: self.base,
            person_id: self.person_id,
            parameters: self.parameters,
            step: step(self.parameters, total),
        };
        let order = match self.kind() {
            Some(FaultKind::LinksLast) => LinkOrder::AfterEntries,
            _ => LinkOrder::BeforeEntries,
        };
        BundlePage {
            total: self.total_text(total),
            links: self.links(&linker, total, window.next_offset),
            entries: self.entries(chosen),
            order,
        }
    }

    fn kind(&self) -> Option<&FaultKind> {
        self.fault.map(|fault| &fault.kind)
    }

    /// Returns the page that a placed fault is on.
    fn place(&self) -> usize {
        let default = match self.kind() {
            Some(FaultKind::EmptyPageInMiddle | FaultKind::EmptyPagesForever) => 2,
            _ => 1,
        };
        self.fault.and_then(|fault| fault.place).unwrap_or(default)
    }

    /// Returns the filter in force, which a fault may have made less strict than the request's.
    fn filter(&self) -> Parameters {
        let mut filter = self.parameters.clone();
        match self.kind() {
            Some(FaultKind::SinceIgnored) => filter.since = None,
            Some(FaultKind::TypeIgnored) => filter.types.clear(),
            _ => {}
        }
        filter
    }

    fn window(&self, total: usize) -> Window {
        let mut window = Window::of(self.parameters, total);
        let Some(kind) = self.kind() else {
            return window;
        };
        let page = page_number(self.parameters);
        let step = step(self.parameters, total);
        let onward = self.parameters.offset.saturating_add(step);
        match kind {
            FaultKind::PageSkipsEntry if 1 < page => {
                window.start = (window.start + 1).min(total);
                window.end = (window.end + 1).min(total);
            }
            FaultKind::PageRepeatsEntry if 1 < page => {
                window.start = window.start.saturating_sub(1);
            }
            FaultKind::PageSlides if 1 < page => {
                window.start = window.start.saturating_sub(1);
                window.end = window.end.saturating_sub(1);
            }
            FaultKind::EmptyPageInMiddle => self.make_room_for_hole(&mut window, total),
            FaultKind::EmptyPagesForever => {
                window.next_offset = Some(onward);
                if self.place() <= page {
                    window.end = window.start;
                }
            }
            FaultKind::NextOtherOrigin { .. } | FaultKind::NextOtherPath { .. } | FaultKind::NextUserinfo => {
                window.next_offset = Some(onward);
            }
            FaultKind::CutShort { sent } => {
                window.start = window.start.min(*sent);
                window.end = window.end.min(*sent);
                window.next_offset = window.next_offset.filter(|next| next < sent);
            }
            FaultKind::EmptyRecord => window = Window { start: 0, end: 0, next_offset: None },
            FaultKind::NextSelfLoop => window.next_offset = Some(self.parameters.offset),
            FaultKind::NextEndless => {
                window = wrapped(self.parameters.offset, step, total);
                window.next_offset = Some(onward);
            }
            FaultKind::NextAbLoop => {
                window = wrapped(self.parameters.offset, step, total);
                window.next_offset = Some(if self.parameters.offset == 0 { step } else { 0 });
            }
            _ => {}
        }
        window
    }

    /// Inserts an empty page, and moves all later pages back by one.
    fn make_room_for_hole(&self, window: &mut Window, total: usize) {
        let Some(count) = self.parameters.count else {
            return;
        };
        let hole = (self.place() - 1).saturating_mul(count);
        if self.parameters.offset < hole || total <= hole {
            return;
        }
        let onward = self.parameters.offset.saturating_add(count);
        if self.parameters.offset < hole.saturating_add(count) {
            *window = Window { start: hole, end: hole, next_offset: Some(onward) };
            return;
        }
        let moved = Parameters { offset: self.parameters.offset - count, ..self.parameters.clone() };
        *window = Window::of(&moved, total);
        window.next_offset = window.next_offset.map(|_| onward);
    }

    fn total(&self, total: usize) -> Option<i64> {
        let total = i64::try_from(total).unwrap_or(i64::MAX);
        let later_pages = i64::try_from(page_number(self.parameters) - 1).unwrap_or(i64::MAX);
        match self.kind() {
            None => Some(total),
            Some(FaultKind::TotalMissing) => None,
            Some(FaultKind::EmptyRecord) => Some(0),
            Some(FaultKind::TotalMoves) => Some(total + later_pages % 2),
            Some(FaultKind::TotalOff { by }) => Some(total.saturating_add(*by)),
            Some(FaultKind::TotalShrinks { by }) => {
                Some(total.saturating_sub(by.saturating_mul(later_pages)))
            }
            Some(kind) if kind.adds_to_total() => Some(total.saturating_add(1)),
            Some(_) => Some(total),
        }
    }

    fn total_text(&self, total: usize) -> Option<String> {
        match self.kind() {
            Some(FaultKind::TotalWritten { text }) => Some(text.clone()),
            _ => self.total(total).map(|total| total.to_string()),
        }
    }

    fn links(
        &self,
        linker: &Linker<'_>,
        total: usize,
        next_offset: Option<usize>,
    ) -> Vec<(&'static str, String)> {
        let mut links = linker.links(total, next_offset);
        let next = links.iter_mut().find(|(relation, _)| *relation == "next");
        let (Some(kind), Some((_, url)), Some(offset)) = (self.kind(), next, next_offset) else {
            return links;
        };
        let (path, query) = (linker.path(), linker.query(offset));
        match kind {
            FaultKind::NextOtherOrigin { origin } => *url = format!("{origin}{path}?{query}"),
            FaultKind::NextOtherPath { path } => *url = format!("{}{path}?{query}", self.base),
            FaultKind::NextUserinfo => *url = url.replacen("://", "://somebody:secret@", 1),
            FaultKind::NextLostFilters => {
                *url = format!("{}{path}?{}", self.base, linker.bare_query(offset));
            }
            FaultKind::NextRelative => *url = format!("{path}?{query}"),
            FaultKind::NextWritten { how } => {
                *url = format!("{}{}", self.base, written(*how, &path, &query, self.person_id));
            }
            _ => {}
        }
        links
    }

    fn entries(&self, chosen: Vec<Arc<StoredEntry>>) -> Vec<PageEntry> {
        let first = chosen.iter().position(|stored| stored.kind != "Person");
        let last = chosen.last().cloned();
        let mut entries: Vec<PageEntry> = chosen.into_iter().map(PageEntry::Stored).collect();
        let Some(kind) = self.kind() else {
            return entries;
        };
        match kind {
            FaultKind::CloseDelimitedBoundary { drop } => {
                entries.truncate(entries.len().saturating_sub(*drop));
            }
            FaultKind::EntryWithoutFullUrl => {
                if let Some(place) = first
                    && let Some(PageEntry::Stored(stored)) = entries.get(place)
                {
                    let mut bytes = Vec::new();
                    write_entry(&mut bytes, None, &stored.resource);
                    entries[place] = PageEntry::Raw(Bytes::from(bytes));
                }
            }
            FaultKind::DuplicateEntry { order } => {
                if let Some(newer) = last {
                    let older = PageEntry::Raw(entry_faults::older_state(&newer, self.base));
                    let place = match order {
                        DuplicateOrder::OlderFirst => entries.len() - 1,
                        DuplicateOrder::NewerFirst => entries.len(),
                    };
                    entries.insert(place, older);
                }
            }
            FaultKind::BrokenJson => self.insert_in_middle(&mut entries),
            FaultKind::LastEntryUnstorable { how } => {
                if let (Some(last), Some(place)) = (last, entries.last_mut()) {
                    *place = PageEntry::Raw(entry_faults::unstorable(&last, *how, self.base));
                }
            }
            FaultKind::IncludeEntries { count } if self.place() == page_number(self.parameters) => {
                let included = (0..*count).map(|number| entry_faults::included(number, self.base));
                entries.extend(included.map(PageEntry::Raw));
            }
            FaultKind::SharedFullUrl { tail } => self.readdress(&mut entries, |entry, base| {
                (entry.kind == "Observation").then(|| format!("{base}/FHIR/R4/{tail}"))
            }),
            FaultKind::FullUrlSuffix { suffix } => self.readdress(&mut entries, |entry, base| {
                (entry.kind != "Person").then(|| format!("{}{suffix}", entry.full_url(base)))
            }),
            kind if kind.is_placed() && self.place() == page_number(self.parameters) => {
                self.insert_in_middle(&mut entries);
            }
            _ => {}
        }
        entries
    }

    /// Sends entries under another address, where `address` has one for them.
    fn readdress(&self, entries: &mut [PageEntry], address: impl Fn(&StoredEntry, &str) -> Option<String>) {
        for place in entries {
            if let PageEntry::Stored(stored) = place
                && let Some(address) = address(stored, self.base)
            {
                let mut bytes = Vec::new();
                write_entry(&mut bytes, Some(&address), &stored.resource);
                *place = PageEntry::Raw(Bytes::from(bytes));
            }
        }
    }

    fn insert_in_middle(&self, entries: &mut Vec<PageEntry>) {
        if let Some(bytes) = self.kind().and_then(|kind| entry_faults::entry(kind, self.base)) {
            entries.insert(entries.len().div_ceil(2), PageEntry::Raw(bytes));
        }
    }
}

/// Returns a window that starts over where the entries end, so that no page is empty.
fn wrapped(offset: usize, step: usize, total: usize) -> Window {
    let start = if total == 0 { 0 } else { offset % total };
    Window { start, end: start.saturating_add(step).min(total), next_offset: None }
}

/// Returns path and query, written in another way that means the same.
fn written(how: LinkSpelling, path: &str, query: &str, person_id: &str) -> String {
    match how {
        LinkSpelling::OtherCaseUuid => {
            let has_capitals = person_id.chars().any(|letter| letter.is_ascii_uppercase());
            let other =
                if has_capitals { person_id.to_ascii_lowercase() } else { person_id.to_ascii_uppercase() };
            format!("{}?{query}", path.replacen(person_id, &other, 1))
        }
        LinkSpelling::LowerCaseRoot => format!("{}?{query}", path.replacen("/FHIR/R4/", "/fhir/r4/", 1)),
        LinkSpelling::DoubleSlash => format!("{}?{query}", path.replacen("/Person/", "//Person/", 1)),
        LinkSpelling::TrailingSlash => format!("{path}/?{query}"),
        LinkSpelling::Html => format!("{path}?{}", query.replace('&', "&amp;")),
        LinkSpelling::Encoded => format!("{}?{query}", path.replacen("/Person/", "/%50erson/", 1)),
    }
}
