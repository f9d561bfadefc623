//! Scripted sessions against the host in memory.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails where its helper does")]

mod common;

use common::{Client, MAIL, Server};
use mesyx_sdk::{Flag, MemoryHost};
use serde_json::json;
use tokio::net::TcpStream;

#[tokio::test]
async fn a_mail_is_listed_read_filed_and_expunged() {
    let server = Server::start().await;
    server.deliver(&[], MAIL).await;
    let mut client = server.login().await;
    let lines = client.ok("SELECT INBOX").await;
    for expected in ["* 1 EXISTS", "* 1 RECENT", "* OK [UNSEEN 1] the first unseen message"] {
        assert!(lines.iter().any(|line| line == expected), "{lines:?}");
    }
    let lines = client.ok("FETCH 1 (ENVELOPE RFC822.SIZE)").await;
    assert!(lines[0].contains("(\"Bob\" NIL \"bob\" \"example.net\")"), "{lines:?}");
    assert!(lines[0].ends_with("RFC822.SIZE 79)"), "{lines:?}");
    let lines = client.ok("FETCH 1 BODY[]").await;
    assert_eq!(lines[0], "* 1 FETCH (BODY[] {79}");
    assert_eq!(lines.last().map(String::as_str), Some(" FLAGS (\\Seen \\Recent))"));
    assert_eq!(client.ok("UID COPY 1 Archive").await, Vec::<String>::new());
    assert_eq!(client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)").await, Vec::<String>::new());
    assert_eq!(client.ok("EXPUNGE").await, ["* 1 EXPUNGE"]);
    let lines = client.ok("STATUS Archive (MESSAGES UNSEEN)").await;
    assert_eq!(lines, ["* STATUS \"Archive\" (MESSAGES 1 UNSEEN 0)"]);
    let lines = client.run("LOGOUT").await;
    assert!(lines[0].starts_with("* BYE") && lines[1].starts_with("OK"));
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn peek_and_examine_set_nothing() {
    let server = Server::start().await;
    server.deliver(&[], MAIL).await;
    let mut client = server.login().await;
    client.ok("SELECT INBOX").await;
    client.ok("FETCH 1 BODY.PEEK[]").await;
    assert_eq!(client.ok("FETCH 1 FLAGS").await, ["* 1 FETCH (FLAGS (\\Recent))"]);
    client.ok("EXAMINE INBOX").await;
    client.ok("FETCH 1 (BODY[] RFC822.TEXT)").await;
    assert_eq!(client.ok("FETCH 1 FLAGS").await, ["* 1 FETCH (FLAGS ())"]);
    for command in ["STORE 1 +FLAGS (\\Seen)", "EXPUNGE", "UID MOVE 1 Trash"] {
        assert!(client.refused(command).await.starts_with("NO [NOPERM]"), "{command}");
    }
    client.ok("CLOSE").await;
    client.ok("SELECT INBOX").await;
    assert_eq!(client.ok("FETCH 1 FLAGS").await, ["* 1 FETCH (FLAGS ())"]);
}

#[tokio::test]
async fn idle_hears_of_new_mail_flags_and_expunges_at_once() {
    let server = Server::start().await;
    server.deliver(&[], MAIL).await;
    let (mut idle, mut other) = (server.select().await, server.select().await);
    idle.send("i IDLE\r\n").await;
    assert_eq!(idle.line().await, "+ idling");
    server.deliver(&[], MAIL).await;
    assert_eq!(idle.line().await, "* 2 EXISTS");
    assert_eq!(idle.line().await, "* 2 RECENT");
    other.ok("STORE 1 +FLAGS (\\Deleted)").await;
    assert_eq!(idle.line().await, "* 1 FETCH (UID 1 FLAGS (\\Deleted \\Recent))");
    other.ok("EXPUNGE").await;
    assert_eq!(idle.line().await, "* 1 EXPUNGE");
    idle.send("DONE\r\n").await;
    assert_eq!(idle.until("i").await, ["OK idled"]);
}

#[tokio::test]
async fn expunges_wait_until_sequence_numbers_do_not_matter() {
    let server = Server::start().await;
    for _ in 0..3 {
        server.deliver(&[], MAIL).await;
    }
    let (mut one, mut other) = (server.select().await, server.select().await);
    other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)").await;
    other.ok("EXPUNGE").await;
    for command in ["FETCH 3 (UID)", "STORE 2 +FLAGS (\\Seen)", "SEARCH ALL"] {
        let lines = one.ok(command).await;
        assert!(!lines.iter().any(|line| line.ends_with("EXPUNGE")), "{command}: {lines:?}");
    }
    assert_eq!(one.ok("SEARCH UID 1:*").await, ["* SEARCH 2 3"]);
    let gone = one.refused("FETCH 1 ENVELOPE").await;
    assert!(gone.starts_with("NO [EXPUNGEISSUED]"), "{gone}");
    assert_eq!(one.ok("NOOP").await, ["* 1 EXPUNGE"]);
    assert_eq!(one.ok("FETCH 1 UID").await, ["* 1 FETCH (UID 2)"]);
}

