//! Marks: numbers that pieces of a text get while it is read, so that a later check can say where one stands.
//!
//! ron tells positions only with an error. So each piece that may turn out wrong is numbered in the order of reading,
//! everything is checked on plain data, and only for what is wrong the text is read again and stopped at the number:
//! ron then says where that is (decision 001).

use std::cell::RefCell;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The number of a piece of a text, in the order of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mark(pub(super) u32);

/// A value that knows where it stands.
#[derive(Debug, Clone, Default)]
pub struct Marked<T> {
    /// Where.
    pub mark: Mark,
    /// What.
    pub value: T,
}

impl<T> std::ops::Deref for Marked<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Display> fmt::Display for Marked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Marked<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Serialize> Serialize for Marked<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Marked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mark = take()?;
        Ok(Self { mark, value: T::deserialize(deserializer)? })
    }
}

/// What is noted while one text is read.
#[derive(Default)]
struct Notes {
    next: u32,
    stop_at: Option<Mark>,
    templates: Vec<(Mark, String)>,
}

thread_local! {
    static NOTES: RefCell<Option<Notes>> = const { RefCell::new(None) };
}

/// Numbers the piece that is about to be read. Outside of [`reading`] everything is number 0.
pub(crate) fn take<E: de::Error>() -> Result<Mark, E> {
    NOTES.with_borrow_mut(|slot| {
        let Some(notes) = slot else { return Ok(Mark::default()) };
        let mark = Mark(notes.next);
        notes.next += 1;
        if notes.stop_at == Some(mark) { Err(E::custom("stopped at the mark")) } else { Ok(mark) }
    })
}

/// Notes a template and where it stands.
pub(crate) fn note_template(mark: Mark, text: &str) {
    NOTES.with_borrow_mut(|slot| {
        if let Some(notes) = slot {
            notes.templates.push((mark, text.to_owned()));
        }
    });
}

/// Runs `read` with numbers given out from 0, stopping with an error at `stop_at`; returns the templates it met.
pub(super) fn reading<R>(stop_at: Option<Mark>, read: impl FnOnce() -> R) -> (R, Vec<(Mark, String)>) {
    struct Reset(Option<Notes>);
    impl Drop for Reset {
        fn drop(&mut self) {
            NOTES.with_borrow_mut(|slot| *slot = self.0.take());
        }
    }
    let notes = Notes { stop_at, ..Notes::default() };
    let _reset = Reset(NOTES.with_borrow_mut(|slot| slot.replace(notes)));
    let result = read();
    let templates = NOTES.with_borrow_mut(|slot| slot.take().map(|notes| notes.templates).unwrap_or_default());
    (result, templates)
}
