//! Which requests are answered: those with the token, from this very page.
//!
//! Other pages in the same browser can send requests here, and one whose name its owner lets lead
//! to this machine (DNS rebinding) may even read the answers. So the `Host` must be `localhost` or
//! an address in numbers, which no name can stand for, and an `Origin` must have the same host and
//! port. The port may be any: `ssh -L` and containers lead another one here.
//! The token is in the URL that was printed, and only there.
//!
//! Invariants: 1. Comparing a token takes the same time wherever it differs.

use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::header::{HOST, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Uri};

/// What lets a request pass.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) token: String,
    pub(super) actions: bool,
}

/// Why a request does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) words: &'static str,
}

const FOREIGN_HOST: &str = "this Host is not the page's address: localhost or an IP address, with \
                            any port, is accepted";
const FOREIGN_ORIGIN: &str = "this Origin is not the page's: one with the host and the port of the \
                              request's Host is accepted";

const fn refused(words: &'static str) -> Refusal {
    Refusal {
        status: StatusCode::FORBIDDEN,
        words,
    }
}

impl Access {
    /// Whether a request passes.
    pub(super) fn check(&self, parts: &Parts) -> Result<(), Refusal> {
        let text = |name| parts.headers.get(name).map(|value| value.to_str());
        let Some(Ok(host)) = text(HOST) else {
            return Err(refused("a request needs one Host"));
        };
        if parts.headers.get_all(HOST).iter().count() != 1 || !is_here(host) {
            return Err(refused(FOREIGN_HOST));
        }
        let origin = parts.headers.get(ORIGIN);
        // A proxy may speak TLS to the browser.
        let own = ["http", "https"].map(|scheme| format!("{scheme}://{host}"));
        if origin.is_some_and(|origin| own.iter().all(|own| origin != own)) {
            return Err(refused(FOREIGN_ORIGIN));
        }
        let site = parts.headers.get("sec-fetch-site");
        let is_foreign = site.is_some_and(|site| site != "same-origin" && site != "none");
        // A link to the page may stand anywhere: it has the token.
        if is_foreign && parts.uri.path() != "/" {
            return Err(refused("another site asks"));
        }
        let token = value_of(&parts.uri, "token").unwrap_or_default();
        if !is_same(token.as_bytes(), self.token.as_bytes()) {
            return Err(refused(
                "this page needs its whole address with the token, as it was printed",
            ));
        }
        if parts.method == Method::POST {
            if !self.actions {
                return Err(refused("this page only shows: actions are not allowed"));
            }
            if origin.is_none() {
                return Err(refused("an action needs the page's Origin"));
            }
        }
        Ok(())
    }
}

/// Whether a `Host` is `localhost` or an address in numbers, with any port or the usual one.
fn is_here(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let is_literal = name.parse::<Ipv4Addr>().is_ok()
        || name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .is_some_and(|name| name.parse::<Ipv6Addr>().is_ok());
    let is_local = name.eq_ignore_ascii_case("localhost");
    port.is_none_or(|port| port.parse::<u16>().is_ok()) && (is_literal || is_local)
}

/// Whether two texts are the same.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let different = one
        .iter()
        .zip(other)
        .fold(0, |sum, (one, other)| sum | (one ^ other));
    one.len() == other.len() && std::hint::black_box(different) == 0
}

