//! Addresses: which host a request goes to, and where an answer sends on.

use ureq::http::Uri;

/// Scheme, host and port of an address: what a token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UrlOrigin {
    scheme: String,
    host: String,
    port: u16,
}

impl UrlOrigin {
    /// Of `url`; none unless it is `http` or `https` with a host and nobody's name.
    pub(crate) fn of(url: &Uri) -> Option<UrlOrigin> {
        let scheme = url.scheme_str()?.to_ascii_lowercase();
        let usual = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let authority = url.authority()?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return None;
        }
        let port = authority.port_u16().unwrap_or(usual);
        Some(UrlOrigin { host: authority.host().to_ascii_lowercase(), scheme, port })
    }

    /// Whether what goes there is encrypted.
    fn is_encrypted(&self) -> bool {
        self.scheme == "https"
    }
}

/// The host of an address, with its port if it has one, for messages.
pub(crate) fn host(url: &Uri) -> String {
    url.authority().map_or_else(String::new, |authority| authority.to_string())
}

/// Where `location`, the header of an answer to a request to `from`, leads.
///
/// # Errors
/// Why it is not followed.
pub(crate) fn redirected(from: &Uri, location: &str) -> Result<Uri, &'static str> {
    let origin = UrlOrigin::of(from).ok_or("which is no address")?;
    let absolute = if location.starts_with('/') && !location.starts_with("//") {
        format!("{}://{}{location}", origin.scheme, host(from))
    } else {
        location.to_owned()
    };
    let to: Uri = absolute.parse().map_err(|_| "which is no address")?;
    let target = UrlOrigin::of(&to).ok_or("which is no address")?;
    if origin.is_encrypted() && !target.is_encrypted() {
        return Err("which is not encrypted");
    }
    Ok(to)
}

/// An address without what may be signed, for messages.
pub(crate) fn shown(location: &str) -> String {
    let plain = location.split(['?', '#']).next().unwrap_or_default();
    plain.chars().filter(|char| !char.is_control()).take(120).collect()
}

/// `text` as one part of a path: all but letters, digits, `-`, `_`, `.` and `~` as `%XX`.
pub(crate) fn path_part(text: &str) -> String {
    let mut part = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            part.push(byte as char);
        } else {
            part.push_str(&format!("%{byte:02X}"));
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = |text| UrlOrigin::of(&url(text));
        assert_eq!(origin("https://A.b/x"), origin("https://a.b:443/y?z"));
        for other in ["http://a.b/", "https://a.b:444/", "https://a.c/"] {
            assert_ne!(origin("https://a.b/"), origin(other), "{other}");
        }
        for none in ["ftp://a.b/", "/x", "https://user:word@a.b/", "https://a.b@c/"] {
            assert_eq!(origin(none), None, "{none}");
        }
    }

    #[test]
    fn where_an_answer_leads() {
        let from = url("https://a.b:8/c/d");
        let to = |location| redirected(&from, location).map(|to| to.to_string());
        assert_eq!(to("/x?y=1"), Ok("https://a.b:8/x?y=1".to_owned()));
        assert_eq!(to("https://other/x"), Ok("https://other/x".to_owned()));
        assert_eq!(to("http://a.b:8/x"), Err("which is not encrypted"));
        for none in ["x/y", "//host/x", "ftp://a/b", "", "https://"] {
            assert_eq!(to(none), Err("which is no address"), "{none}");
        }
        assert_eq!(shown("https://a/b?Signature=secret"), "https://a/b");
        assert_eq!(path_part("refs/pr/1 ü%"), "refs%2Fpr%2F1%20%C3%BC%25");
    }
}
