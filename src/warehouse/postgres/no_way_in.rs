//! Why there is no connection, in the words of whoever has to mend it.

use std::error::Error as StdError;
use std::io::{Error as IoError, ErrorKind};

use rustls::{CertificateError, Error as TlsError};
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use super::failure::{Undone, describe, innermost};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::place::Server;

/// Returns why a connection was not made. What may be over by itself is told apart.
pub(super) fn why(error: &Error, server: &Server) -> Undone {
    if let Some(told) = error.as_db_error() {
        return told_by_server(told, server);
    }
    if let Some(tls) = cause::<TlsError>(error) {
        return refused(told_by_certificate(tls));
    }
    let innermost = innermost(error);
    match innermost.as_str() {
        "password missing" => refused(format!("the server asks for a password: {}", server.asked_for)),
        "server does not support TLS" => refused(
            "the server offers no TLS, and nothing goes to another machine in clear; set ssl = on in its postgresql.conf"
                .to_owned(),
        ),
        _ => match cause::<IoError>(error) {
            Some(io) => Undone::Lost(told_by_network(io, &innermost)),
            None => Undone::Lost(innermost),
        },
    }
}

fn refused(why: String) -> Undone {
    Undone::Failed(StoreFailed::Refused(why))
}

fn told_by_server(told: &DbError, server: &Server) -> Undone {
    let said = describe(told);
    match *told.code() {
        SqlState::INVALID_PASSWORD => {
            let asked_for = &server.asked_for;
            refused(match server.password {
                Some(_) => format!("the password is refused (28P01); {asked_for}"),
                None => format!("the server asks for a password; {asked_for}"),
            })
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => refused(format!(
            "{said}; `healthex-sync migrate --print` has the roles that this program comes in as, pg_hba.conf says who may; or correct the role in warehouse.url"
        )),
        SqlState::INVALID_CATALOG_NAME => {
            refused(format!("{said}; make it with `createdb`, or correct warehouse.url"))
        }
        SqlState::INSUFFICIENT_PRIVILEGE => {
            refused(format!("{said}; GRANT CONNECT ON DATABASE … TO the role of warehouse.url"))
        }
        SqlState::TOO_MANY_CONNECTIONS => Undone::Lost(format!(
            "{said}; this program holds few and keeps them: raise max_connections, or see who has them in pg_stat_activity"
        )),
        SqlState::CANNOT_CONNECT_NOW => Undone::Lost(format!("{said}: it is starting, or shutting down")),
        SqlState::PROTOCOL_VIOLATION if told.message().contains("startup parameter") => {
            refused(format!("{said}: a pooler stands in between; set warehouse.prepared = false"))
        }
        ref code if code.code().starts_with("08") || code.code().starts_with("57") => Undone::Lost(said),
        _ => refused(said),
    }
}

/// Says what of a server's certificate is not as it has to be.
fn told_by_certificate(tls: &TlsError) -> String {
    const MENDS: &str = "put the certificate of the authority that issued it (PEM) into warehouse.ca_file";
    match tls {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => {
            format!("nobody who is trusted here has issued the server's certificate; {MENDS}")
        }
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for another name than that in warehouse.url; write the name that it is for"
            .to_owned(),
        TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the server's certificate has run out; renew it on the server".to_owned()
        }
        TlsError::InvalidCertificate(_) => format!("the server's certificate is not accepted ({tls}); {MENDS}"),
        _ => format!("TLS with the server fails ({tls})"),
    }
}

fn told_by_network(io: &IoError, innermost: &str) -> String {
    match io.kind() {
        ErrorKind::ConnectionRefused => {
            "nobody listens there (connection refused): is the server started, and are host and port in warehouse.url right?"
                .to_owned()
        }
        ErrorKind::TimedOut => {
            "there is no answer: the host is down, or a firewall is in between".to_owned()
        }
        ErrorKind::NotFound => {
            format!("its socket is not there ({innermost}): is the server started, and is the folder right?")
        }
        _ if innermost.contains("lookup address") => {
            format!("its name is not known here ({innermost}): correct the host in warehouse.url")
        }
        _ => innermost.to_owned(),
    }
}

/// Returns the first cause of this kind. Errors of input and output hold theirs where `source` does not tell.
fn cause<'e, T: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let held = error.downcast_ref::<IoError>().and_then(IoError::get_ref);
        next = held.map_or_else(|| error.source(), |held| Some(held as &(dyn StdError + 'static)));
    }
    None
}