#[tokio::test]
async fn conditional_stores_leave_newer_changes_alone() {
    let server = Server::start().await;
    server.deliver(&[], MAIL).await;
    server.deliver(&[], MAIL).await;
    let (mut one, mut other) = (server.login().await, server.select().await);
    let lines = one.ok("SELECT INBOX (CONDSTORE)").await;
    let modseq = lines.iter().find_map(|line| line.split("[HIGHESTMODSEQ ").nth(1)).expect("a modseq");
    let modseq: u64 = modseq.split(']').next().expect("a number").parse().expect("a number");
    other.ok("STORE 1 +FLAGS (\\Flagged)").await;
    let lines = one.run(&format!("STORE 1:2 (UNCHANGEDSINCE {modseq}) +FLAGS.SILENT (\\Seen)")).await;
    assert!(lines.last().expect("an answer").starts_with("OK [MODIFIED 1]"), "{lines:?}");
    assert!(lines[0].starts_with("* 2 FETCH (UID 2 MODSEQ ("), "{lines:?}");
    let lines = one.ok(&format!("FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq})")).await;
    assert_eq!(lines.len(), 2, "{lines:?}");
    let lines = one.ok(&format!("SEARCH MODSEQ {}", modseq + 1)).await;
    assert!(lines[0].starts_with("* SEARCH 1 2 (MODSEQ "), "{lines:?}");
    let lines = one.ok(&format!("FETCH 1:* (FLAGS) (CHANGEDSINCE {})", modseq + 1)).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[tokio::test]
async fn a_client_that_was_away_is_brought_up_to_date() {
    let server = Server::start().await;
    for _ in 0..4 {
        server.deliver(&[], MAIL).await;
    }
    let mut client = server.login().await;
    client.ok("ENABLE QRESYNC").await;
    let lines = client.ok("SELECT INBOX").await;
    let number = |code: &str| -> u64 {
        let rest = lines.iter().find_map(|line| line.split(code).nth(1)).expect("a code");
        rest.split(']').next().expect("a number").trim().parse().expect("a number")
    };
    let (validity, modseq) = (number("[UIDVALIDITY"), number("[HIGHESTMODSEQ"));
    client.ok("UNSELECT").await;
    let mut other = server.select().await;
    other.ok("STORE 2:3 +FLAGS (\\Deleted)").await;
    other.ok("EXPUNGE").await;
    other.ok("STORE 1 +FLAGS (\\Answered)").await;
    let lines = client.ok(&format!("SELECT INBOX (QRESYNC ({validity} {modseq}))")).await;
    assert!(lines.iter().any(|line| line == "* VANISHED (EARLIER) 2:3"), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("* 1 FETCH (UID 1 FLAGS (\\Answered")), "{lines:?}");
    other.ok("STORE 1 +FLAGS (\\Deleted)").await;
    other.ok("EXPUNGE").await;
    let lines = client.ok("NOOP").await;
    assert_eq!(lines, ["* VANISHED 1"]);
}

