//! Which page next. The token goes wherever a link points, so a link is followed only
//! within this server and this patient.

use std::collections::HashSet;

use percent_encoding::percent_decode_str;
use url::Url;
use xxhash_rust::xxh3::xxh3_128;

use super::{PersonId, Timestamp, TypeFilter, stamp};

/// An empty page with a `next` link is followed this often in a row while `total` promises more.
pub(crate) const EMPTY_PAGES_MAX: u32 = 2;

/// A longer link is refused.
pub(crate) const LINK_LENGTH_MAX: usize = 16 * 1024;

/// What is asked for: the patient and the filters that every page must keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub person: PersonId,
    pub types: TypeFilter,
    pub since: Option<Timestamp>,
    /// `_count`; `None` asks for one streamed answer.
    pub page_size: Option<u32>,
}

impl Query {
    /// `_count=1`, unfiltered: is the consent there?
    pub(crate) fn of_consent(person: &PersonId) -> Self {
        Self { person: person.clone(), types: TypeFilter::default(), since: None, page_size: Some(1) }
    }

    /// The first page's URL. The filters are plain ASCII from checked types, so they are
    /// written as they are read.
    pub(crate) fn first_url(&self, base_url: &Url) -> Url {
        let mut url = person_url(base_url, &self.person);
        let mut query = Vec::new();
        query.extend(self.page_size.map(|count| format!("_count={count}")));
        query.extend(self.type_parameter());
        query.extend(self.since_parameter());
        url.set_query((!query.is_empty()).then(|| query.join("&")).as_deref());
        url
    }

    fn type_parameter(&self) -> Option<String> {
        (!self.types.is_everything()).then(|| format!("_type={}", self.types))
    }

    fn since_parameter(&self) -> Option<String> {
        self.since.map(|since| format!("_since={}", stamp(since)))
    }
}

/// `{base}/FHIR/R4/`
pub(crate) fn fhir_root(base_url: &Url) -> String {
    format!("{}/FHIR/R4/", base_url.as_str().trim_end_matches('/'))
}

