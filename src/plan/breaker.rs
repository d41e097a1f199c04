//! Is the server down, or are the credentials refused, so that nobody else need be asked?

/// Patients in a row without any answer, times `concurrency`, that mean the server is down.
const SILENT_ROUNDS_MAX: usize = 3;

/// What one patient's requests have shown of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contact {
    /// An answer that a working token gets: 200, 403 or 404.
    GotThrough,
    /// An answer that tells nothing about the token, such as a 500.
    Answered,
    Silent,
    TokenRefused,
}

/// Why nobody else is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trip {
    ServerDown,
    CredentialsRefused,
}

/// What the patients of a cycle have shown so far, in the order in which they ended.
#[derive(Debug)]
pub(crate) struct Breaker {
    many: usize,
    silent_in_a_row: usize,
    tokens_refused: usize,
    got_through: bool,
}

impl Breaker {
    pub(crate) fn new(concurrency: usize) -> Self {
        Self {
            many: SILENT_ROUNDS_MAX * concurrency,
            silent_in_a_row: 0,
            tokens_refused: 0,
            got_through: false,
        }
    }

    /// Takes one patient's contact in, and says whether the cycle ends by it.
    pub(crate) fn observe(&mut self, contact: Contact) -> Option<Trip> {
        let silent = std::mem::take(&mut self.silent_in_a_row);
        match contact {
            Contact::GotThrough => self.got_through = true,
            Contact::Answered => {}
            Contact::Silent => self.silent_in_a_row = silent + 1,
            Contact::TokenRefused => self.tokens_refused += 1,
        }
        if self.silent_in_a_row >= self.many {
            return Some(Trip::ServerDown);
        }
        (contact == Contact::TokenRefused && !self.got_through && self.tokens_refused >= self.many)
            .then_some(Trip::CredentialsRefused)
    }

    /// Says, once all patients have been asked, whether it was the credentials that failed.
    pub(crate) fn at_end(&self) -> Option<Trip> {
        (self.tokens_refused > 0 && !self.got_through).then_some(Trip::CredentialsRefused)
    }
}

#[cfg(test)]
mod tests {
    use super::Contact::*;
    use super::*;

    /// With one patient at once, three make many.
    fn check(contacts: &[Contact], tripped: Option<Trip>, at_end: Option<Trip>) {
        let mut breaker = Breaker::new(1);
        let trip = contacts.iter().map(|contact| breaker.observe(*contact)).last().flatten();
        assert_eq!((trip, breaker.at_end()), (tripped, at_end), "{contacts:?}");
    }

    #[test]
    fn a_server_that_answers_nobody_is_down() {
        check(&[Silent, Silent], None, None);
        check(&[Silent, Silent, Silent], Some(Trip::ServerDown), None);
        check(&[Silent, Silent, Answered, Silent], None, None);
        check(&[Silent, Silent, GotThrough, Silent], None, None);
    }

    #[test]
    fn a_token_that_gets_nobody_through_is_refused() {
        let refused = Some(Trip::CredentialsRefused);
        check(&[TokenRefused], None, refused);
        check(&[TokenRefused, TokenRefused, TokenRefused], refused, refused);
        check(&[GotThrough, TokenRefused, TokenRefused, TokenRefused], None, None);
        check(&[TokenRefused, GotThrough], None, None);
        check(&[Answered, Answered], None, None);
    }
}
