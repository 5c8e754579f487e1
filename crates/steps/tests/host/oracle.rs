//! What the scripts really ask of the kernel, seen by strace: nothing is acknowledged that a power cut could take back.
//!
//! A name or a content that is not flushed yet is *loose*. A content must be flushed before its file is renamed into
//! place, and what an answer or a receipt promises must not be loose when it is given.

use std::collections::{BTreeMap, BTreeSet};

/// The system calls that strace reports.
pub const TRACED: &str = "trace=open,openat,creat,write,pwrite64,sendfile,copy_file_range,splice,truncate,ftruncate,\
                          fsync,fdatasync,sync,syncfs,rename,renameat,renameat2,link,linkat,symlink,symlinkat,\
                          unlink,unlinkat,rmdir,mkdir,mkdirat,chdir,execve";

/// The file that is a traced script's standard output.
pub const ANSWER: &str = "/answer";

/// Something that the script did, in the order in which it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A content that is new, or changed.
    Written(String),
    /// A name that is new, moved or gone. The content that it has now was `from`'s before.
    Named {
        path: String,
        from: Option<String>,
    },
    Gone(String),
    /// A file's content, or a directory's names, are on the disk.
    Flushed(String),
    AllFlushed,
    /// A program begins, with its arguments.
    Began(String),
    /// Something was printed for whoever asked.
    Told(String),
}

/// What is not on the disk yet.
#[derive(Debug, Default)]
pub struct Loose {
    contents: BTreeSet<String>,
    names: BTreeSet<String>,
    /// Files that got their place while their content was loose.
    pub too_early: Vec<String>,
}

impl Loose {
    pub fn follow(&mut self, event: &Event) {
        match event {
            Event::Written(path) => drop(self.contents.insert(path.clone())),
            Event::Named { path, from } => {
                if let Some(from) = from {
                    if self.contents.remove(from) {
                        self.too_early.push(path.clone());
                        self.contents.insert(path.clone());
                    } else {
                        self.contents.remove(path);
                    }
                }
                self.names.insert(path.clone());
            }
            Event::Gone(path) => {
                self.contents.remove(path);
                // What was in a directory went with it.
                self.names.retain(|name| !name.starts_with(&format!("{path}/")));
                self.names.insert(path.clone());
            }
            Event::Flushed(path) => {
                self.contents.remove(path);
                self.names.retain(|name| parent(name) != path);
            }
            Event::AllFlushed => (self.contents, self.names) = (BTreeSet::new(), BTreeSet::new()),
            Event::Began(_) | Event::Told(_) => {}
        }
    }

    /// What a power cut now would take back of `path`: its content, its name, or a directory above it.
    pub fn of(&self, path: &str) -> Vec<String> {
        let mut loose: Vec<String> =
            self.contents.get(path).map(|path| format!("the content of {path}")).into_iter().collect();
        let above = std::iter::successors(Some(path), |path| Some(parent(path)).filter(|above| !above.is_empty()));
        loose.extend(above.filter(|name| self.names.contains(*name)).map(|name| format!("the name {name}")));
        loose
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}

/// Reads what `strace -f -y -o` wrote.
pub fn read(trace: &str) -> Vec<Event> {
    let (mut events, mut halves, mut places) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for line in trace.lines() {
        let Some((pid, call)) = line.trim_start().split_once(' ') else { continue };
        let call = call.trim_start();
        // A call that others overtook comes in two halves; it counts when it has ended.
        if let Some(half) = call.strip_suffix(" <unfinished ...>") {
            halves.insert(pid.to_owned(), half.to_owned());
            continue;
        }
        let whole = match call.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            Some((_, rest)) => halves.remove(pid).unwrap_or_default() + rest,
            None => call.to_owned(),
        };
        let Some((call, result)) = whole.rsplit_once(" = ") else { continue };
        if result.starts_with('-') || result.starts_with('?') {
            continue;
        }
        let Some((name, arguments)) = call.trim_end().trim_end_matches(')').split_once('(') else { continue };
        let arguments = Arguments { words: words(arguments), place: places.get(pid).cloned() };
        if name == "chdir" {
            places.insert(pid.to_owned(), arguments.path(0));
        }
        events.extend(event(name, &arguments));
    }
    events
}

struct Arguments {
    words: Vec<String>,
    /// Where the process has gone by itself; what it began in is not known.
    place: Option<String>,
}

impl Arguments {
    fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }

    /// A quoted path.
    fn path(&self, at: usize) -> String {
        let text = unescaped(self.word(at).trim_matches('"'));
        match (&self.place, text.starts_with('/')) {
            (Some(place), false) => format!("{place}/{text}"),
            _ => text.trim_end_matches('/').to_owned(),
        }
    }

    /// A path relative to the directory in the argument before it.
    fn path_below(&self, at: usize) -> String {
        let text = unescaped(self.word(at).trim_matches('"'));
        match (self.file(at - 1), text.starts_with('/')) {
            (Some(place), false) => format!("{place}/{text}"),
            _ => text.trim_end_matches('/').to_owned(),
        }
    }

    /// `3</some/file>`, when it is a file.
    fn file(&self, at: usize) -> Option<String> {
        let (_, path) = self.word(at).split_once('<')?;
        let path = unescaped(path.trim_end_matches("(deleted)").trim_end_matches('>'));
        path.starts_with('/').then_some(path)
    }
}