/// A value of the query, as it was before it was encoded for a URL.
pub(super) fn value_of(uri: &Uri, name: &str) -> Option<String> {
    let pairs = uri.query()?.split('&');
    let mut values = pairs.filter_map(|pair| pair.split_once('='));
    let (_, value) = values.find(|(key, _)| *key == name)?;
    decoded(value)
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text.bytes();
    while let Some(byte) = left.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [left.next()?, left.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// 128 random bits, as text.
pub(super) fn random() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn access(actions: bool) -> Access {
        Access {
            token: "secret".into(),
            actions,
        }
    }

    fn check(access: &Access, method: &str, uri: &str, headers: &[(&str, &str)]) -> &'static str {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        access.check(&parts).map_or_else(|it| it.words, |()| "")
    }

    #[test]
    fn the_host_is_an_address_in_numbers_or_localhost() {
        let passes = |host| check(&access(false), "GET", "/?token=secret", &[("host", host)]);
        for host in [
            "127.0.0.1:8000",
            "localhost:8000",
            "LOCALHOST:8000",
            "[::1]:8000",
            "localhost:9999",
            "127.0.0.1",
            "[::1]",
        ] {
            assert_eq!(passes(host), "", "{host}");
        }
        for host in [
            "evil.example:8000",
            "127.0.0.1.evil.example:8000",
            "evil.example",
            "127.0.0.1:",
            "127.0.0.1:99999",
            "127.0.0.1:8000:8000",
            "[::1:8000",
            "::1:8000",
            "",
            "user@127.0.0.1:8000",
        ] {
            assert_eq!(passes(host), FOREIGN_HOST, "{host}");
        }
        let none = check(&access(false), "GET", "/?token=secret", &[]);
        assert_eq!(none, "a request needs one Host");
        let two = [("host", "127.0.0.1:8000"), ("host", "evil.example:8000")];
        let two = check(&access(false), "GET", "/?token=secret", &two);
        assert_eq!(two, FOREIGN_HOST);
    }

    #[test]
    fn another_page_is_refused() {
        let with = |path, name, value| {
            let headers = [("host", "127.0.0.1:8000"), (name, value)];
            check(&access(false), "GET", path, &headers)
        };
        let events = "/events?token=secret";
        for origin in ["http://127.0.0.1:8000", "https://127.0.0.1:8000"] {
            assert_eq!(with(events, "origin", origin), "", "{origin}");
        }
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:80",
            "ftp://127.0.0.1:8000",
        ] {
            assert_eq!(with(events, "origin", origin), FOREIGN_ORIGIN, "{origin}");
        }
        assert_eq!(with(events, "sec-fetch-site", "same-origin"), "");
        assert_eq!(
            with(events, "sec-fetch-site", "cross-site"),
            "another site asks"
        );
        assert_eq!(with("/?token=secret", "sec-fetch-site", "cross-site"), "");
    }

    #[test]
    fn the_token_is_needed_whole() {
        for uri in [
            "/",
            "/?token=",
            "/?token=secre",
            "/?token=secrets",
            "/?token=Secret",
            "/?other=secret",
            "/?token=wrong&token=secret",
            "/?token=%zz",
        ] {
            let words = check(&access(false), "GET", uri, &[("host", "127.0.0.1:8000")]);
            assert!(
                words.starts_with("this page needs its whole address"),
                "{uri}"
            );
        }
        let encoded = "/?a=1&token=%73ecret";
        assert_eq!(
            check(&access(false), "GET", encoded, &[("host", "[::1]:8000")]),
            ""
        );
    }

    #[test]
    fn actions_are_asked_for_by_the_page_alone_and_only_where_they_are_allowed() {
        let uri = "/kill_call?token=secret&pid=1";
        let own = [
            ("host", "127.0.0.1:8000"),
            ("origin", "http://127.0.0.1:8000"),
        ];
        let words = "this page only shows: actions are not allowed";
        assert_eq!(check(&access(false), "POST", uri, &own), words);
        assert_eq!(check(&access(true), "POST", uri, &own), "");
        let words = "an action needs the page's Origin";
        assert_eq!(check(&access(true), "POST", uri, &own[..1]), words);
    }

    #[test]
    fn random_numbers_differ_and_texts_are_compared_whole() {
        let (one, other) = (random().expect("bits"), random().expect("bits"));
        assert!(one.len() == 32 && one != other);
        assert!(is_same(b"abc", b"abc") && !is_same(b"abc", b"abd") && !is_same(b"abc", b"ab"));
        assert_eq!(decoded("a%20b+c%C3%A9"), Some("a b c\u{e9}".into()));
        assert_eq!((decoded("%f"), decoded("%ff")), (None, None));
    }
}
