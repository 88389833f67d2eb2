//! What a command may take of memory and time.

use std::process;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use crate::ERROR;

/// The time that a scan may take.
#[derive(Args)]
#[command(next_help_heading = "Limits")]
pub struct TimeArguments {
    /// Stop the scan after so many seconds; the same command then goes on from there
    #[arg(long, value_name = "N", default_value_t = 86_400)]
    max_seconds: u64,

    /// Stop the scan if a round of one class takes longer than so many seconds [default: no limit]
    #[arg(long, value_name = "N")]
    max_class_seconds: Option<u64>,
}

/// The time that a scan has.
pub struct Time {
    started: Instant,
    whole: Duration,
    class: Option<Duration>,
    /// Ends the watch when it is dropped.
    _watch: Sender<()>,
}

/// How long after its time a scan may end by itself, with what it has got. It cannot while the engine is at work.
const GRACE: Duration = Duration::from_secs(10);

impl TimeArguments {
    /// Begins to count.
    pub fn start(&self) -> Time {
        let whole = Duration::from_secs(self.max_seconds);
        let (watch, ended) = mpsc::channel();
        thread::spawn(move || {
            if ended.recv_timeout(whole.saturating_add(GRACE)) == Err(RecvTimeoutError::Timeout) {
                tracing::error!("{}; the same command goes on from what was kept", too_long("the scan", whole, WHOLE));
                process::exit(ERROR.into());
            }
        });
        let class = self.max_class_seconds.map(Duration::from_secs);
        Time { started: Instant::now(), whole, class, _watch: watch }
    }
}

const WHOLE: &str = "--max-seconds";

impl Time {
    /// What took too long, if anything did, where a round of `class` began at `since`.
    pub fn overrun(&self, class: usize, since: Instant) -> Option<String> {
        if self.started.elapsed() > self.whole {
            return Some(too_long("the scan", self.whole, WHOLE));
        }
        let limit = self.class.filter(|limit| since.elapsed() > *limit)?;
        Some(too_long(&format!("class {class}"), limit, "--max-class-seconds"))
    }
}

fn too_long(what: &str, limit: Duration, option: &str) -> String {
    format!("{what} takes longer than {} s ({option})", limit.as_secs())
}

/// A number of bytes from `512M`, `4G` or the like, in powers of 1024.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().trim_end_matches("IB") {
        "" => Some(0),
        "K" => Some(10),
        "M" => Some(20),
        "G" => Some(30),
        "T" => Some(40),
        _ => None,
    };
    let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
    let bytes = number.zip(shift).and_then(|(number, shift)| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "give a number of bytes, such as 512M or 4G".to_owned())
}

/// Three quarters of the machine's memory or, where that cannot be told, 4 GiB.
pub fn usual_memory() -> u64 {
    let kibibytes = || {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.split_whitespace().next()?.parse::<u64>().ok()
    };
    kibibytes().map_or(4 << 30, |kibibytes| kibibytes * 1024 / 4 * 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(bytes("4G"), Ok(4 << 30));
        assert_eq!(bytes("512MiB"), Ok(512 << 20));
        assert_eq!((bytes("1000"), bytes("2k")), (Ok(1000), Ok(2048)));
        for bad in ["", "G", "-1G", "0", "4X", "1.5G", "99999999999T"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert!(usual_memory() >= 1 << 28);
    }

    #[test]
    fn what_takes_too_long_is_named() {
        let time = TimeArguments { max_seconds: 600, max_class_seconds: Some(0) }.start();
        let words = time.overrun(7, Instant::now()).unwrap();
        assert_eq!(words, "class 7 takes longer than 0 s (--max-class-seconds)");
        let time = TimeArguments { max_seconds: 600, max_class_seconds: None }.start();
        assert_eq!(time.overrun(7, Instant::now()), None);
        let time = TimeArguments { max_seconds: 0, max_class_seconds: None }.start();
        assert_eq!(time.overrun(7, Instant::now()).unwrap(), "the scan takes longer than 0 s (--max-seconds)");
    }
}
