//! One connection: reads commands, has them done one after the other, answers.

use crate::proto::command::{Body, Command};
use crate::proto::framing::{Frame, Refusal, Step};
use crate::proto::write::line_text;
use crate::proto::{grammar, utf7};
use crate::server::{Shared, stopped};
use crate::share::Held;
use crate::view::{Telling, View};
use crate::wire::Wire;
use bytes::Bytes;
use mesyx_sdk::{Error, ErrorKind, MailboxId, MailboxName, Session};
use std::borrow::Cow;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Who is at the other end, and how.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) ip: IpAddr,
    pub(crate) tls: bool,
    pub(crate) may_start_tls: bool,
    /// Passwords are taken.
    pub(crate) plain_auth: bool,
}

/// See the module.
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) wire: Wire,
    pub(crate) peer: Peer,
    pub(crate) user: Option<Box<LoggedIn>>,
    /// When a client that has not logged in is sent away.
    login_deadline: Instant,
    pub(crate) login_failures: u32,
    bad_commands: u32,
    /// Memory for the messages of the APPEND that is being read.
    reservations: Vec<Held>,
}

/// What a login opened, and what the client enabled since.
pub(crate) struct LoggedIn {
    pub(crate) session: Arc<dyn Session>,
    pub(crate) selected: Option<Selected>,
    pub(crate) condstore: bool,
    pub(crate) qresync: bool,
    pub(crate) utf8: bool,
}

/// The selected mailbox.
pub(crate) struct Selected {
    pub(crate) mailbox: MailboxId,
    pub(crate) read_only: bool,
    pub(crate) view: View,
}

/// A tagged response.
#[derive(Debug)]
pub(crate) struct Reply {
    status: &'static str,
    code: Option<String>,
    text: Cow<'static, str>,
}

impl Reply {
    pub(crate) fn ok(text: impl Into<Cow<'static, str>>) -> Self {
        Self { status: "OK", code: None, text: text.into() }
    }

    pub(crate) fn no(text: impl Into<Cow<'static, str>>) -> Self {
        Self { status: "NO", code: None, text: text.into() }
    }

    pub(crate) fn bad(text: impl Into<Cow<'static, str>>) -> Self {
        Self { status: "BAD", code: None, text: text.into() }
    }

    pub(crate) fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    pub(crate) fn has_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }
}

/// Why a command did not come to its own answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is answered with this.
    Reply(Reply),
    /// It was answered already.
    Answered,
    /// The connection is to end: with this BYE.
    Bye(Cow<'static, str>),
    /// The connection is lost, or the client takes nothing more.
    Lost(io::Error),
}

