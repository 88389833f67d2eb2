//! Panics, which are bugs of this program or of an engine, in one sentence.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};

/// Where and why the last panic was.
static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Runs `work`; a panic in it is an error that says where it was. Panics that a library catches are for it to report, and
/// are only seen with `--verbose`. Afterwards panics are reported as they were before: the process may not be ours.
pub fn caught<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let former = panic::take_hook();
    panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, |location| format!(" at {location}"));
        let words = format!("{}{place}", words(info.payload()));
        tracing::debug!("panic: {words}");
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
    }));
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(former);
    outcome.unwrap_or_else(|payload| {
        let last = LAST.lock().unwrap_or_else(PoisonError::into_inner).take();
        let what = last.unwrap_or_else(|| words(&*payload).to_owned());
        Err(anyhow::anyhow!("internal error: {what}; this is a bug of neural-cleanse, please report it with the model"))
    })
}

fn words(payload: &(dyn Any + Send)) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_says_where_it_was() {
        let number = caught(|| Ok(7)).unwrap();
        let error = caught::<()>(|| panic!("number {number}")).unwrap_err().to_string();
        assert!(error.starts_with("internal error: number 7 at ") && error.contains("panics.rs:"), "{error}");
    }
}
