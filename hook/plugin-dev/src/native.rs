//! Asking a plugin as an ordinary program: one question a line, one answer a line.

use crate::error::Error;
use serde::Deserialize;
use serde_json::Value;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;
use volhook_core::question::Answer;
use volhook_core::question::Outcome;
use volhook_core::question::Question;

/// How long an answer may take. Outside the sandbox nothing else would end a loop.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running native runner.
pub(crate) struct Native {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
}

impl Native {
    /// Starts it.
    pub(crate) fn start(mut command: Command) -> Result<Self, Error> {
        let cannot = |error| Error::Native { problem: format!("cannot be started: {error}") };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(cannot)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Native { problem: "has no pipes".to_owned() });
        };
        let (send, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, stdin, answers })
    }

    /// Asks it. What does not answer in time is a fault, as it is in the sandbox.
    pub(crate) fn ask(&mut self, question: &Question) -> Result<Outcome, Error> {
        let wrong = |problem: String| Error::Native { problem };
        let line = serde_json::to_string(question).map_err(|error| wrong(error.to_string()))?;
        // A program that has ended says so by its answer, which does not come.
        let _ = writeln!(self.stdin, "{line}").and_then(|()| self.stdin.flush());
        let answer = match self.answers.recv_timeout(PATIENCE) {
            Ok(answer) => answer,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                return Ok(Outcome::Fault(format!("it did not answer within {} s", PATIENCE.as_secs())));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status =
                    self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                return Err(wrong(format!("ended without an answer ({status})")));
            }
        };
        outcome(&answer).map_err(wrong)
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // It may be in an endless loop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Deserialize)]
struct Fault {
    fault: String,
}

/// What a line means.
fn outcome(line: &str) -> Result<Outcome, String> {
    let value: Value = serde_json::from_str(line)
        .map_err(|_| format!("answers with what is no JSON: {}", volhook_core::names::shorten(line)))?;
    if let Ok(Fault { fault }) = Fault::deserialize(&value) {
        return Ok(Outcome::Fault(fault));
    }
    // A path that is none, say, is an answer that makes no sense, in the sandbox too.
    Ok(Answer::deserialize(&value)
        .map_or_else(|error| Outcome::Fault(format!("its answer makes no sense: {error}")), Outcome::Answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Native {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Native::start(command).unwrap()
    }

    #[test]
    fn answers_are_read_line_by_line() {
        let mut native = shell(
            r#"read q; echo '{"refusal":{"reason":"no","hint":null}}'; read q; echo '{"fault":"at lib.rs:3"}'; read q; echo nonsense"#,
        );
        let refusal = native.ask(&Question::Describe).unwrap();
        assert!(matches!(refusal, Outcome::Answer(Answer::Refusal(refusal)) if refusal.reason == "no"));
        assert_eq!(native.ask(&Question::Describe).unwrap(), Outcome::Fault("at lib.rs:3".to_owned()));
        assert!(native.ask(&Question::Describe).unwrap_err().to_string().contains("nonsense"));
        let ended = native.ask(&Question::Describe).unwrap_err().to_string();
        assert_eq!(ended, "the native runner ended without an answer (exit status: 0)");
    }
}
