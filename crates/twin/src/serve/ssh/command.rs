//! What a client asks a session to execute: a shell that reads its script from standard input, and before it at most
//! one `echo`.

/// The words that come before `sh -s`, of which any combination is understood.
const SHELLS: [&str; 3] = ["sh", "/bin/sh", "/usr/bin/sh"];

/// What the login shell prints of `echo WORD; rest` before the rest, and the rest.
pub fn greeting(command: &str) -> (String, &str) {
    let fits = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    match command.strip_prefix("echo ").and_then(|rest| rest.split_once("; ")) {
        Some((word, rest)) if fits(word) => (format!("{word}\n"), rest),
        _ => (String::new(), command),
    }
}

/// The user as whom a command line runs its script from standard input; `None` for any other command line.
pub fn script_user<'a>(command: &str, login: &'a str) -> Option<&'a str> {
    let words = shlex::split(command)?;
    let mut words = words.iter().map(String::as_str).peekable();
    let mut user = login;
    loop {
        match words.next()? {
            "exec" => {}
            "sudo" => {
                while words.next_if(|word| matches!(*word, "-n" | "-H" | "--")).is_some() {}
                user = "root";
            }
            "env" | "/usr/bin/env" => {
                while words.next_if(|word| matches!(*word, "-i" | "--") || word.contains('=')).is_some() {}
            }
            shell if SHELLS.contains(&shell) => {
                return (words.next() == Some("-s") && words.next().is_none()).then_some(user);
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_on_standard_input_is_understood_however_it_is_wrapped() {
        for command in
            ["sh -s", "exec /bin/sh -s", "exec env -i PATH=/usr/bin:/bin LC_ALL=C sh -s", "env -i 'A=b c' sh -s"]
        {
            assert_eq!(script_user(command, "debian"), Some("debian"), "{command}");
        }
    }

    #[test]
    fn an_echo_before_it_is_printed_first_and_nothing_else_is_taken_for_one() {
        assert_eq!(greeting("echo from-here; exec sh -s"), ("from-here\n".to_owned(), "exec sh -s"));
        for command in ["sh -s", "echo $HOME; sh -s", "echo a b; sh -s", "echo a"] {
            assert_eq!(greeting(command), (String::new(), command));
        }
    }

    #[test]
    fn sudo_makes_it_root() {
        for command in ["sudo -n sh -s", "exec env -i PATH=/usr/bin sudo -n sh -s", "sudo -n env -i A=b sh -s"] {
            assert_eq!(script_user(command, "debian"), Some("root"), "{command}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for command in ["", "sh", "sh -c true", "sh -s -- x", "sh -s; reboot", "bash -s", "uptime", "sh -s'", "sudo -n"]
        {
            assert_eq!(script_user(command, "root"), None, "{command}");
        }
    }
}
