//! What came of a message, kept for ever: how it is shown, and the field that says what was found.

use super::compose::{self, Outside};
use super::look::{Closed, Looked, Signature};
use mesyx_sdk::{Content, Summary, mime};
use minicbor::{Decode, Encode};

/// How a message is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is stored.
    AsStored,
    /// As it is stored, under a field that says what was found.
    Told,
    /// The same, with the fields that its signature covers in place of those outside.
    ToldProtected,
    /// Opened.
    Opened,
    /// Opened, with the fields inside in place of those outside.
    OpenedProtected,
}

const FORMS: [Form; 5] = [Form::AsStored, Form::Told, Form::ToldProtected, Form::Opened, Form::OpenedProtected];

/// A verdict as it is kept. A later version that composes otherwise gives its own verdicts another version.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Verdict {
    #[n(0)]
    version: u8,
    #[n(1)]
    form: u8,
    /// Our field with its line end; empty with [`Form::AsStored`].
    #[n(2)]
    field: String,
}

const VERSION: u8 = 1;

impl Verdict {
    fn new(form: Form, field: String) -> Self {
        let form = FORMS.iter().position(|known| *known == form).and_then(|at| u8::try_from(at).ok()).unwrap_or(0);
        Self { version: VERSION, form, field }
    }

    pub(super) fn form(&self) -> Form {
        FORMS.get(usize::from(self.form)).copied().unwrap_or(Form::AsStored)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        // Writing into memory does not fail.
        minicbor::to_vec(self).unwrap_or_default()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        minicbor::decode(bytes).ok().filter(|verdict: &Self| verdict.version == VERSION)
    }
}

/// The verdict on a message that was looked at for the first time.
pub(super) fn judge(stored: &Summary, content: &Content, looked: &Looked) -> Verdict {
    let refused = |why: &str| Verdict::new(Form::Told, format!("Mesyx-PGP: decrypted=no ({why})\r\n"));
    match looked.closed {
        Some(Closed::NotForUs) => return Verdict::new(Form::AsStored, String::new()),
        Some(Closed::Refused(why)) => return refused(why),
        None => {}
    }
    let protected = compose::protected_headers(looked);
    let verdict = match (&looked.entity, &protected) {
        (Some(_), Some(_)) => Form::OpenedProtected,
        (Some(_), None) => Form::Opened,
        // What is signed counts where the signature does.
        (None, Some(_)) if matches!(looked.signature, Signature::Good { .. }) => Form::ToldProtected,
        (None, _) => Form::Told,
    };
    let verdict = Verdict::new(verdict, field(stored, looked, verdict, protected.as_deref()));
    let composed = apply(&verdict, stored, content, looked);
    let readable = composed.is_some_and(|shown| mime::summarize(&shown, stored.internal_date, None).is_ok());
    if readable { verdict } else { refused("its headers are too large") }
}

/// The message as a verdict has it shown; `None` where it must be opened for that and can't be.
pub(super) fn apply(verdict: &Verdict, stored: &Summary, content: &Content, looked: &Looked) -> Option<Content> {
    let outside = Outside { content, header: stored.structure.header.end };
    let protected = || compose::protected_headers(looked);
    Some(match verdict.form() {
        Form::AsStored => content.clone(),
        Form::Told => outside.under(&verdict.field, None),
        Form::ToldProtected => outside.under(&verdict.field, Some(&protected()?)),
        Form::Opened => outside.around(&verdict.field, looked.entity.as_ref()?, None),
        Form::OpenedProtected => outside.around(&verdict.field, looked.entity.as_ref()?, Some(&protected()?)),
    })
}

/// What was found, as a header field.
fn field(stored: &Summary, looked: &Looked, form: Form, protected: Option<&[u8]>) -> String {
    let mut words = Vec::new();
    if looked.entity.is_some() {
        words.push("decrypted=yes; integrity=yes".to_owned());
    }
    words.push(match &looked.signature {
        Signature::None => "signature=none".to_owned(),
        Signature::Good { key, address, trust } => {
            format!("signature=good; signer={};\r\n\tkey={key}; trust={trust}", word(address))
        }
        Signature::Bad => "signature=bad (the message was changed)".to_owned(),
        Signature::Unusable => "signature=bad (it can't be used)".to_owned(),
        Signature::Unknown(Some(key)) => format!("signature=unknown;\r\n\tkey={}", word(key)),
        Signature::Unknown(None) => "signature=unknown".to_owned(),
    });
    if matches!(form, Form::OpenedProtected | Form::ToldProtected) {
        words.push("headers=protected".to_owned());
    }
    if let Some(inner) = protected.and_then(|inner| compose::other_author(&stored.headers, inner)) {
        words.push(format!("from=mismatch;\r\n\tinner-from={}", word(&inner)));
    }
    format!("Mesyx-PGP: {}\r\n", words.join("; "))
}

/// A text of the message that can't be taken for more than one word.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@.-_+=".contains(c);
    text.chars().take(254).map(|c| if plain(c) { c } else { '?' }).collect()
}
