//! Lines of IRC: any bytes, however cut, are the same lines; each that can be read can be written, and reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesyx_irc_codec::{Framed, Framer, Limits, Line, Writer, ctcp, isupport::Isupport, split, style};

const LIMITS: Limits = Limits::FROM_SERVER;

fn lines(data: &[u8], piece: usize) -> Vec<Framed> {
    let mut framer = Framer::new(LIMITS);
    let mut lines = Vec::new();
    data.chunks(piece).for_each(|bytes| framer.push(bytes, |line| lines.push(line)));
    lines
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, bytes)) = data.split_first() else { return };
    let framed = lines(bytes, usize::from(first) + 1);
    assert_eq!(framed, lines(bytes, bytes.len().max(1)));
    for line in &framed {
        let Framed::Line(line) = line else { continue };
        let Ok(read) = Line::parse(line, LIMITS) else { continue };
        read.tags.iter().for_each(drop);
        let mut server = Isupport::default();
        server.take(read.parameters.iter().filter_map(|token| std::str::from_utf8(token).ok()));
        let _ = server.mode_changes(&read.text(0), &read.parameters);
        let text = read.parameters.last().copied().unwrap_or_default();
        let _ = (ctcp::Ctcp::parse(text), style::plain(&String::from_utf8_lossy(text)));
        assert_eq!(split::pieces(text, usize::from(first)).collect::<Vec<_>>().concat(), text);
        let command = String::from_utf8_lossy(read.command).into_owned();
        let source = read.source.map(|source| source.whole).filter(|source| !source.is_empty());
        let written = Writer::from(source, &command).and_then(|mut writer| {
            for (at, parameter) in read.parameters.iter().enumerate() {
                let last = at + 1 == read.parameters.len();
                writer = if last { writer.trailing(parameter)? } else { writer.parameter(parameter)? };
            }
            // One more byte than was read: the colon that the last parameter may not have had.
            writer.finish(Limits { rest: LIMITS.rest + 2, ..LIMITS })
        });
        let written = written.expect("what was read can be written");
        let again = Line::parse(&written[..written.len() - 2], Limits { rest: LIMITS.rest + 2, ..LIMITS });
        let again = again.expect("what was written can be read");
        assert_eq!((again.command, again.parameters), (read.command, read.parameters));
    }
});
