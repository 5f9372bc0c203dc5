//! Where a redirect leads: a service's `Location` template, filled in (docs/configuration.md).

use super::url::Url;
use redirector_core::lookup::Scheme;
use redirector_plan::model::Target;
use std::net::IpAddr;

/// The template of services that have none.
const DEFAULT: &str = "{scheme}://{target}{path}";

/// A redirect's aim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    /// The URL.
    pub(super) url: String,
    /// Its scheme.
    pub(super) scheme: Scheme,
    /// The server's address, as far as it is known here.
    pub(super) address: Option<IpAddr>,
    /// The server's port for that scheme.
    pub(super) port: u16,
}

/// Fills in a template for a target; `v6` is the family of its address, `other` a port that is told instead of its own.
pub(super) fn location(
    template: Option<&str>,
    url: &Url<'_>,
    target: &Target,
    (v6, other): (bool, Option<u16>),
) -> Location {
    let template = template.unwrap_or(DEFAULT);
    let scheme = scheme(template, url.scheme);
    let port = match scheme {
        Scheme::Http => target.http_port,
        Scheme::Https => target.https_port,
        Scheme::Rtsp => target.rtsp_port,
    };
    let port = other.unwrap_or(port);
    let address = target.address(v6);
    let host = match (target.redirect_host(), address) {
        (Some(host), _) => host.to_owned(),
        (None, Some(IpAddr::V6(address))) => format!("[{address}]"),
        (None, Some(IpAddr::V4(address))) => address.to_string(),
        (None, None) => String::new(),
    };
    let mut filled = String::with_capacity(template.len() + host.len() + url.path.len() + 16);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let (name, tail) = after.split_once('}').unwrap_or((after, ""));
        match name {
            "scheme" => filled.push_str(scheme.name()),
            "target" => {
                filled.push_str(&host);
                // As authority, and without a port written: the server's own.
                if filled.len() == scheme.name().len() + "://".len() + host.len()
                    && !tail.starts_with(':')
                    && port != scheme.default_port()
                {
                    filled.push_str(&format!(":{port}"));
                }
            }
            "port" => filled.push_str(&port.to_string()),
            "host" => filled.push_str(url.host),
            "path" => filled.push_str(url.path),
            // The configuration knows no other.
            _ => {}
        }
        rest = tail;
    }
    filled.push_str(rest);
    Location { url: filled, scheme, address, port }
}

/// Scheme of what a template makes of a request.
fn scheme(template: &str, request: Scheme) -> Scheme {
    let written = template.split("://").next().unwrap_or_default();
    [Scheme::Http, Scheme::Https, Scheme::Rtsp]
        .into_iter()
        .find(|scheme| scheme.name() == written)
        .unwrap_or(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use redirector_plan::model::{Origin, Outcome};

    fn target(host: Option<&str>) -> Target {
        Target {
            name: "par-1".into(),
            site: "par".into(),
            ipv4: Some([192, 0, 2, 10].into()),
            ipv6: Some("2001:db8::10".parse().expect("address")),
            host: host.map(str::to_owned),
            outcome: Outcome::Server,
            http_port: 8080,
            https_port: 443,
            rtsp_port: 554,
            network: 0,
            origin: Origin::default(),
        }
    }

    fn filled(template: Option<&str>, host: Option<&str>, v6: bool) -> String {
        let url = Url::new(Scheme::Http, "tv.acme.net:8000", "/live/1?a=b").expect("URL");
        location(template, &url, &target(host), (v6, None)).url
    }

    #[test]
    fn without_template_the_servers_address_and_port_are_named() {
        assert_eq!(filled(None, None, false), "http://192.0.2.10:8080/live/1?a=b");
        assert_eq!(filled(None, None, true), "http://[2001:db8::10]:8080/live/1?a=b");
        assert_eq!(filled(None, Some("par.acme.net"), true), "http://par.acme.net:8080/live/1?a=b");
    }

    #[test]
    fn a_name_instead_of_a_server_is_the_redirects_host() {
        let name = Target {
            outcome: Outcome::Name("edge.partner.example".into()),
            ipv4: None,
            ipv6: None,
            ..target(None)
        };
        let url = Url::new(Scheme::Http, "tv.acme.net", "/live").expect("URL");
        assert_eq!(location(None, &url, &name, (false, None)).url, "http://edge.partner.example:8080/live");
    }

    #[test]
    fn a_template_may_change_scheme_and_path() {
        assert_eq!(filled(Some("rtsp://{target}{path}"), None, false), "rtsp://192.0.2.10/live/1?a=b");
        assert_eq!(
            filled(Some("https://{target}/{host}{path}"), None, false),
            "https://192.0.2.10/tv.acme.net/live/1?a=b"
        );
        assert_eq!(filled(Some("http://{target}:{port}/x"), None, false), "http://192.0.2.10:8080/x");
        assert_eq!(
            filled(Some("http://{target}/{target}:{port}{path}"), None, true),
            "http://[2001:db8::10]:8080/[2001:db8::10]:8080/live/1?a=b"
        );
    }
}
