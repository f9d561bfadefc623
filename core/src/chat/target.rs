//! Whom chat addresses stand for, and how conversations are named.

use crate::core::Shared;
use crate::directory::Member;
use mesyx_sdk::chat::from_mail;
use mesyx_sdk::{
    Address, Conversation, Domain, Error, ErrorKind, MailAddress, MailboxId, MailboxName, MesyxAddress,
    RecipientStatus, Sender, UserId,
};
use std::sync::Arc;

/// What a chat address stands for.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A user here.
    User(Arc<Member>),
    /// A group of that name, whether there is one or not.
    Group(String),
    /// Someone or something on a network outside.
    Outside(Address),
    /// In the chat world, but nobody.
    Nobody,
}

/// What the name of a group may be: `#` and 1 to 49 bytes without blanks, commas, control characters and what masks and addresses
/// are made of.
fn is_group_name(name: &str) -> bool {
    let fits = |c: char| !c.is_control() && !c.is_whitespace() && !",:/*?!@\\\"".contains(c);
    name.starts_with('#') && (2..=50).contains(&name.len()) && name.chars().skip(1).all(fits)
}

impl Shared {
    /// The exchange's domain.
    pub(crate) fn domain(&self) -> Option<Domain> {
        self.settings().domains.first().map(|first| first.domain.clone())
    }

    /// # Errors
    /// Where there is no domain, which the settings' check refuses.
    pub(crate) fn primary(&self) -> Result<Domain, Error> {
        self.domain().ok_or_else(|| Error::new(ErrorKind::Unavailable, "the server has no domain"))
    }

    /// What an address stands for in the chat world; `None`: it is none of that world.
    pub(crate) fn chat_target(&self, address: &Address) -> Option<Target> {
        let known = self.directory();
        match address {
            Address::Mail(mail) => {
                let settings = self.settings();
                // A domain that people have mail in is that, whatever it is called.
                if settings.domains.iter().any(|ours| ours.domain == *mail.domain()) {
                    return None;
                }
                let host = mail.domain().as_name()?;
                let chat = |domain: &Domain| {
                    let labels = host.strip_suffix(domain.as_name()?)?.strip_suffix('.')?;
                    let world = labels.rsplit('.').next()?;
                    (matches!(world, "irc" | "x") && labels.split('.').count() <= 2).then(|| from_mail(mail, domain))
                };
                let found = settings.domains.iter().find_map(|ours| chat(&ours.domain))?;
                Some(found.and_then(|address| self.chat_target(&address)).unwrap_or(Target::Nobody))
            }
            Address::Mesyx(MesyxAddress { user }) => {
                if !self.settings().domains.iter().any(|ours| ours.domain == *user.domain()) {
                    return Some(Target::Nobody);
                }
                if user.local().starts_with('#') {
                    let name = is_group_name(user.local());
                    return Some(if name { Target::Group(user.local().to_owned()) } else { Target::Nobody });
                }
                let addresses = &known.addresses;
                let member = addresses.login(user.local()).or_else(|| addresses.login(&user.to_string()));
                Some(member.map_or(Target::Nobody, |member| Target::User(Arc::clone(member))))
            }
            outside => Some(Target::Outside(outside.clone())),
        }
    }

    /// What a chat address is to a sender.
    pub(crate) fn chat_recipient(&self, target: &Target, sender: &Sender) -> RecipientStatus {
        let Sender::User(user) = sender else {
            let text = "this address takes messages from users of this server only; log in to send to it";
            return RecipientStatus::Refused(text.to_owned());
        };
        match target {
            Target::User(_) => RecipientStatus::Local,
            Target::Group(name) => match self.chat.groups.by_name(name) {
                Some(group) if group.now().visible_to(*user) => RecipientStatus::Local,
                _ => RecipientStatus::Unknown,
            },
            Target::Outside(address) if self.sends_to(address) => RecipientStatus::Remote,
            Target::Outside(_) => {
                let text = "no bridge of this server brings messages to that network";
                RecipientStatus::Refused(text.to_owned())
            }
            Target::Nobody => RecipientStatus::Unknown,
        }
    }

    /// A user's address in the chat world.
    ///
    /// # Errors
    /// Where the name makes no address.
    pub(crate) fn chat_address(&self, member: &Member) -> Result<Address, Error> {
        self.local_address(&member.name)
    }

    /// The address of a name of ours in the chat world.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where the name makes no address.
    pub(crate) fn local_address(&self, name: &str) -> Result<Address, Error> {
        let user = MailAddress::new(name, self.primary()?)
            .map_err(|error| Error::new(ErrorKind::Invalid, format!("{name}: {error}")))?;
        Ok(Address::Mesyx(MesyxAddress { user }))
    }

    /// The mailbox of one user's conversation: the same for all instances that share the user; another one for each time that the user
    /// deleted it.
    pub(crate) fn conversation_mailbox(&self, user: UserId, conversation: &Conversation, generation: u32) -> MailboxId {
        let name = spelled(conversation);
        let hash =
            self.instance.name_hash("conversation", &[user.as_bytes(), name.as_bytes(), &generation.to_be_bytes()]);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        MailboxId(id)
    }
}

/// A conversation as one text.
pub(crate) fn spelled(conversation: &Conversation) -> String {
    match conversation {
        Conversation::Direct(address) => format!("direct {address}"),
        Conversation::Group(address) => format!("group {address}"),
        _ => String::new(),
    }
}

/// What [`spelled`] wrote.
pub(crate) fn unspelled(text: &str) -> Option<Conversation> {
    let (kind, address) = text.split_once(' ')?;
    let address = address.parse().ok()?;
    match kind {
        "direct" => Some(Conversation::Direct(address)),
        "group" => Some(Conversation::Group(address)),
        _ => None,
    }
}

/// The address that a conversation is with.
pub(crate) fn address_of(conversation: &Conversation) -> Option<&Address> {
    match conversation {
        Conversation::Direct(address) | Conversation::Group(address) => Some(address),
        _ => None,
    }
}

/// What stands in clear as the name of a conversation's mailbox.
pub(crate) fn clear_name(mailbox: MailboxId) -> Option<MailboxName> {
    MailboxName::new(&format!("Chat/~{mailbox}")).ok()
}

/// The name by which a conversation's mailbox is shown, below `Chat`.
pub(crate) fn shown_name(conversation: &Conversation) -> String {
    let level = |name: &str| name.replace('/', "_");
    match address_of(conversation) {
        Some(Address::Mesyx(mesyx)) => level(mesyx.user.local()),
        Some(Address::Irc(irc)) => format!("{}/{}", irc.network(), level(irc.name())),
        Some(Address::Other(other)) => format!("{}/{}", other.network(), level(other.name())),
        Some(address) => level(&address.to_string()),
        None => "?".to_owned(),
    }
}