#[tokio::test]
async fn mailboxes_are_made_listed_renamed_and_deleted() {
    let server = Server::start().await;
    let mut client = server.login().await;
    client.ok("CREATE &ZeVnLIqe-/sub/").await;
    client.ok("CREATE Papers (USE (\\Archive))").await;
    let lines = client.ok("LIST \"\" &ZeVnLIqe-*").await;
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("\\HasChildren") && lines[0].ends_with("\"/\" \"&ZeVnLIqe-\""), "{lines:?}");
    assert!(client.refused("CREATE Papers").await.starts_with("NO [ALREADYEXISTS]"));
    assert!(client.refused("CREATE x (USE (\\All))").await.starts_with("NO [USEATTR]"));
    assert!(client.refused("DELETE nowhere").await.starts_with("NO [NONEXISTENT]"));
    assert!(client.refused("SELECT nowhere").await.starts_with("NO [NONEXISTENT]"));
    assert!(client.refused("CREATE a&b").await.starts_with("BAD"));
    client.ok("SUBSCRIBE Papers").await;
    client.ok("SUBSCRIBE gone/away").await;
    assert_eq!(client.ok("LSUB \"\" gone/%").await, ["* LSUB (\\Noselect \\HasNoChildren) \"/\" \"gone/away\""]);
    client.ok("RENAME Papers Letters").await;
    let lines = client.ok("LIST (SPECIAL-USE) \"\" * RETURN (SUBSCRIBED STATUS (MESSAGES))").await;
    assert!(lines.iter().any(|line| line.starts_with("* STATUS \"Sent\" (MESSAGES 0")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.ends_with("INBOX\"")), "{lines:?}");
    client.ok("SELECT Letters").await;
    client.ok("DELETE Letters").await;
    assert!(client.refused("FETCH 1 FLAGS").await.starts_with("BAD"));
    assert_eq!(client.ok("LIST \"\" \"\"").await, ["* LIST (\\Noselect) \"/\" \"\""]);
}

#[tokio::test]
async fn a_mailbox_deleted_by_another_ends_the_connection() {
    let server = Server::start().await;
    let (mut one, mut other) = (server.login().await, server.login().await);
    one.ok("CREATE Short").await;
    one.ok("SELECT Short").await;
    other.ok("DELETE Short").await;
    one.send("x NOOP\r\n").await;
    assert_eq!(one.line().await, "* BYE The selected mailbox was deleted");
    assert_eq!(one.next().await, None);
}

#[tokio::test]
async fn appends() {
    let server = Server::start().await;
    let mut client = server.select().await;
    client.send("a APPEND INBOX (\\Seen) \"17-Jul-1996 02:44:25 -0700\" {9}\r\n").await;
    assert_eq!(client.line().await, "+ go on");
    client.send("Subject:x\r\n").await;
    let lines = client.until("a").await;
    assert_eq!(lines[..2], ["* 1 EXISTS", "* 1 RECENT"]);
    assert!(lines[2].starts_with("OK [APPENDUID 1 1]"), "{lines:?}");
    let lines = client.ok("FETCH 1 (INTERNALDATE FLAGS)").await;
    assert_eq!(lines, ["* 1 FETCH (INTERNALDATE \"17-Jul-1996 09:44:25 +0000\" FLAGS (\\Seen \\Recent))"]);
    client.send("b APPEND INBOX {1+}\r\na {2+}\r\nbb\r\n").await;
    assert!(client.until("b").await.last().expect("an answer").starts_with("OK [APPENDUID 1 2:3]"));
    client.send("c APPEND nowhere {1+}\r\na\r\n").await;
    assert!(client.until("c").await[0].starts_with("NO [TRYCREATE]"));
    client.send("d APPEND INBOX {3+}\r\na\0b\r\n").await;
    assert!(client.until("d").await[0].starts_with("NO [CANNOT]"));
    assert!(client.refused("COPY 1 nowhere").await.starts_with("NO [TRYCREATE]"));
}

