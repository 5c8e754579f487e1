//! Asking a person at the terminal.

use std::io::{BufRead, IsTerminal, Write};

use async_trait::async_trait;
use rke2flow_engine::run::{Consent, Consented};
use rke2flow_engine::state::OpenGate;

/// Asks at gates when standard input and standard error are a terminal.
pub struct Keyboard {
    who: String,
}

impl Keyboard {
    /// The person who is typing.
    pub fn new(who: String) -> Self {
        Self { who }
    }
}

#[async_trait]
impl Consent for Keyboard {
    async fn ask(&self, gate: &OpenGate) -> Consented {
        if !is_there() {
            return Consented::NobodyHere;
        }
        let question = format!("\n{} asks: {}\nGo on? [y/N] ", gate.step, gate.show);
        // Reading the terminal cannot be cut off: the thread is left behind when the gate is decided elsewhere.
        let answer = tokio::task::spawn_blocking(move || read_answer(&question)).await;
        let who = format!("{} at the terminal", self.who);
        match answer {
            Ok(Some(true)) => Consented::Yes { who },
            Ok(Some(false)) => Consented::No { who, reason: String::new() },
            Ok(None) | Err(_) => Consented::NobodyHere,
        }
    }
}

/// Whether there is a person to ask.
pub fn is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks and reads one line; `None` when the input has ended. Only `y` and `yes` are a yes.
pub fn read_answer(question: &str) -> Option<bool> {
    let mut screen = std::io::stderr().lock();
    write!(screen, "{question}").and_then(|()| screen.flush()).ok()?;
    drop(screen);
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(matches!(line.trim(), "y" | "Y" | "yes" | "Yes" | "YES")),
    }
}
