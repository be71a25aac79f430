//! The names of instances, which every rejection and every event carries.

use std::{borrow::Borrow, collections::HashSet, fmt, ops::Deref, sync::LazyLock};

use arcstr::ArcStr;
use parking_lot::Mutex;

/// What is never freed, by whatever names a process makes, stays below a mebibyte.
static INTERNED: LazyLock<Mutex<Interned>> = LazyLock::new(|| Mutex::new(Interned::new(4_096, 128)));

/// The name of an instance, one pointer wide, so that an error that carries it stays small.
///
/// A clone of it costs nothing: the text of a name is kept for as long as the process runs, once for all names that are
/// equal. That holds for the first 4,096 different names of up to 128 bytes. What clones of later and longer ones share is
/// counted and freed, and so it is for the instances of a [`KeyedRegistry`](crate::registry::KeyedRegistry), which come
/// and go.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(ArcStr);

impl Name {
    /// A name that is freed when nobody has it any more.
    pub(crate) fn shared(name: impl Into<Box<str>>) -> Self {
        Self(name.into().into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, where it is never freed.
    #[cfg(test)]
    pub(crate) fn interned(&self) -> Option<&'static str> {
        ArcStr::as_static(&self.0)
    }
}

impl<T: Into<Box<str>>> From<T> for Name {
    fn from(name: T) -> Self {
        let name = name.into();
        Self(INTERNED.lock().intern(name))
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

/// Texts that are never freed.
struct Interned {
    texts: HashSet<ArcStr>,
    most: usize,
    longest: usize,
}

impl Interned {
    fn new(most: usize, longest: usize) -> Self {
        Self { texts: HashSet::new(), most, longest }
    }

    /// The one text that is equal to this, which it may become; where it is too long or there are too many, one of its own.
    fn intern(&mut self, text: Box<str>) -> ArcStr {
        if let Some(there) = self.texts.get(&*text) {
            return there.clone();
        }
        let text = ArcStr::from(text);
        if self.texts.len() < self.most && text.len() <= self.longest {
            text.leak();
            self.texts.insert(text.clone());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::{cmp::Ordering, collections::HashMap};

    use super::*;

    #[test]
    fn a_text_is_kept_once_for_all_names() {
        let one = Name::from("kept once");
        let text = one.interned().expect("a short name");
        for other in [Name::from("kept once"), Name::from(String::from("kept once")), one.clone()] {
            assert!(other.interned().is_some_and(|other| std::ptr::eq(other, text)));
        }
        drop(one);
        assert_eq!(text, "kept once");
    }

    #[test]
    fn names_are_the_same_by_their_text_however_it_is_kept() {
        let (kept, counted) = (Name::from("orders"), Name::shared("orders"));
        assert_eq!((kept.interned(), counted.interned()), (Some("orders"), None));
        assert_eq!(kept, counted);
        assert_eq!(kept.cmp(&counted), Ordering::Equal);
        assert!(kept < Name::shared("payments") && counted < Name::from("payments"));

        let mut numbers = HashMap::from([(kept, 1)]);
        assert_eq!(numbers.insert(counted.clone(), 2), Some(1));
        assert_eq!((numbers.get("orders"), numbers.len()), (Some(&2), 1));
        assert_eq!((counted.to_string(), format!("{counted:?}")), ("orders".to_owned(), "\"orders\"".to_owned()));
    }

    #[test]
    fn a_counted_name_is_freed_with_its_last_clone() {
        let name = Name::shared("comes and goes");
        let clone = name.clone();
        assert_eq!(ArcStr::strong_count(&clone.0), Some(2));
        drop(name);
        assert_eq!((clone.as_str(), ArcStr::strong_count(&clone.0)), ("comes and goes", Some(1)));
    }

    #[test]
    fn a_long_name_is_counted() {
        assert!(Name::from("n".repeat(128)).interned().is_some());
        let name = Name::from("n".repeat(129));
        assert_eq!((name.interned(), name.len()), (None, 129));
        assert_eq!(name.clone(), name);
    }

    #[test]
    fn so_many_texts_are_kept_and_no_more() {
        let mut texts = Interned::new(2, 8);
        let kept = ["one", "two", "three", "one"].map(|text| ArcStr::is_static(&texts.intern(text.into())));
        assert_eq!((kept, texts.texts.len()), ([true, true, false, true], 2));
    }

    #[test]
    fn a_text_that_is_too_long_takes_no_place() {
        let mut texts = Interned::new(1, 8);
        let kept = ["123456789", "12345678"].map(|text| ArcStr::is_static(&texts.intern(text.into())));
        assert_eq!(kept, [false, true]);
    }
}
