//! Asking a person at the terminal.

use std::io::{BufRead, IsTerminal, Write};

use async_trait::async_trait;
use rke2flow_engine::run::{Consent, Consented};
use rke2flow_engine::state::{OpenGate, ROLLBACK_GATE};

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
        let question = question(gate);
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

/// At the gate of a rollback "go on" could be taken for going on with the run that failed.
fn question(gate: &OpenGate) -> String {
    let yes = if gate.step == ROLLBACK_GATE { "Roll back?" } else { "Go on?" };
    format!("\n{} asks: {}\n{yes} [y/N] ", gate.step, gate.show)
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

#[cfg(test)]
mod tests {
    use rke2flow_engine::id::{InstanceId, StepId, Target};

    use super::*;

    #[test]
    fn what_a_yes_means_is_in_the_question() {
        let asked = |step: &str| {
            let instance = InstanceId::new(&StepId::new(step).unwrap(), "Gate", 1, &Target::Operator);
            question(&OpenGate { instance, step: step.to_owned(), show: "writes are lost".to_owned() })
        };
        assert_eq!(asked("consent"), "\nconsent asks: writes are lost\nGo on? [y/N] ");
        assert_eq!(asked("rollback"), "\nrollback asks: writes are lost\nRoll back? [y/N] ");
    }
}
