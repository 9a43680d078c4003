// SPDX-License-Identifier: Apache-2.0
//! The signatures that a thread checked last: who proves itself to a node of thousands of channels is
//! looked at by each of them, and has one signature.

use std::{cell::RefCell, collections::VecDeque};

use aws_lc_rs::digest::{Context, SHA256};

/// How many are remembered. A proof is checked with the certificates above it, and a few proofs may
/// take turns on one thread.
const CAPACITY: usize = 16;

/// Stands for a key, what is said to be signed, and the signature.
type Question = [u8; 32];

thread_local! {
    static RECENT: RefCell<VecDeque<(Question, bool)>> = const { RefCell::new(VecDeque::new()) };
}

#[cfg(test)]
thread_local! {
    /// How many signatures this thread has checked.
    pub(crate) static CHECKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The answer of `check`, which must follow from `parts` alone; not asked again where it is known.
pub(crate) fn recently(parts: &[&[u8]], check: impl FnOnce() -> bool) -> bool {
    let Some(question) = question(parts) else {
        return check();
    };
    let known = RECENT.with_borrow(|recent| {
        let known = recent.iter().find(|(earlier, _)| *earlier == question);
        known.map(|(_, answer)| *answer)
    });
    known.unwrap_or_else(|| {
        let answer = check();
        #[cfg(test)]
        CHECKED.set(CHECKED.get() + 1);
        RECENT.with_borrow_mut(|recent| {
            recent.truncate(CAPACITY - 1);
            recent.push_front((question, answer));
        });
        answer
    })
}

fn question(parts: &[&[u8]]) -> Option<Question> {
    let mut hash = Context::new(&SHA256);
    for part in parts {
        // No two lists of parts are the same bytes.
        hash.update(&part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finish().as_ref().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_lately_is_not_asked_again() {
        let asks = |parts: &[&[u8]], answer| {
            let mut asked = false;
            let got = recently(parts, || {
                asked = true;
                answer
            });
            (asked, got)
        };
        assert_eq!(asks(&[b"key", b"message"], true), (true, true));
        assert_eq!(asks(&[b"keymess", b"age"], false), (true, false));
        for _ in 0..3 {
            assert_eq!(asks(&[b"key", b"message"], false), (false, true));
            assert_eq!(asks(&[b"keymess", b"age"], true), (false, false));
        }
        for n in 0..CAPACITY {
            assert!(asks(&[&n.to_be_bytes()], true).0);
        }
        assert!(asks(&[b"key", b"message"], true).0, "it was forgotten");
        assert_eq!(RECENT.with_borrow(VecDeque::len), CAPACITY);
    }
}
