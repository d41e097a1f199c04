//! What a broken connection means: to which host and port, what happened, and what mends it.
//!
//! Pure. A failure's own text is told beside it, of which the innermost cause is enough: none of them
//! holds a URL.

/// What there is to go by.
#[derive(Clone, Debug, Default)]
pub(super) struct Breakage {
    pub(super) kind: BreakageKind,
    pub(super) is_refused: bool,
    /// What each cause says, the outermost first.
    pub(super) causes: Vec<String>,
}

/// How far it had come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum BreakageKind {
    /// There was never a connection.
    NoConnection,
    /// Nor was there an answer to the wish for one.
    NoConnectionInTime,
    /// Nothing came any more.
    Silence,
    /// The body is not what its headers say.
    Damage,
    #[default]
    BrokenOff,
}

/// The other side of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Host and port.
    pub(super) server: String,
    pub(super) is_https: bool,
    /// Host and port of the proxy that leads there.
    pub(super) proxy: Option<String>,
}

impl Peer {
    /// Returns where the first connection leads.
    fn first(&self) -> &str {
        self.proxy.as_deref().unwrap_or(&self.server)
    }

    fn via(&self) -> String {
        self.proxy.as_ref().map_or_else(String::new, |proxy| format!(", through the proxy {proxy}"))
    }
}

pub(super) fn describe(breakage: &Breakage, peer: &Peer) -> String {
    let cause = breakage.causes.last().map_or("", String::as_str);
    let says =
        |words: &[&str]| breakage.causes.iter().any(|cause| words.iter().any(|word| cause.contains(word)));
    let (server, first, via) = (&peer.server, peer.first(), peer.via());
    let certificate = format!("the certificate of {server}{via}");
    let text = if says(&["dns error", "failed to lookup address"]) {
        let host = first.rsplit_once(':').map_or(first, |(host, _)| host);
        let key = if peer.proxy.is_some() { "api.proxy" } else { "api.base_url" };
        format!("the name {host} cannot be resolved; check {key}, and this machine's DNS")
    } else if says(&["UnknownIssuer", "unable to get local issuer", "self-signed", "self signed"]) {
        format!(
            "{certificate} is of an unknown issuer; if it is to be trusted, put the issuer's certificate into a file and name that in api.ca_file"
        )
    } else if says(&["CaUsedAsEndEntity"]) {
        format!(
            "{certificate} is an authority's own, which no server may use; give the server one of its own, issued by that authority, and name the authority's in api.ca_file"
        )
    } else if says(&["certificate expired", "Expired"]) {
        format!(
            "{certificate} has expired; it has to be renewed there, or the clock of this machine is wrong"
        )
    } else if says(&["NotValidYet", "not valid yet"]) {
        format!("{certificate} is not valid yet; the clock of this machine may be wrong")
    } else if says(&["NotValidForName", "not valid for name"]) {
        format!("{certificate} is for another name; check api.base_url")
    } else if says(&["invalid peer certificate"]) {
        format!("{certificate} cannot be accepted; it has to be mended there")
    } else if says(&["InvalidContentType", "corrupt message", "wrong version number"]) {
        format!(
            "{server} does not speak TLS; check scheme and port of api.base_url: is it http://, or another port?"
        )
    } else if breakage.is_refused || says(&["Connection refused"]) {
        let key = if peer.proxy.is_some() { "api.proxy" } else { "api.base_url" };
        format!("{first} refuses the connection; is it up, and is the port in {key} right?")
    } else if says(&["tunnel", "proxy auth", "Proxy Authentication"]) {
        format!("the proxy {first} does not lead to {server}; check api.proxy, and what it wants")
    } else if !peer.is_https
        && says(&["invalid HTTP version", "invalid HTTP status-line", "unexpected message"])
    {
        format!("{server} does not answer by HTTP; is it https:// in api.base_url, or another port?")
    } else if breakage.kind == BreakageKind::NoConnectionInTime {
        format!(
            "no connection to {first} within api.connect_timeout; is there a firewall between, or a proxy needed (api.proxy)?"
        )
    } else if breakage.kind == BreakageKind::Silence {
        format!("no byte came from {server}{via} for longer than api.idle_timeout")
    } else if breakage.kind == BreakageKind::NoConnection {
        format!("no connection to {server}{via}")
    } else if breakage.kind == BreakageKind::Damage {
        format!("the body of the answer of {server}{via} is damaged")
    } else if !peer.is_https && says(&["SendRequest"]) {
        format!("{server}{via} broke off the connection before it answered; is it https:// in api.base_url?")
    } else {
        format!("the connection to {server}{via} broke off")
    };
    if cause.is_empty() { text } else { format!("{text} ({cause})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(breakage: &Breakage, proxy: Option<&str>, expected: &str) {
        let proxy = proxy.map(str::to_owned);
        let peer = Peer { server: "api.example:443".to_owned(), is_https: true, proxy };
        assert_eq!(describe(breakage, &peer), expected);
    }

    fn because(cause: &str) -> Breakage {
        let causes = vec!["client error (Connect)".to_owned(), cause.to_owned()];
        Breakage { kind: BreakageKind::NoConnection, causes, ..Breakage::default() }
    }

    #[test]
    fn each_failure_names_the_place_and_what_mends_it() {
        check(
            &because("invalid peer certificate: UnknownIssuer"),
            None,
            "the certificate of api.example:443 is of an unknown issuer; if it is to be trusted, put the issuer's certificate into a file and name that in api.ca_file (invalid peer certificate: UnknownIssuer)",
        );
        check(
            &because("received corrupt message of type InvalidContentType"),
            None,
            "api.example:443 does not speak TLS; check scheme and port of api.base_url: is it http://, or another port? (received corrupt message of type InvalidContentType)",
        );
        check(
            &because("Connection refused (os error 111)"),
            Some("proxy.example:3128"),
            "proxy.example:3128 refuses the connection; is it up, and is the port in api.proxy right? (Connection refused (os error 111))",
        );
        check(
            &Breakage { kind: BreakageKind::NoConnectionInTime, ..Breakage::default() },
            None,
            "no connection to api.example:443 within api.connect_timeout; is there a firewall between, or a proxy needed (api.proxy)?",
        );
        check(
            &Breakage { kind: BreakageKind::Silence, ..Breakage::default() },
            Some("proxy.example:3128"),
            "no byte came from api.example:443, through the proxy proxy.example:3128 for longer than api.idle_timeout",
        );
        check(
            &because("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))"),
            None,
            "the certificate of api.example:443 is an authority's own, which no server may use; give the server one of its own, issued by that authority, and name the authority's in api.ca_file (invalid peer certificate: Other(OtherError(CaUsedAsEndEntity)))",
        );
        check(&Breakage::default(), None, "the connection to api.example:443 broke off");
    }

    #[test]
    fn a_port_that_is_not_spoken_to_in_its_own_way_is_asked_about() {
        let peer = Peer { server: "api.example:80".to_owned(), is_https: false, proxy: None };
        let causes = vec!["client error (SendRequest)".to_owned(), "connection error".to_owned()];
        let breakage = Breakage { causes, ..Breakage::default() };
        assert_eq!(
            describe(&breakage, &peer),
            "api.example:80 broke off the connection before it answered; is it https:// in api.base_url? (connection error)"
        );
    }
}