#[tokio::test]
async fn searches() {
    let server = Server::start().await;
    server.deliver(&[Flag::Seen], MAIL).await;
    server.deliver(&[], "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nFrom: carol@example.net\n\nSch\u{f6}n\n").await;
    let mut client = server.select().await;
    for (search, found) in [
        ("ALL", " 1 2"),
        ("UNSEEN", " 2"),
        ("FROM bob SEEN", " 1"),
        ("OR SUBJECT lunch FROM carol", " 1 2"),
        ("NOT 1", " 2"),
        ("2:* UID 1", ""),
        ("NEW", " 2"),
        ("OLD", ""),
        ("LARGER 1 SMALLER 79", " 2"),
        ("CHARSET UTF-8 SUBJECT {6+}\r\ngr\u{fc}\u{df}", " 2"),
        ("HEADER Subject \"\"", " 1 2"),
        ("BEFORE 1-Jan-1990", ""),
    ] {
        assert_eq!(client.ok(&format!("SEARCH {search}")).await, [format!("* SEARCH{found}")], "{search}");
    }
    assert_eq!(
        client.ok("UID SEARCH RETURN (MIN MAX COUNT) ALL").await,
        ["* ESEARCH (TAG \"t15\") UID MIN 1 MAX 2 COUNT 2"]
    );
    assert!(client.refused("SEARCH CHARSET KOI8-R ALL").await.starts_with("NO [BADCHARSET (US-ASCII UTF-8)]"));
    assert!(client.refused("SEARCH 3").await.starts_with("BAD"));
}

#[tokio::test]
async fn utf8_names_once_enabled() {
    let server = Server::start().await;
    let mut client = server.login().await;
    assert_eq!(client.ok("ENABLE UTF8=ACCEPT X-NONE").await, ["* ENABLED UTF8=ACCEPT"]);
    client.ok("CREATE \"B\u{fc}cher\"").await;
    let lines = client.ok("LIST \"\" B*").await;
    assert!(lines[0].ends_with("\"/\" \"B\u{fc}cher\""), "{lines:?}");
    client.send("a APPEND \"B\u{fc}cher\" UTF8 (~{13+}\r\nSubject: \u{fc}\r\n)\r\n").await;
    assert!(client.until("a").await[0].starts_with("OK [APPENDUID"));
}

#[tokio::test]
async fn commands_in_one_piece_are_answered_in_order() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send("a LOGIN ann secret\r\nb SELECT INBOX\r\nc NOOP\r\nd IDLE\r\nDONE\r\ne LOGOUT\r\n").await;
    for tag in ["a", "b", "c", "d", "e"] {
        let lines = client.until(tag).await;
        assert!(lines.last().expect("an answer").starts_with("OK"), "{tag}: {lines:?}");
    }
}

#[tokio::test]
async fn nothing_is_done_before_login_and_without_a_mailbox() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for command in ["SELECT INBOX", "LIST \"\" *", "FETCH 1 FLAGS", "IDLE", "APPEND INBOX {2+}\r\nab"] {
        assert!(client.refused(command).await.starts_with("BAD"), "{command}");
    }
    client.ok("LOGIN ann secret").await;
    for command in
        ["FETCH 1 FLAGS", "SEARCH ALL", "STORE 1 FLAGS ()", "EXPUNGE", "CLOSE", "UNSELECT", "CHECK", "COPY 1 x"]
    {
        assert!(client.refused(command).await.starts_with("BAD"), "{command}");
    }
    assert!(client.refused("LOGIN ann secret").await.starts_with("BAD"));
}