impl From<Reply> for Fault {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl From<Error> for Fault {
    /// The response code that RFC 5530 has for the failure.
    fn from(error: Error) -> Self {
        let reply = Reply::no(error.message().to_owned());
        Self::Reply(match error.kind() {
            ErrorKind::NotFound => reply.code("NONEXISTENT"),
            ErrorKind::Exists => reply.code("ALREADYEXISTS"),
            ErrorKind::LoginFailed => reply.code("AUTHENTICATIONFAILED"),
            ErrorKind::Forbidden => reply.code("NOPERM"),
            ErrorKind::NotGranted => reply.code("CONTACTADMIN"),
            ErrorKind::Invalid => reply.code("CANNOT"),
            ErrorKind::TooLarge => reply.code("TOOBIG"),
            ErrorKind::OverQuota => reply.code("OVERQUOTA"),
            ErrorKind::Full => reply.code("LIMIT"),
            ErrorKind::TooMany | ErrorKind::Unavailable => reply.code("UNAVAILABLE"),
            _ => reply.code("SERVERBUG"),
        })
    }
}

/// How a command ended.
pub(crate) type Handled = Result<Reply, Fault>;

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>, wire: Wire, peer: Peer) -> Self {
        let login_deadline = Instant::now() + shared.limits.login();
        Self {
            shared,
            wire,
            peer,
            user: None,
            login_deadline,
            login_failures: 0,
            bad_commands: 0,
            reservations: Vec::new(),
        }
    }

    /// Serves the client until either side ends it.
    pub(crate) async fn serve(mut self) {
        let greeting = format!("* OK [{}] Mesyx is ready\r\n", self.capabilities());
        self.wire.out().text(&greeting);
        let fault = loop {
            if let Err(fault) = self.serve_one().await {
                break fault;
            }
        };
        match fault {
            Fault::Bye(text) => {
                let line = format!("* BYE {}\r\n", line_text(&text));
                self.wire.out().text(&line);
            }
            Fault::Lost(error) => tracing::debug!(%error, "an IMAP connection ended"),
            // Every reply is sent where it arises.
            Fault::Reply(_) | Fault::Answered => {}
        }
        drop(self.user);
        self.wire.close().await;
    }

    /// Reads one command and has it done.
    async fn serve_one(&mut self) -> Result<(), Fault> {
        let deadline = self.deadline();
        let mut frame = self.frame(false, deadline).await?;
        let secret = self.user.is_none();
        if secret {
            return Box::pin(self.perform(frame.bytes(), &Bytes::new())).await;
        }
        let bytes = Bytes::from(frame.take());
        let done = Box::pin(self.perform(&bytes, &bytes)).await;
        self.reservations = Vec::new();
        self.wire.rest();
        done
    }

    /// Until when the client's next command must be there.
    pub(crate) fn deadline(&self) -> Instant {
        match self.user {
            Some(_) => Instant::now() + self.shared.limits.idle(),
            None => self.login_deadline,
        }
    }

    /// Reads until a whole command is there (or a raw line); what is refused on the way is answered here.
    pub(crate) async fn frame(&mut self, raw_line: bool, mut deadline: Instant) -> Result<Frame, Fault> {
        let mut stopping = self.shared.stopping.clone();
        loop {
            let step = tokio::select! {
                step = timeout_at(deadline, self.wire.step(raw_line)) => match step {
                    Ok(step) => step?,
                    // A large message over a thin line may take longer than a client may be idle.
                    Err(_) if self.wire.framer().message_progressed() => {
                        deadline = self.deadline();
                        continue;
                    }
                    Err(_) => return Err(Fault::Bye("You were idle for too long".into())),
                },
                () = stopped(&mut stopping) => return Err(Fault::Bye("The server is stopping".into())),
            };
            match self.admit(step) {
                Step::Frame(frame) => return Ok(frame),
                Step::Continue => self.wire.out().text("+ go on\r\n"),
                Step::Refused { tag, why } => self.refused(tag, why)?,
                Step::Overrun => return Err(Fault::Bye("That was too much input".into())),
                Step::Incomplete | Step::Message { .. } => {}
            }
        }
    }

    /// Finds memory for a message that is announced, before the client is told to send it.
    fn admit(&mut self, step: Step) -> Step {
        let Step::Message { size } = step else {
            return step;
        };
        let user = self.user.as_deref().map(|user| &user.session.user().id);
        let reservation = match (user, usize::try_from(size)) {
            (Some(user), Ok(size)) => self.shared.shares.reserve(user, size),
            _ => None,
        };
        match reservation {
            Some(reservation) => {
                self.reservations.push(reservation);
                self.wire.framer().admit()
            }
            None => self.wire.framer().refuse(Refusal::NoMemory),
        }
    }

    fn refused(&mut self, tag: Option<String>, why: Refusal) -> Result<(), Fault> {
        self.reservations = Vec::new();
        let reply = match why {
            Refusal::TooBig => {
                let limit = self.shared.limits.append_bytes;
                Reply::no(format!("That is too large; a message may have {limit} bytes, other literals 65536"))
                    .code("TOOBIG")
            }
            Refusal::NoMemory => Reply::no("There is no memory for the message now; try again later").code("LIMIT"),
            Refusal::LineTooLong => Reply::bad("The command is too long"),
            Refusal::BareLineFeed => Reply::bad("A line must end with CR LF"),
        };
        let bad = reply.status == "BAD";
        self.answer(tag.as_deref().unwrap_or("*"), &reply);
        if bad { self.count_bad() } else { Ok(()) }
    }

    fn count_bad(&mut self) -> Result<(), Fault> {
        self.bad_commands += 1;
        if self.bad_commands < self.shared.limits.bad_commands {
            return Ok(());
        }
        Err(Fault::Bye("Too many commands that can't be understood".into()))
    }

    /// Reads a command out of its bytes, does it, answers. `frame` are the same bytes where messages may be taken out of them.
    async fn perform(&mut self, bytes: &[u8], frame: &Bytes) -> Result<(), Fault> {
        let command = match grammar::parse(bytes) {
            Ok(command) => command,
            Err(malformed) => {
                let reply = Reply::bad(malformed.expected);
                self.answer(malformed.tag.as_deref().unwrap_or("*"), &reply);
                return self.count_bad();
            }
        };
        let Command { tag, body } = command;
        let logout = body == Body::Logout;
        let reply = match self.dispatch(&tag, body, frame).await {
            Ok(reply) | Err(Fault::Reply(reply)) => reply,
            Err(Fault::Answered) => return Ok(()),
            Err(fault) => return Err(fault),
        };
        let bad = reply.status == "BAD";
        self.answer(&tag, &reply);
        if logout {
            return Err(Fault::Lost(io::ErrorKind::ConnectionAborted.into()));
        }
        if bad { self.count_bad() } else { Ok(()) }
    }

    fn answer(&mut self, tag: &str, reply: &Reply) {
        let out = self.wire.out();
        out.put(format_args!("{tag} {} ", reply.status));
        if let Some(code) = &reply.code {
            out.put(format_args!("[{code}] "));
        }
        out.text(&line_text(&reply.text));
        out.text("\r\n");
    }

    async fn dispatch(&mut self, tag: &str, body: Body<'_>, frame: &Bytes) -> Handled {
        // What may be told at the end: never an EXPUNGE where the client counts on sequence numbers (RFC 3501, section 7.4.1).
        let expunge = match &body {
            Body::Fetch(fetch) => fetch.uid,
            Body::Store(store) => store.uid,
            Body::Search(search) => search.uid,
            _ => true,
        };
        let reply = match body {
            Body::Capability => {
                let line = format!("* {}\r\n", self.capabilities());
                self.wire.out().text(&line);
                Reply::ok("that is all")
            }
            Body::Noop => Reply::ok("nothing done"),
            Body::Logout => {
                self.wire.out().text("* BYE Until next time\r\n");
                return Ok(Reply::ok("logged out"));
            }
            Body::Id(_) => {
                let line = concat!("* ID (\"name\" \"Mesyx\" \"version\" \"", env!("CARGO_PKG_VERSION"), "\")\r\n");
                self.wire.out().text(line);
                Reply::ok("pleased to meet you")
            }
            Body::StartTls => return self.start_tls(tag).await,
            Body::Login { name, password } => return self.login(name, password).await,
            Body::Authenticate { mechanism, initial } => return self.authenticate(&mechanism, initial).await,
            body => {
                if self.user.is_none() {
                    return Ok(Reply::bad("Log in first"));
                }
                self.dispatch_logged_in(tag, body, frame).await?
            }
        };
        self.sync(expunge).await?;
        Ok(reply)
    }

    async fn dispatch_logged_in(&mut self, tag: &str, body: Body<'_>, frame: &Bytes) -> Handled {
        match body {
            Body::Enable(names) => self.enable(&names),
            Body::Namespace => {
                self.wire.out().text("* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
                Ok(Reply::ok("one namespace"))
            }
            Body::Select(select) => self.select(select).await,
            Body::Create { mailbox, uses } => self.create(&mailbox, &uses).await,
            Body::Delete(mailbox) => self.delete(&mailbox).await,
            Body::Rename { from, to } => self.rename(&from, &to).await,
            Body::Subscribe(mailbox) => self.subscribe(&mailbox, true).await,
            Body::Unsubscribe(mailbox) => self.subscribe(&mailbox, false).await,
            Body::List(list) => self.list(&list).await,
            Body::Lsub { reference, pattern } => self.lsub(&reference, &pattern).await,
            Body::Status { mailbox, items } => self.status(&mailbox, &items).await,
            Body::Append { mailbox, messages } => self.append(&mailbox, messages, frame).await,
            Body::Idle => self.idle().await,
            Body::Unselect => self.unselect(),
            Body::Close => self.close().await,
            Body::Check => {
                self.selected()?;
                Ok(Reply::ok("all is kept at once here"))
            }
            Body::Expunge(uids) => self.expunge(uids.as_ref()).await,
            Body::Search(search) => self.search(tag, search).await,
            Body::Fetch(fetch) => self.fetch(fetch).await,
            Body::Store(store) => self.store(store).await,
            Body::Copy(transfer) => self.copy(transfer).await,
            Body::Move(transfer) => self.move_messages(transfer).await,
            _ => Ok(Reply::bad("That can't be done now")),
        }
    }

    /// The logged-in user.
    pub(crate) fn user(&mut self) -> Result<&mut LoggedIn, Fault> {
        self.user.as_deref_mut().ok_or_else(|| Reply::bad("Log in first").into())
    }

    /// The session of the logged-in user.
    pub(crate) fn session(&mut self) -> Result<Arc<dyn Session>, Fault> {
        Ok(Arc::clone(&self.user()?.session))
    }

    /// The selected mailbox.
    pub(crate) fn selected(&mut self) -> Result<&mut Selected, Fault> {
        self.user()?.selected.as_mut().ok_or_else(|| Reply::bad("Select a mailbox first").into())
    }

    /// The selected mailbox, if it can be changed.
    pub(crate) fn writable(&mut self) -> Result<&mut Selected, Fault> {
        let selected = self.selected()?;
        if selected.read_only {
            return Err(Reply::no("The mailbox was opened with EXAMINE, to be read only").code("NOPERM").into());
        }
        Ok(selected)
    }

    /// Reads a mailbox name as this client writes it.
    pub(crate) fn name(&mut self, raw: &[u8]) -> Result<MailboxName, Fault> {
        let utf8 = self.user()?.utf8;
        let text = if utf8 { String::from_utf8(raw.to_vec()).ok() } else { utf7::decode(raw) };
        let spelled =
            || Reply::bad(if utf8 { "A mailbox name must be UTF-8" } else { "A mailbox name must be modified UTF-7" });
        let text = text.ok_or_else(spelled)?;
        MailboxName::new(&text).map_err(Fault::from)
    }

    /// The mailbox of that name.
    pub(crate) async fn mailbox(&mut self, raw: &[u8]) -> Result<MailboxId, Fault> {
        let name = self.name(raw)?;
        let mailboxes = self.session()?.mailboxes().await?;
        match mailboxes.into_iter().find(|mailbox| mailbox.name == name) {
            Some(mailbox) if mailbox.selectable => Ok(mailbox.id),
            Some(_) => Err(Reply::no("That name only has mailboxes below it").code("NONEXISTENT").into()),
            None => Err(Reply::no("There is no such mailbox").code("NONEXISTENT").into()),
        }
    }

    /// Brings the client up to date on the selected mailbox.
    pub(crate) async fn sync(&mut self, expunge: bool) -> Result<(), Fault> {
        let Some(user) = self.user.as_deref_mut() else { return Ok(()) };
        let telling = Telling { expunge, condstore: user.condstore, qresync: user.qresync };
        let Some(selected) = &mut user.selected else { return Ok(()) };
        let changes = match user.session.changes(selected.mailbox, selected.view.modseq).await {
            Ok(changes) if changes.deleted => return Err(gone()),
            Ok(changes) => changes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(gone()),
            // What was done is done: the changes are told another time.
            Err(error) => {
                tracing::warn!(%error, "the changes of a mailbox can't be told");
                return Ok(());
            }
        };
        selected.view.apply(changes);
        selected.view.tell(self.wire.out(), telling);
        Ok(())
    }
}

/// A client that has a mailbox open can't be told otherwise that it is no more (RFC 2180, section 3.3).
fn gone() -> Fault {
    Fault::Bye("The selected mailbox was deleted".into())
}

/// How long a spent byte budget is waited for before a FETCH gives up.
pub(crate) const BUDGET_PATIENCE: Duration = Duration::from_secs(10);
