//! Addresses of requests, and redirects.

use std::fmt;

use ureq::http::Uri;

use super::names::shown;

/// The scheme, host and port of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    secure: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of an address; `None` if it has user information, which would be sent with the request.
    pub fn of(uri: &Uri) -> Option<Self> {
        let secure = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let host = authority.host().to_ascii_lowercase();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        (!host.is_empty()).then_some(Self { secure, host, port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.secure { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", shown(&self.host))?;
        if self.port == usual { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// Resolves a redirect to another address or to a path on the same server. A redirect from https to http is
/// an error.
pub fn redirected(from: &Uri, origin: &Origin, location: &str) -> Result<(Uri, Origin), String> {
    let next: Option<Uri> = if location.starts_with("//") {
        from.scheme_str().and_then(|scheme| format!("{scheme}:{location}").parse().ok())
    } else if location.starts_with('/') {
        let mut parts = from.clone().into_parts();
        parts.path_and_query = location.parse().ok();
        Uri::from_parts(parts).ok().filter(|uri| uri.path_and_query().is_some())
    } else {
        location.parse().ok()
    };
    let Some((next, target)) = next.and_then(|uri| Origin::of(&uri).map(|target| (uri, target))) else {
        return Err(format!("{origin} redirects to \"{}\", which is not an address", shown(location)));
    };
    if origin.secure && !target.secure {
        return Err(format!("{origin} redirects to {target}, which is not encrypted"));
    }
    Ok((next, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(address: &str) -> Option<Origin> {
        Origin::of(&address.parse().ok()?)
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let hub = origin("https://huggingface.co").unwrap();
        for same in ["https://huggingface.co/a?b", "https://HuggingFace.co:443/", "HTTPS://huggingface.co"] {
            assert_eq!(origin(same).as_ref(), Some(&hub), "{same}");
        }
        for other in [
            "http://huggingface.co",
            "https://huggingface.co:444",
            "https://cdn.huggingface.co",
            "https://huggingface.co.evil.org",
        ] {
            assert!(origin(other).is_some_and(|other| other != hub), "{other}");
        }
        for none in [
            "https://huggingface.co@evil.org",
            "https://a:b@huggingface.co",
            "ftp://huggingface.co",
            "/path",
            "",
        ] {
            assert_eq!(origin(none), None, "{none}");
        }
    }

    #[test]
    fn redirects_lead_to_addresses_and_paths() {
        let base: Uri = "https://hub.org/a/b?c=d".parse().unwrap();
        let hub = Origin::of(&base).unwrap();
        let to = |location| redirected(&base, &hub, location).map(|(uri, target)| (uri.to_string(), target));
        for (location, address) in [
            ("/x/y?z=1", "https://hub.org/x/y?z=1"),
            ("//cdn.org/x", "https://cdn.org/x"),
            ("https://cdn.org/x#part", "https://cdn.org/x"),
            ("/@evil.org/", "https://hub.org/@evil.org/"),
        ] {
            assert_eq!(to(location).unwrap(), (address.to_owned(), origin(address).unwrap()));
        }
        for none in [
            "",
            "x/y",
            "http://[",
            "/\u{7f} x",
            "https://hub.org@evil.org/",
            "file:///etc/passwd",
            "\u{1b}[2J",
        ] {
            let error = to(none).unwrap_err();
            assert!(error.contains("not an address") && !error.contains('\u{1b}'), "{error}");
        }
        assert!(to("http://hub.org/x").unwrap_err().contains("not encrypted"));
        let open: Uri = "http://hub.org/".parse().unwrap();
        redirected(&open, &Origin::of(&open).unwrap(), "https://hub.org/x").unwrap();
    }
}