fn person_url(base_url: &Url, person: &PersonId) -> Url {
    let mut url = base_url.clone();
    let path = format!("{}/FHIR/R4/Person/{person}/$everything", base_url.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkRefused {
    #[error("the server's next link is no URL")]
    NotAUrl,
    #[error("the server's next link is longer than {LINK_LENGTH_MAX} bytes")]
    TooLong,
    #[error("foreign next link: it leaves the server of api.base_url")]
    OtherServer,
    #[error("foreign next link: it carries a user name or password")]
    UserInfo,
    #[error("foreign next link: it is not this patient's $everything")]
    OtherPath,
    #[error("the server's next link repeats an earlier one of this pull: a loop")]
    Loop,
    #[error("more than sync.pages_max = {0} pages in one pull")]
    TooManyPages(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Fetch(Url),
    End,
}

/// What a page says about where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageEnd<'a> {
    /// Entries other than outcomes.
    pub entries: u64,
    pub next: Option<&'a str>,
    /// `total` says that more is to come than the walk has seen.
    pub more_promised: bool,
}

/// The links of one walk.
#[derive(Debug)]
pub(crate) struct Paging {
    query: Query,
    own_path: Vec<String>,
    base_url: Url,
    /// Hashes of the links: a hundred thousand long ones would not fit in memory.
    followed: HashSet<u128>,
    empty_pages: u32,
    pages: u64,
    pages_max: u64,
}

impl Paging {
    /// Begins at `first`, which is the first page's URL or the link a pull is resumed at;
    /// `pages` were stored before.
    pub(crate) fn start(query: Query, base_url: &Url, first: &Url, pages: u64, pages_max: u64) -> Self {
        let own_path = segments(&person_url(base_url, &query.person));
        let followed = HashSet::from([xxh3_128(first.as_str().as_bytes())]);
        Self { query, own_path, base_url: base_url.clone(), followed, empty_pages: 0, pages, pages_max }
    }

    /// `here` is the URL that answered with this page.
    pub(crate) fn after_page(&mut self, here: &Url, page: PageEnd<'_>) -> Result<Step, LinkRefused> {
        let Some(next) = page.next else {
            return Ok(Step::End);
        };
        if page.entries == 0 {
            self.empty_pages += 1;
            if !page.more_promised || self.empty_pages > EMPTY_PAGES_MAX {
                return Ok(Step::End);
            }
        } else {
            self.empty_pages = 0;
        }
        let next = self.accept(here, next)?;
        if !self.followed.insert(xxh3_128(next.as_str().as_bytes())) {
            return Err(LinkRefused::Loop);
        }
        self.pages += 1;
        if self.pages >= self.pages_max {
            return Err(LinkRefused::TooManyPages(self.pages_max));
        }
        Ok(Step::Fetch(next))
    }

    /// Is this a link the token may go to? Also asked of a link that was stored.
    pub(crate) fn accept(&self, here: &Url, link: &str) -> Result<Url, LinkRefused> {
        if link.len() > LINK_LENGTH_MAX {
            return Err(LinkRefused::TooLong);
        }
        let mut next = here.join(&without_entities(link)).map_err(|_| LinkRefused::NotAUrl)?;
        next.set_fragment(None);
        if !next.username().is_empty() || next.password().is_some() {
            return Err(LinkRefused::UserInfo);
        }
        if next.origin() != self.base_url.origin() {
            return Err(LinkRefused::OtherServer);
        }
        if !is_same_path(&segments(&next), &self.own_path) {
            return Err(LinkRefused::OtherPath);
        }
        self.restore_filters(&mut next);
        Ok(next)
    }

    /// A link of HealthEx's own form that has lost a filter would bring the whole record.
    fn restore_filters(&self, next: &mut Url) {
        let has = |url: &Url, name: &str| url.query_pairs().any(|(key, _)| key == name);
        if !has(next, "_offset") {
            return;
        }
        let filters = [("_type", self.query.type_parameter()), ("_since", self.query.since_parameter())];
        for (name, parameter) in filters {
            if let Some(parameter) = parameter.filter(|_| !has(next, name)) {
                let query = format!("{}&{parameter}", next.query().unwrap_or_default());
                next.set_query(Some(&query));
            }
        }
    }
}

/// Some servers write a link as if it stood in a page of HTML.
fn without_entities(link: &str) -> String {
    ENTITIES.iter().fold(link.to_owned(), |link, entity| link.replace(entity, "&"))
}

const ENTITIES: [&str; 3] = ["&amp;", "&#38;", "&#x26;"];

/// The segments of a path as they are meant: a slash too many, or one at the end, means nothing.
fn segments(url: &Url) -> Vec<String> {
    let path = percent_decode_str(url.path()).decode_utf8_lossy();
    path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
}

/// Servers differ in how they write `FHIR/R4` and a UUID; whatever else differs is another path.
fn is_same_path(path: &[String], own: &[String]) -> bool {
    let root = own.len().saturating_sub(SEGMENTS_OF_PERSON);
    path.len() == own.len()
        && path.iter().zip(own).enumerate().all(|(at, (given, own))| {
            let may_differ_in_case = (root..root + 2).contains(&at) || is_uuid(own);
            given == own || may_differ_in_case && given.eq_ignore_ascii_case(own)
        })
}

/// `FHIR/R4/Person/{id}/$everything`
const SEGMENTS_OF_PERSON: usize = 5;

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "https://api.example/x/FHIR/R4/Person/p1/$everything?_count=2&_type=Observation&_since=2026-01-01T00:00:00Z";

    fn query() -> Query {
        Query {
            person: PersonId::parse("p1").unwrap(),
            types: TypeFilter::parse("Observation"),
            since: crate::plan::parse_stamp("2026-01-01T00:00:00Z"),
            page_size: Some(2),
        }
    }

    fn base() -> Url {
        Url::parse("https://api.example/x").unwrap()
    }

    fn paging(pages_max: u64) -> (Paging, Url) {
        let here = query().first_url(&base());
        (Paging::start(query(), &base(), &here, 0, pages_max), here)
    }

    fn check(next: &str, verdict: Result<&str, LinkRefused>) {
        let (mut paging, here) = paging(10);
        let step = paging.after_page(&here, PageEnd { entries: 1, next: Some(next), more_promised: true });
        let verdict = verdict.map(|url| Step::Fetch(Url::parse(url).unwrap()));
        assert_eq!(step, verdict, "{next}");
    }

    #[test]
    fn the_first_url_carries_count_filters_and_a_whole_second() {
        assert_eq!(query().first_url(&base()).as_str(), HERE);
        let bare = Query { types: TypeFilter::default(), since: None, page_size: None, ..query() };
        assert_eq!(bare.first_url(&base()).as_str(), "https://api.example/x/FHIR/R4/Person/p1/$everything");
    }

    #[test]
    fn a_link_is_followed_as_written_within_this_server_and_patient() {
        let path = "https://api.example/x/FHIR/R4/Person/p1/$everything";
        let kept = "_type=Observation&_since=2026-01-01T00:00:00Z";
        check(&format!("{path}?page=abc"), Ok(&format!("{path}?page=abc")));
        check("?page=abc", Ok(&format!("{path}?page=abc")));
        check(
            "https://api.example:443/x/FHIR/R4/Person/p1/%24everything?page=2#top",
            Ok("https://api.example/x/FHIR/R4/Person/p1/%24everything?page=2"),
        );
        check(&format!("?_offset=2&{kept}"), Ok(&format!("{path}?_offset=2&{kept}")));
        check("?_offset=2", Ok(&format!("{path}?_offset=2&{kept}")));
        check("?_offset=2&_type=Observation", Ok(&format!("{path}?_offset=2&{kept}")));
    }

    #[test]
    fn a_path_is_this_patients_however_it_is_written() {
        const UUID: &str = "0A1b2c3d-0000-4000-8000-00000000ABCD";
        let check = |base: &str, person: &str, link: &str, is_own: bool| {
            let base = Url::parse(base).unwrap();
            let query = Query { person: PersonId::parse(person).unwrap(), ..query() };
            let here = query.first_url(&base);
            let found = Paging::start(query, &base, &here, 0, 10).accept(&here, link);
            let expected = if is_own { Ok(base.join(link).unwrap()) } else { Err(LinkRefused::OtherPath) };
            assert_eq!(found, expected, "{base} {person} {link}");
        };
        let (base, rest) = ("https://api.example/x", "$everything?page=2");
        check(base, UUID, &format!("/x/FHIR/R4/Person/{}/{rest}", UUID.to_lowercase()), true);
        check(base, &UUID.to_lowercase(), &format!("/x/FHIR/R4/Person/{}/{rest}", UUID.to_uppercase()), true);
        check(base, "P1", &format!("/x/FHIR/R4/Person/p1/{rest}"), false);
        check(
            base,
            "0A1b2c3d-0000-4000-8000-00000000ABCX",
            &format!("/x/FHIR/R4/Person/0a1b2c3d-0000-4000-8000-00000000abcx/{rest}"),
            false,
        );
        check(base, "p1", &format!("/x//FHIR/R4///Person/p1/{rest}"), true);
        check(base, "p1", &format!("/x/fhir/r4/Person/p1/{rest}"), true);
        check(base, "p1", "/x/Fhir/R4/Person/p1/$everything/?page=2", true);
        check(base, "p1", "/x/FHIR/R4/Person/p1/%24everything?page=2", true);
        check(base, "p1", &format!("/x/FHIR/R4%2FPerson/%701/{rest}"), true);
        check(base, "p1", &format!("/X/FHIR/R4/Person/p1/{rest}"), false);
        check(base, "p1", &format!("/x/FHIR/R5/Person/p1/{rest}"), false);
        check(base, "p1", &format!("/x/FHIR/R4/person/p1/{rest}"), false);
        check(base, "p1", "/x/FHIR/R4/Person/p1/$Everything?page=2", false);
        check(base, "p1", "/x/FHIR/R4/Person/p1?page=2", false);
        check(base, "p1", &format!("/x/FHIR/R4/Person/p2%2F..%2Fp1/{rest}"), false);
        check("https://api.example/~x/", "p1", &format!("/~x/FHIR/R4/Person/p1/{rest}"), true);
        check("https://api.example/~x/", "p1", &format!("/%7Ex/FHIR/R4/Person/p1/{rest}"), true);
        check("https://api.example/%7Ex", "p1", &format!("/~x/FHIR/R4/Person/p1/{rest}"), true);
        check("https://api.example", "p1", &format!("/fhir/R4/Person/p1/{rest}"), true);
    }

    #[test]
    fn an_ampersand_may_be_written_as_in_html() {
        let path = "https://api.example/x/FHIR/R4/Person/p1/$everything";
        check("?a=1&amp;b=2&#38;c=3&#x26;d=4", Ok(&format!("{path}?a=1&b=2&c=3&d=4")));
        let filters = "_type=Observation&_since=2026-01-01T00:00:00Z";
        check("?_count=2&amp;_offset=2", Ok(&format!("{path}?_count=2&_offset=2&{filters}")));
        check("?_offset=2&amp;_type=Observation", Ok(&format!("{path}?_offset=2&{filters}")));
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_refused() {
        let path = "/x/FHIR/R4/Person/p1/$everything";
        check(&format!("https://evil.example{path}?a"), Err(LinkRefused::OtherServer));
        check(&format!("http://api.example{path}?a"), Err(LinkRefused::OtherServer));
        check(&format!("https://api.example:8443{path}?a"), Err(LinkRefused::OtherServer));
        check(&format!("//evil.example{path}?a"), Err(LinkRefused::OtherServer));
        for user in ["u:p", "u", ":p"] {
            check(&format!("https://{user}@api.example{path}?a"), Err(LinkRefused::UserInfo));
        }
        check("https://api.example/x/FHIR/R4/Person/p2/$everything?a", Err(LinkRefused::OtherPath));
        check("../p2/$everything?a", Err(LinkRefused::OtherPath));
        check("https://", Err(LinkRefused::NotAUrl));
        check(HERE, Err(LinkRefused::Loop));
    }

    #[test]
    fn a_link_may_have_sixteen_kibibytes() {
        let path = "https://api.example/x/FHIR/R4/Person/p1/$everything";
        let long = "x".repeat(16_383);
        check(&format!("?{long}"), Ok(&format!("{path}?{long}")));
        check(&format!("?{long}x"), Err(LinkRefused::TooLong));
    }

    #[test]
    fn the_root_is_below_the_base_url_with_or_without_a_slash_at_its_end() {
        for base in ["https://api.example/x", "https://api.example/x/"] {
            assert_eq!(fhir_root(&Url::parse(base).unwrap()), "https://api.example/x/FHIR/R4/");
        }
    }

    #[test]
    fn empty_pages_end_a_walk_and_pages_have_a_limit() {
        let (mut paging, here) = paging(4);
        let empty = |next, more_promised| PageEnd { entries: 0, next: Some(next), more_promised };
        assert_eq!(paging.after_page(&here, empty("?a=1", false)), Ok(Step::End));
        let (mut paging, here) = self::paging(4);
        assert!(matches!(paging.after_page(&here, empty("?a=1", true)), Ok(Step::Fetch(_))));
        assert!(matches!(paging.after_page(&here, empty("?a=2", true)), Ok(Step::Fetch(_))));
        assert_eq!(paging.after_page(&here, empty("?a=3", true)), Ok(Step::End));
        let full = |next| PageEnd { entries: 1, next: Some(next), more_promised: true };
        assert!(matches!(paging.after_page(&here, full("?a=4")), Ok(Step::Fetch(_))));
        assert_eq!(paging.after_page(&here, full("?a=5")), Err(LinkRefused::TooManyPages(4)));
    }

    proptest::proptest! {
        #[test]
        fn a_walk_always_ends(links in proptest::collection::vec("[a-z?&=/.:_]{0,12}", 0..64)) {
            let (mut paging, mut here) = paging(20);
            let mut steps = 0;
            for link in links.iter().cycle().take(1000) {
                match paging.after_page(&here, PageEnd { entries: 1, next: Some(link), more_promised: true }) {
                    Ok(Step::Fetch(next)) => {
                        assert_eq!(next.origin(), base().origin());
                        here = next;
                        steps += 1;
                    }
                    Ok(Step::End) | Err(_) => break,
                }
            }
            assert!(steps < 20);
        }
    }
}
