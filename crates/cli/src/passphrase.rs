//! Asking a person for the passphrase of a key, without showing it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};

use rke2flow_steps::access::ssh::Passphrases;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

/// Asks for passphrases at the terminal itself, whatever standard input is.
pub struct AtTerminal;

impl Passphrases for AtTerminal {
    fn ask(&self, question: &str) -> Option<SecretString> {
        let terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
        let silence = Silence::on(&terminal)?;
        write!(&terminal, "{question}").ok()?;
        let mut line = Zeroizing::new(String::new());
        let read = BufReader::new((&terminal).take(PASSPHRASE_BYTES)).read_line(&mut line);
        drop(silence);
        writeln!(&terminal).ok()?;
        let passphrase = line.trim_end_matches(['\r', '\n']);
        (read.is_ok() && !passphrase.is_empty()).then(|| SecretString::from(passphrase))
    }
}

/// A longer passphrase is none, in bytes.
const PASSPHRASE_BYTES: u64 = 4096;

/// A terminal that does not echo, until this is dropped.
struct Silence<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silence<'a> {
    fn on(terminal: &'a File) -> Option<Self> {
        let before = tcgetattr(terminal).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ICANON);
        tcsetattr(terminal, OptionalActions::Flush, &silent).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that has gone.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}
