//! What must hold of a bridge's listeners, whatever it serves.

use super::ConfigErrors;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Checks the names and addresses of a bridge's table `listeners`, in their order: there is one at least, each name can be systemd's
/// `FileDescriptorName=` ([`crate::ListenSpec::name`]), and no name and no address stands twice (port 0 is a new one each time). The
/// address is `None` where it could not be read, which the bridge tells itself.
///
/// # Examples
/// ```
/// use mesyx_sdk::ConfigErrors;
/// use mesyx_sdk::config::check_listeners;
/// let mut errors = ConfigErrors::default();
/// let address = "[::]:5269".parse().ok();
/// check_listeners([("s2s", address), ("S 2 S", address)], &mut errors);
/// let paths: Vec<_> = errors.0.iter().map(|error| error.path.as_str()).collect();
/// assert_eq!(paths, ["listeners[1].name", "listeners[1].address"]);
/// ```
pub fn check_listeners<'a>(
    listeners: impl IntoIterator<Item = (&'a str, Option<SocketAddr>)>,
    errors: &mut ConfigErrors,
) {
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    let mut count = 0;
    for (index, (name, address)) in listeners.into_iter().enumerate() {
        count += 1;
        let at = |key: &str| format!("listeners[{index}].{key}");
        let named = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(named) {
            let what = format!("'{}' is no listener's name", name.escape_default());
            errors.push(at("name"), what, "use lower-case letters, digits and -, such as mx-1");
        }
        if !names.insert(name) {
            errors.push(at("name"), format!("the name '{name}' is taken"), "give each its own name");
        }
        if let Some(address) = address.filter(|address| address.port() != 0)
            && !addresses.insert(address)
        {
            errors.push(at("address"), format!("{address} is taken"), "give each its own address or port");
        }
    }
    if count == 0 {
        errors.push("listeners", "there is no listener", "name one, or leave the bridge out");
    }
}
