use std::ffi::OsString;
use std::process::Command;

use anyhow::Context;

/// How the command was called: what to tell of it, and how to call it again.
pub struct Invocation {
    program: Vec<OsString>,
    arguments: Vec<OsString>,
}

impl Invocation {
    /// The command as a program of its own.
    pub fn of_this_process() -> Self {
        let program = std::env::current_exe().into_iter().map(OsString::from).collect();
        Invocation { program, arguments: std::env::args_os().skip(1).collect() }
    }

    /// The command within a program that others start by the words `program`, such as `python -m neural_cleanse`.
    pub fn new(program: Vec<OsString>, arguments: Vec<OsString>) -> Self {
        Invocation { program, arguments }
    }

    /// The words of the command line, of which the first is the command's own name.
    pub(crate) fn words(&self) -> impl Iterator<Item = OsString> {
        std::iter::once(OsString::from("neural-cleanse")).chain(self.arguments.iter().cloned())
    }

    /// The command line, as it can be given to a shell again.
    pub(crate) fn command_line(&self) -> String {
        let words: Vec<String> = self.words().map(|word| word.to_string_lossy().into()).collect();
        shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
    }

    /// The same command in a process of its own, without its arguments.
    pub(crate) fn again(&self) -> anyhow::Result<Command> {
        let (program, words) = self.program.split_first().context("cannot find this program's own file")?;
        let mut command = Command::new(program);
        command.args(words);
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_told_as_typed_and_the_program_called_as_it_was_started() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let invocation = Invocation::new(words(&["python", "-m", "neural_cleanse"]), words(&["scan", "a b.onnx"]));
        assert_eq!(invocation.command_line(), "neural-cleanse scan 'a b.onnx'");
        let command = invocation.again().unwrap();
        assert_eq!(command.get_program(), "python");
        assert_eq!(command.get_args().collect::<Vec<_>>(), ["-m", "neural_cleanse"]);
        assert!(Invocation::new(Vec::new(), Vec::new()).again().is_err());
    }
}