#[tokio::test]
async fn failed_logins_end_the_connection() {
    let server =
        Server::with(MemoryHost::new("example.org".parse().expect("a domain")), json!({ "login_failures": 2 })).await;
    let mut client = server.connect().await;
    assert!(client.refused("LOGIN ann wrong").await.starts_with("NO [AUTHENTICATIONFAILED]"));
    client.send("b AUTHENTICATE PLAIN\r\n").await;
    assert_eq!(client.line().await, "+ ");
    client.send("AGFubgB3cm9uZw==\r\n").await;
    assert!(client.line().await.starts_with("* BYE"));
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn authenticate_with_and_without_an_initial_response() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.ok("AUTHENTICATE PLAIN AGFubgBzZWNyZXQ=").await;
    let mut client = server.connect().await;
    client.send("a AUTHENTICATE PLAIN\r\n").await;
    assert_eq!(client.line().await, "+ ");
    client.send("*\r\n").await;
    assert!(client.until("a").await[0].starts_with("BAD"));
    client.send("b AUTHENTICATE PLAIN\r\n").await;
    client.line().await;
    client.send("AGFubgBzZWNyZXQ=\r\n").await;
    assert!(client.until("b").await[0].starts_with("OK"));
}

#[tokio::test]
async fn commands_that_cannot_be_read_end_the_connection_at_last() {
    let server =
        Server::with(MemoryHost::new("example.org".parse().expect("a domain")), json!({ "bad_commands": 3 })).await;
    let mut client = server.connect().await;
    client.send("a X\r\nb X\r\nc X\r\nd NOOP\r\n").await;
    let lines = [client.line().await, client.line().await, client.line().await, client.line().await];
    assert!(lines[2].starts_with("c BAD") && lines[3].starts_with("* BYE"), "{lines:?}");
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn a_spent_byte_budget_refuses_a_message_before_it_comes() {
    let host = MemoryHost::with_budget("example.org".parse().expect("a domain"), 1 << 20);
    let server = Server::with(host, json!({})).await;
    let mut client = server.login().await;
    client.send("a APPEND INBOX {2000000}\r\n").await;
    assert!(client.until("a").await[0].starts_with("NO [LIMIT]"));
    client.send("b APPEND INBOX {1000000}\r\n").await;
    assert_eq!(client.line().await, "+ go on");
    let mut other = server.login().await;
    other.send("c APPEND INBOX {500000}\r\n").await;
    assert!(other.until("c").await[0].starts_with("NO [LIMIT]"));
    drop(client);
    // The memory comes back with the end of the connection that held it.
    loop {
        other.send("d APPEND INBOX {500000}\r\n").await;
        if other.line().await.starts_with('+') {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_skipped() {
    let host = MemoryHost::new("example.org".parse().expect("a domain"));
    let server = Server::with(host, json!({ "append_bytes": 1024 })).await;
    let mut client = server.login().await;
    client.send("a APPEND INBOX {1025}\r\n").await;
    assert!(client.until("a").await[0].starts_with("NO [TOOBIG]"));
    client.send(format!("b APPEND INBOX {{1025+}}\r\n{}\r\nc NOOP\r\n", "x".repeat(1025))).await;
    assert!(client.until("b").await[0].starts_with("NO [TOOBIG]"));
    assert_eq!(client.until("c").await, ["OK nothing done"]);
}

#[tokio::test]
async fn too_much_input_before_login_ends_the_connection() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let noop = format!("a NOOP\r\n{}", "b NOOP\r\n".repeat(13_000));
    let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, noop.as_bytes()).await;
    let mut last = String::new();
    while let Some(line) = client.next().await {
        last = line;
    }
    assert!(last.starts_with("* BYE") || last.ends_with("nothing done"), "{last}");
    assert!(server.login().await.ok("NOOP").await.is_empty());
}

#[tokio::test]
async fn stopping_says_goodbye_to_all() {
    let server = Server::start().await;
    let (mut fresh, mut idle, mut selected) = (server.connect().await, server.select().await, server.select().await);
    idle.send("i IDLE\r\n").await;
    idle.line().await;
    server.host.stop();
    for client in [&mut fresh, &mut idle, &mut selected] {
        assert_eq!(client.line().await, "* BYE The server is stopping");
        assert_eq!(client.next().await, None);
    }
    server.running.await.expect("no panic").expect("an orderly end");
}

#[tokio::test]
async fn an_ended_session_is_told_to_an_idling_client() {
    let server = Server::start().await;
    let mut client = server.select().await;
    client.send("i IDLE\r\n").await;
    client.line().await;
    server.host.end_sessions("ann", "the password was changed").expect("ann");
    assert_eq!(client.line().await, "* BYE the password was changed");
}

#[tokio::test]
async fn connections_per_address_are_bounded() {
    let host = MemoryHost::new("example.org".parse().expect("a domain"));
    let server = Server::with(host, json!({ "connections_per_ip": 1 })).await;
    let _first = server.connect().await;
    let mut second = Client::new(TcpStream::connect(server.plain).await.expect("a connection"));
    assert!(second.line().await.starts_with("* BYE [UNAVAILABLE]"));
    assert_eq!(second.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_and_large_bodies_come_whole_within_a_small_budget() {
    let host = MemoryHost::with_budget("example.org".parse().expect("a domain"), 1 << 20);
    let server = Server::with(host, json!({})).await;
    let mut texts = Vec::new();
    for number in 0..600_usize {
        let size = if number == 300 { 3_000_000 } else { number * 37 % 9000 };
        texts.push(format!("Subject: {number}\n\n{}\n", "y".repeat(size)));
        server.deliver(&[], &texts[number]).await;
    }
    let mut client = server.select().await;
    let lines = client.ok("UID FETCH 1:* (RFC822.SIZE BODY[])").await;
    let mut lines = lines.iter();
    for (index, text) in texts.iter().enumerate() {
        let (number, size) = (index + 1, text.len() + 3);
        let head = format!("* {number} FETCH (UID {number} RFC822.SIZE {size} BODY[] {{{size}}}");
        assert_eq!(lines.next(), Some(&head));
        for line in text.lines() {
            assert_eq!(lines.next().map(String::as_str), Some(line));
        }
        assert_eq!(lines.next().map(String::as_str), Some(" FLAGS (\\Seen \\Recent))"));
    }
    assert_eq!(lines.next(), None);
    let budget = mesyx_sdk::Host::budget(&server.host);
    assert_eq!(budget.available(), budget.total());
}

#[tokio::test]
async fn messages_and_mailboxes_have_ids() {
    let server = Server::start().await;
    server.deliver(&[], MAIL).await;
    let mut client = server.login().await;
    let status = client.ok("STATUS INBOX (MAILBOXID)").await;
    let id = status[0].split(['(', ')']).nth(2).expect("an id").to_owned();
    let lines = client.ok("SELECT INBOX").await;
    assert!(lines.iter().any(|line| line.contains(&format!("[MAILBOXID ({id})]"))), "{lines:?}");
    let lines = client.ok("FETCH 1 (EMAILID THREADID)").await;
    let message = lines[0].split(['(', ')']).nth(2).expect("an id");
    assert_eq!(lines, [format!("* 1 FETCH (EMAILID ({message}) THREADID NIL)")]);
    assert_eq!(client.ok(&format!("SEARCH EMAILID {message}")).await, ["* SEARCH 1"]);
    assert_eq!(client.ok("SEARCH EMAILID 00 THREADID 00").await, ["* SEARCH"]);
}

#[tokio::test]
async fn a_body_that_is_asked_for_by_numbers_and_pieces() {
    let server = Server::start().await;
    let mail = "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\nContent-Type: message/rfc822\n\n\
        Subject: inside\nX: y\n\ntwo\n--b--\n";
    server.deliver(&[], mail).await;
    let mut client = server.select().await;
    for (section, expected) in [
        ("BODY.PEEK[1]", "BODY[1] {3}|one)"),
        (
            "BODY.PEEK[2.HEADER.FIELDS (\"subject\" none)]",
            "BODY[2.HEADER.FIELDS (subject none)] {19}|Subject: inside||)",
        ),
        ("BODY.PEEK[2.HEADER.FIELDS.NOT (subject)]", "BODY[2.HEADER.FIELDS.NOT (subject)] {8}|X: y||)"),
        ("BODY.PEEK[2.TEXT]", "BODY[2.TEXT] {3}|two)"),
        ("BODY.PEEK[2.1]", "BODY[2.1] {3}|two)"),
        ("BODY.PEEK[2.MIME]", "BODY[2.MIME] {32}|Content-Type: message/rfc822||)"),
        ("BODY.PEEK[3]", "BODY[3] NIL)"),
        ("BODY.PEEK[1.1]", "BODY[1.1] NIL)"),
        ("BODY.PEEK[1]<1.1>", "BODY[1]<1> {1}|n)"),
        ("BODY.PEEK[1]<3.1>", "BODY[1]<3> {0}|)"),
    ] {
        let lines = client.ok(&format!("FETCH 1 ({section})")).await.join("|");
        assert_eq!(lines, format!("* 1 FETCH ({expected}"), "{section}");
    }
}

#[tokio::test]
async fn copying_by_number_what_is_expunged_is_refused() {
    let server = Server::start().await;
    server.deliver(&[], MAIL).await;
    let (mut one, mut other) = (server.select().await, server.select().await);
    other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)").await;
    other.ok("EXPUNGE").await;
    let refused = one.refused("COPY 1 Archive").await;
    assert!(refused.starts_with("NO [EXPUNGEISSUED]"), "{refused}");
    one.ok("UID COPY 1 Archive").await;
}

/// One account could keep all others from their mail, with many connections that announce messages.
#[tokio::test]
async fn one_user_cannot_hold_the_whole_byte_budget() {
    let host = MemoryHost::with_budget("example.org".parse().expect("a domain"), 1 << 20);
    let server = Server::with(host, json!({})).await;
    server.host.add_user("bob", "secret").expect("a user");
    let (mut first, mut second) = (server.login().await, server.login().await);
    first.send("a APPEND INBOX {200000}\r\n").await;
    assert_eq!(first.line().await, "+ go on");
    second.send("b APPEND INBOX {200000}\r\n").await;
    assert!(second.until("b").await[0].starts_with("NO [LIMIT]"));
    let mut bob = server.connect().await;
    bob.ok("LOGIN bob secret").await;
    bob.send("c APPEND INBOX {200000}\r\n").await;
    assert_eq!(bob.line().await, "+ go on");
}

/// People's mail programs, for the SDK's test kit.
struct Programs;

#[mesyx_sdk::async_trait]
impl mesyx_sdk::testkit::Network for Programs {
    fn config(&self) -> serde_json::Value {
        serde_json::json!({ "listeners": [
            { "name": "plain", "address": "127.0.0.1:0", "tls": "starttls", "plain_auth_without_tls": true },
            { "name": "imaps", "address": "127.0.0.1:0", "tls": "implicit" },
        ] })
    }
    fn prepare(&self, host: &MemoryHost) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let chain = vec![made.cert.der().clone()];
        let key = made.signing_key.serialize_der().try_into().expect("a key");
        let identity = mesyx_sdk::TlsIdentity { names: vec!["localhost".into()], chain, key };
        host.set_certificates(mesyx_sdk::Certificates(vec![identity]));
    }
    async fn garbage(&self, host: &MemoryHost, bytes: &[u8]) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        for listener in ["plain", "imaps"] {
            let address = host.listening(listener).await;
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    }
    async fn log_in(&self, host: &MemoryHost, name: &str, password: &str) -> Option<mesyx_sdk::testkit::Reply> {
        use mesyx_sdk::testkit::Reply;
        let address = host.listening("plain").await;
        let mut client = Client::new(TcpStream::connect(address).await.expect("a connection"));
        client.line().await;
        let answer = client.run(&format!("LOGIN {name} {password}")).await.pop().expect("an answer");
        Some(match &answer {
            answer if answer.starts_with("OK") => Reply::Taken,
            answer if answer.contains("[UNAVAILABLE]") || answer.contains("[LIMIT]") => Reply::TryLater,
            answer if answer.contains("[AUTHENTICATIONFAILED]") => Reply::Refused,
            answer => panic!("{answer}"),
        })
    }
}

#[test]
fn imap_keeps_the_contract() {
    mesyx_sdk::testkit::check::<mesyx_bridge_imap::Imap>(&Programs).assert();
}
