//! Listings go in pages, since no number of objects may make a message that its receiver does not take.
//!
//! ```text
//! asked      {"after": "r01k..8"}                       nothing: from the beginning
//! answered   [[object, object, ...]]   {"next": "r01k..9"}
//! ```
//!
//! An object has a place, a text, and they stand in its order; `next` is the place of a page's last, and is given as `after`
//! to go on. Always: (1) a page holds one object at least, however large that is, unless it is the last; (2) a page
//! without `next` is the last; (3) what stood there all the time is in one page, whatever comes and goes meanwhile.

use rmpv::ValueRef;
use serde::Serialize;

/// Octets of a page that has more than one object: a sixteenth of what a message may be, so that many listings at once take
/// little of what all messages of a realm may take together.
pub const OCTETS_MAX: usize = 1 << 20;
/// Values (numbers, texts, lists) that its objects are made of: half of what a receiver decodes of one message. A line may
/// have 65,000 arguments of one letter.
const VALUES_MAX: usize = 1 << 17;

/// A page of a listing.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The objects, by their places.
    pub objects: Vec<T>,
    /// After which place the next page begins; `None`: this is the last.
    pub next: Option<String>,
}

impl<T: Serialize> Page<T> {
    /// The first page of what stands after `after`; `sorted` are objects with their places, in the order of those.
    pub fn of(sorted: impl IntoIterator<Item = (String, T)>, after: Option<&str>) -> Page<T> {
        let (mut objects, mut last) = (Vec::new(), String::new());
        let (mut octets, mut values) = (0, 0);
        for (place, object) in sorted {
            if after.is_some_and(|after| place.as_str() <= after) {
                continue;
            }
            let weight = weight(&object);
            (octets, values) = (octets + weight.0, values + weight.1);
            if !objects.is_empty() && (octets > OCTETS_MAX || values > VALUES_MAX) {
                let next = Some(last);
                return Page { objects, next };
            }
            objects.push(object);
            last = place;
        }
        Page { objects, next: None }
    }
}

impl<T> Page<T> {
    /// Each object as another.
    pub fn map<U>(self, to: impl FnMut(T) -> U) -> Page<U> {
        Page {
            objects: self.objects.into_iter().map(to).collect(),
            next: self.next,
        }
    }
}

/// The nearer end of two that were read as far as they say; `None` is to the end of all.
pub fn nearer(one: Option<String>, other: Option<String>) -> Option<String> {
    one.into_iter().chain(other).min()
}

/// The octets that an object takes in a message, and the values that it is made of.
fn weight<T: Serialize>(object: &T) -> (usize, usize) {
    // Text, numbers and lists: nothing in them can fail to encode.
    let octets = rmp_serde::to_vec_named(object).unwrap_or_default();
    let value = rmpv::decode::read_value_ref(&mut octets.as_slice());
    let values = value.as_ref().map_or(0, count);
    (octets.len(), values)
}

fn count(value: &ValueRef<'_>) -> usize {
    let within = match value {
        ValueRef::Array(list) => list.iter().map(count).sum(),
        ValueRef::Map(pairs) => pairs.iter().map(|(key, value)| count(key) + count(value)).sum(),
        _ => 0,
    };
    1 + within
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of objects in each page of a listing.
    fn pages<T: Serialize + Clone>(objects: &[T]) -> Vec<usize> {
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let sorted = objects
                .iter()
                .enumerate()
                .map(|(number, object)| (format!("{number:04}"), object.clone()));
            let Page { objects, next } = Page::of(sorted, after.as_deref());
            pages.push(objects.len());
            after = next;
            if after.is_none() {
                return pages;
            }
        }
    }

    #[test]
    fn a_page_is_bounded_in_octets_and_in_values() {
        assert_eq!(pages(&vec!["x".repeat(130_000); 20]), [8, 8, 4]);
        // Of one octet each: no more of them are decoded than of anything else.
        assert_eq!(pages(&vec![vec![0_u8; 65_000]; 5]), [2, 2, 1]);
        assert_eq!(pages(&["x"; 3000]), [3000]);
        assert_eq!(pages::<&str>(&[]), [0]);
    }

    #[test]
    fn an_object_larger_than_a_page_has_one_to_itself() {
        let large = "x".repeat(3 << 20);
        assert_eq!(pages(&["a", &large, "b", "c"]), [1, 1, 2]);
        assert_eq!(pages(&[large.as_str(), &large]), [1, 1]);
    }

    #[test]
    fn what_goes_between_two_pages_takes_nothing_else_with_it() {
        let named = |names: &[&str]| {
            let large = "x".repeat(600_000);
            let placed = names.iter().map(|name| ((*name).to_owned(), large.clone()));
            placed.collect::<Vec<_>>()
        };
        let first = Page::of(named(&["a", "b", "c"]), None);
        assert_eq!((first.objects.len(), first.next.as_deref()), (1, Some("a")));
        let second = Page::of(named(&["b", "c"]), first.next.as_deref());
        assert_eq!((second.objects.len(), second.next.as_deref()), (1, Some("b")));
        let third = Page::of(named(&["c", "d"]), second.next.as_deref());
        assert_eq!(third.next.as_deref(), Some("c"));
    }

    #[test]
    fn what_was_read_of_several_is_all_up_to_the_nearest_end() {
        let end = |place: &str| Some(place.to_owned());
        assert_eq!(nearer(end("b"), end("a")), end("a"));
        assert_eq!(nearer(None, end("a")), end("a"));
        assert_eq!(nearer(None, None), None);
    }
}
