//! What is said in groups, for one relay.

use mesyx_sdk::{Address, ChatEvent, ChatLine, ErrorKind, Group, Health, Host, Verb};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long to wait before asking again for what is not to be had now.
const AGAIN: Duration = Duration::from_secs(5);

/// Something of groups that a relay must know.
pub(crate) enum Heard {
    /// How groups are now: all that people who belong to none may see.
    Groups(Vec<Arc<Group>>),
    /// Said in the group of this name.
    Line(String, Arc<ChatLine>),
    /// Somebody joined the group of this name for good.
    Joined(String),
    /// Lines were missed.
    Missed,
}

/// A group's name, folded; `None` for any other address.
pub(super) fn name_of(address: &Address) -> Option<String> {
    match address {
        Address::Mesyx(mesyx) => Some(mesyx.user.local().to_lowercase()).filter(|name| name.starts_with('#')),
        _ => None,
    }
}

/// Tells a relay's connection what there is of these groups, until it is gone.
pub(crate) async fn hear(host: Arc<dyn Host>, network: String, groups: Vec<String>, heard: mpsc::Sender<Heard>) {
    let mut missed = false;
    loop {
        // The feed before the look, so that nothing falls between.
        let mut feed = match host.guests().await {
            Ok(feed) => feed,
            Err(error) => {
                if error.kind() == ErrorKind::NotGranted {
                    let what = format!(
                        "the relay on {network} hears no groups: grant 'guests' to irc-network, or take the relay away"
                    );
                    tracing::error!(%error, "{what}");
                    host.health(Health::Degraded(what));
                    return;
                }
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        if look(&*host, &heard).await.is_err() {
            return;
        }
        if missed && heard.send(Heard::Missed).await.is_err() {
            return;
        }
        missed = true;
        while let Some(event) = feed.next().await {
            let sent = match event {
                ChatEvent::GroupLine { group, line } => {
                    let Some(name) = name_of(&group).filter(|name| groups.contains(name)) else { continue };
                    match line.line.verb {
                        Verb::Say | Verb::Notice | Verb::Action => {
                            heard.send(Heard::Line(name, line)).await.map_err(drop)
                        }
                        Verb::Topic => Ok(()),
                        verb => {
                            let looked = look(&*host, &heard).await;
                            if verb == Verb::Join && looked.is_ok() {
                                heard.send(Heard::Joined(name)).await.map_err(drop)
                            } else {
                                looked
                            }
                        }
                    }
                }
                ChatEvent::Group(group) if name_of(&group.address).is_some_and(|name| groups.contains(&name)) => {
                    look(&*host, &heard).await
                }
                ChatEvent::Lagged => match look(&*host, &heard).await {
                    Ok(()) => heard.send(Heard::Missed).await.map_err(drop),
                    gone => gone,
                },
                _ => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Looks how the groups are. `Err`: nobody wants to know any more.
async fn look(host: &dyn Host, heard: &mpsc::Sender<Heard>) -> Result<(), ()> {
    loop {
        match host.groups().await {
            Ok(groups) => return heard.send(Heard::Groups(groups)).await.map_err(drop),
            Err(error) if error.kind().is_temporary() && !heard.is_closed() => tokio::time::sleep(AGAIN).await,
            Err(error) => {
                tracing::error!(%error, "a relay can't see groups, and tells nothing");
                return heard.send(Heard::Groups(Vec::new())).await.map_err(drop);
            }
        }
    }
}
