//! What Outlook posts: an XML document with the address (MS-OXDSCLI, section 3.1.5.1).

use super::pages::escape;
use mesyx_sdk::MailAddress;

/// Why a request gets no settings; the codes are those of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It can't be read, or asks for an address that is not ours.
    Invalid,
    /// It asks for settings of another protocol.
    Schema,
}

/// The schema of settings for mail programs.
pub(super) const SCHEMA: &str = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a";

/// The address that settings are asked for.
///
/// No XML parser: two elements are looked for whose content is text, and everything else is passed over, so that no entity, no
/// nesting and no other document can be made to cost anything.
pub(super) fn request(body: &[u8], domains: &[String]) -> Result<MailAddress, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::Invalid)?;
    if element(text, "AcceptableResponseSchema").is_some_and(|schema| schema.trim() != SCHEMA) {
        return Err(Refusal::Schema);
    }
    let address = element(text, "EMailAddress").and_then(unescape).ok_or(Refusal::Invalid)?;
    let address: MailAddress = address.trim().parse().map_err(|_| Refusal::Invalid)?;
    let ours = domains.iter().any(|domain| address.domain().as_name() == Some(domain));
    if ours { Ok(address) } else { Err(Refusal::Invalid) }
}

/// The text of the first element of this name, in whatever case it is written.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find('>')?;
        let tag = rest[..end].split_ascii_whitespace().next().unwrap_or_default();
        let local = tag.rsplit(':').next().unwrap_or_default();
        rest = &rest[end + 1..];
        if local.eq_ignore_ascii_case(name) {
            return rest.split('<').next();
        }
    }
    None
}

/// Undoes the five entities that XML has by itself.
fn unescape(text: &str) -> Option<String> {
    let mut pieces = text.split('&');
    let mut out = pieces.next()?.to_owned();
    for piece in pieces {
        let (entity, rest) = piece.split_once(';')?;
        out.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => return None,
        });
        out.push_str(rest);
    }
    Some(out)
}

impl Refusal {
    /// The answer that says so.
    pub(super) fn answer(self) -> String {
        let (code, message) = match self {
            Self::Invalid => (600, "Invalid Request"),
            Self::Schema => (601, "Provider is not available"),
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
             <Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006\">\n  <Response>\n    \
             <Error>\n      <ErrorCode>{code}</ErrorCode>\n      <Message>{}</Message>\n      <DebugData/>\n    </Error>\n  \
             </Response>\n</Autodiscover>\n",
            escape(message)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(body: &str) -> Result<String, Refusal> {
        request(body.as_bytes(), &["example.org".to_owned()]).map(|address| address.to_string())
    }

    #[test]
    fn the_address_is_found_and_nothing_else_is() {
        let body = |address: &str, schema: &str| {
            format!(
                "<?xml version=\"1.0\"?><Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006\">\
                 <Request><EMailAddress>{address}</EMailAddress>\
                 <AcceptableResponseSchema>{schema}</AcceptableResponseSchema></Request></Autodiscover>"
            )
        };
        assert_eq!(ask(&body(" ann@Example.ORG ", SCHEMA)), Ok("ann@example.org".into()));
        assert_eq!(ask("<a:EmailAddress>o&apos;neil@example.org</a:EmailAddress>"), Ok("o'neil@example.org".into()));
        assert_eq!(ask(&body("ann@example.org", "http://mobilesync")), Err(Refusal::Schema));
        for bad in
            [&*body("ann@example.net", SCHEMA), &body("&xxe;", SCHEMA), &body("", SCHEMA), "<EMailAddress", "<", ""]
        {
            assert_eq!(ask(bad), Err(Refusal::Invalid), "{bad}");
        }
        assert_eq!(request(&[0xff, b'<'], &[]), Err(Refusal::Invalid));
    }
}
