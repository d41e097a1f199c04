//! Decides when a scripted fault is played: counts the requests that fit each.
//!
//! Promise: the first fault in the script that is due gets the request; all faults it fits
//! count it. Only requests that would have got a good answer are asked about here: one that is
//! refused anyway uses up no fault.
//!
//! Deliberately absent: chance. A script plays the same way each time.

use std::collections::HashSet;

use super::faults::{FaultAt, FaultKind, ScriptedFault};

#[derive(Debug, Default)]
pub(super) struct FaultScript {
    armed: Vec<ArmedFault>,
}

#[derive(Debug)]
struct ArmedFault {
    fault: ScriptedFault,
    fitting: u32,
    played: u32,
    /// For [`FaultKind::ForbiddenOnce`]: the persons it has already refused.
    refused_once: HashSet<String>,
}

/// A request, as far as scripted faults choose by it.
#[derive(Clone, Copy)]
pub(super) enum RequestTarget<'a> {
    Token,
    Consents,
    Consent,
    Page { person_id: &'a str, page: usize },
}

/// A fault to play now.
#[derive(Clone, Debug)]
pub(super) struct DueFault {
    pub(super) kind: FaultKind,
    /// For placed kinds: where.
    pub(super) place: Option<usize>,
}

impl FaultScript {
    pub(super) fn add(&mut self, fault: ScriptedFault) {
        self.armed.push(ArmedFault { fault, fitting: 0, played: 0, refused_once: HashSet::new() });
    }

    pub(super) fn clear(&mut self) {
        self.armed.clear();
    }

    pub(super) fn due(&mut self, target: RequestTarget<'_>) -> Option<DueFault> {
        let mut due = None;
        for armed in &mut self.armed {
            if !armed.fits(target) {
                continue;
            }
            armed.fitting = armed.fitting.saturating_add(1);
            if due.is_none() && armed.is_due(target) {
                armed.played = armed.played.saturating_add(1);
                due = Some(DueFault { kind: armed.fault.kind.clone(), place: armed.fault.page });
            }
        }
        due
    }
}

impl ArmedFault {
    fn fits(&self, target: RequestTarget<'_>) -> bool {
        let fault = &self.fault;
        match target {
            RequestTarget::Token => fault.at == FaultAt::Token,
            RequestTarget::Consents => fault.at == FaultAt::Consents,
            RequestTarget::Consent => fault.at == FaultAt::Consent,
            RequestTarget::Page { person_id, page } => {
                let person_fits = fault.person.as_deref().is_none_or(|wanted| wanted == person_id);
                let page_fits = fault.kind.is_placed() || fault.page.is_none_or(|wanted| wanted == page);
                fault.at == FaultAt::Everything && person_fits && page_fits
            }
        }
    }

    fn is_due(&mut self, target: RequestTarget<'_>) -> bool {
        let begun = self.fault.from_request <= self.fitting;
        let left = self.fault.times.is_none_or(|times| self.played < times);
        if !begun || !left {
            return false;
        }
        match (&self.fault.kind, target) {
            (FaultKind::ForbiddenOnce, RequestTarget::Page { person_id, .. }) => {
                self.refused_once.insert(person_id.to_owned())
            }
            (FaultKind::ForbiddenOnce, _) => self.refused_once.insert(String::new()),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(fault: ScriptedFault, requests: &[(&str, usize)]) -> Vec<bool> {
        let mut script = FaultScript::default();
        script.add(fault);
        let mut ask = |&(person_id, page)| script.due(RequestTarget::Page { person_id, page }).is_some();
        requests.iter().map(&mut ask).collect()
    }

    #[test]
    fn a_fault_is_played_for_the_requests_it_names() {
        let fault = ScriptedFault {
            person: Some("anna".to_owned()),
            page: Some(2),
            from_request: 2,
            ..ScriptedFault::once(FaultKind::Html200)
        };
        let requests = [("anna", 2), ("ben", 2), ("anna", 1), ("anna", 2), ("anna", 2)];
        assert_eq!(played(fault, &requests), [false, false, false, true, false]);
    }

    #[test]
    fn forbidden_once_is_once_a_person() {
        let fault = ScriptedFault::always(FaultKind::ForbiddenOnce);
        let requests = [("anna", 1), ("anna", 1), ("ben", 1), ("anna", 1)];
        assert_eq!(played(fault, &requests), [true, false, true, false]);
    }
}