fn event(name: &str, arguments: &Arguments) -> Vec<Event> {
    let named = |path, from| vec![Event::Named { path, from }];
    match name {
        "open" | "creat" | "openat" => {
            let (path, flags) = match name {
                "openat" => (arguments.path_below(1), arguments.word(2)),
                _ => (arguments.path(0), if name == "creat" { "O_CREAT|O_TRUNC" } else { arguments.word(1) }),
            };
            let mut events = Vec::new();
            if flags.contains("O_TRUNC") {
                events.push(Event::Written(path.clone()));
            }
            if flags.contains("O_CREAT") {
                events.push(Event::Named { path, from: None });
            }
            events
        }
        "write" | "pwrite64" | "sendfile" => match arguments.file(0) {
            Some(path) if path.ends_with(ANSWER) => vec![Event::Told(unescaped(arguments.word(1)))],
            Some(path) => vec![Event::Written(path)],
            None => Vec::new(),
        },
        "copy_file_range" | "splice" => arguments.file(2).map(Event::Written).into_iter().collect(),
        "truncate" => vec![Event::Written(arguments.path(0))],
        "ftruncate" => arguments.file(0).map(Event::Written).into_iter().collect(),
        "fsync" | "fdatasync" => arguments.file(0).map(Event::Flushed).into_iter().collect(),
        "sync" | "syncfs" => vec![Event::AllFlushed],
        "rename" => moved(arguments.path(0), arguments.path(1)),
        "renameat" | "renameat2" => moved(arguments.path_below(1), arguments.path_below(3)),
        "link" => named(arguments.path(1), Some(arguments.path(0))),
        "linkat" => named(arguments.path_below(3), Some(arguments.path_below(1))),
        "symlink" => named(arguments.path(1), None),
        "symlinkat" => named(arguments.path_below(2), None),
        "unlink" | "rmdir" => vec![Event::Gone(arguments.path(0))],
        "unlinkat" => vec![Event::Gone(arguments.path_below(1))],
        "mkdir" => named(arguments.path(0), None),
        "mkdirat" => named(arguments.path_below(1), None),
        "execve" => vec![Event::Began(unescaped(&format!("{} {}", arguments.word(0), arguments.word(1))))],
        _ => Vec::new(),
    }
}

fn moved(from: String, to: String) -> Vec<Event> {
    vec![Event::Named { path: to, from: Some(from.clone()) }, Event::Gone(from)]
}

/// Arguments, separated by commas that are in no string, path or list.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut depth, mut quoted, mut escaped) = (Vec::new(), String::new(), 0, false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' if depth == 0 || quoted => quoted = !quoted,
            '<' | '[' if !quoted => depth += 1,
            '>' | ']' if !quoted => depth -= 1,
            ',' if !quoted && depth <= 0 => {
                words.push(std::mem::take(&mut word).trim().to_owned());
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    words.push(word.trim().to_owned());
    words
}

/// `\"`, `\\`, `\n` and octal numbers, as strace writes them.
fn unescaped(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let digits = rest.iter().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
        if digits > 0 {
            out.push(rest[..digits].iter().fold(0_u8, |value, digit| value.wrapping_mul(8) + (digit - b'0')));
            rest = &rest[digits..];
        } else if let Some((byte, after)) = rest.split_first() {
            out.push(if *byte == b'n' { b'\n' } else { *byte });
            rest = after;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn a_trace_is_read_with_its_halves_its_escapes_and_its_failures() {
    let trace = "10 openat(AT_FDCWD</home>, \"/a/da\\\"t,a/f.tmp\", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3</a/da\"t,a/f.tmp>\n\
                 10 write(1</a/da\"t,a/f.tmp>, \"x, y\\n\", 5) = 5\n\
                 11 fsync(3</a/da\"t,a/f.tmp> <unfinished ...>\n\
                 12 write(1</b/answer>, \"told\\n\", 5) = 5\n\
                 11 <... fsync resumed>) = 0\n\
                 10 rename(\"/nowhere\", \"/b\") = -1 ENOENT (No such file or directory)\n\
                 10 renameat2(AT_FDCWD</home>, \"/a/da\\\"t,a/f.tmp\", AT_FDCWD</home>, \"/a/f\", RENAME_NOREPLACE) = 0\n";
    let tmp = "/a/da\"t,a/f.tmp".to_owned();
    let named = |path: &str, from: Option<&String>| Event::Named { path: path.to_owned(), from: from.cloned() };
    assert_eq!(
        read(trace),
        [
            Event::Written(tmp.clone()),
            named(&tmp, None),
            Event::Written(tmp.clone()),
            Event::Told("\"told\n\"".to_owned()),
            Event::Flushed(tmp.clone()),
            named("/a/f", Some(&tmp)),
            Event::Gone(tmp),
        ]
    );
}

#[test]
fn a_content_or_a_name_is_loose_until_it_is_flushed() {
    let mut loose = Loose::default();
    let mut follow = |events: &[Event]| {
        events.iter().for_each(|event| loose.follow(event));
        (loose.of("/d/e/f").len(), loose.too_early.len())
    };
    let written = |path: &str| Event::Written(path.to_owned());
    let flushed = |path: &str| Event::Flushed(path.to_owned());
    let named = |path: &str, from: Option<&str>| Event::Named { path: path.to_owned(), from: from.map(str::to_owned) };
    assert_eq!(follow(&[named("/d/e", None), written("/d/e/g"), flushed("/d/e/g")]), (1, 0));
    assert_eq!(follow(&[named("/d/e/f", Some("/d/e/g"))]), (2, 0));
    assert_eq!(follow(&[flushed("/d/e"), flushed("/d")]), (0, 0));
    assert_eq!(follow(&[written("/d/e/g"), named("/d/e/f", Some("/d/e/g")), flushed("/d/e")]), (1, 1));
}
