//! A bounded map whose entries expire: what a cache of short-lived answers needs, and no more.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

/// The key of an answer: a token's SHA-256, so that no token lies in memory for being cached.
pub(crate) type Fingerprint = [u8; 32];

/// At most `capacity` answers. When it is full, the one that was put first goes.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    entries: HashMap<Fingerprint, Entry<T>>,
    /// The keys in the order they were put, with the number of the putting: an entry put again
    /// since has another number, and its old place here is void.
    order: VecDeque<(Fingerprint, u64)>,
    capacity: usize,
    next: u64,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    expires: Instant,
    number: u64,
}

impl<T: Clone> Shelf<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
            capacity,
            next: 0,
        }
    }

    /// The value, unless it has expired.
    pub(crate) fn get(&self, key: &Fingerprint, now: Instant) -> Option<T> {
        self.entries
            .get(key)
            .filter(|entry| now < entry.expires)
            .map(|entry| entry.value.clone())
    }

    /// Puts a value, and drops what has expired or is too much.
    pub(crate) fn put(&mut self, key: Fingerprint, value: T, expires: Instant, now: Instant) {
        let number = self.next;
        self.next += 1;
        self.entries.insert(
            key,
            Entry {
                value,
                expires,
                number,
            },
        );
        self.order.push_back((key, number));
        while let Some((oldest, number)) = self.order.front() {
            match self.entries.get(oldest) {
                Some(entry) if entry.number == *number => {
                    if now < entry.expires && self.entries.len() <= self.capacity {
                        break;
                    }
                    self.entries.remove(oldest);
                }
                _ => {}
            }
            self.order.pop_front();
        }
    }

    #[cfg(test)]
    fn sizes(&self) -> (usize, usize) {
        (self.entries.len(), self.order.len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn key(number: u8) -> Fingerprint {
        [number; 32]
    }

    #[test]
    fn entries_expire_and_are_swept() {
        let start = Instant::now();
        let mut shelf = Shelf::new(100);
        shelf.put(key(1), "one", start + TTL, start);
        assert_eq!(
            shelf.get(&key(1), start + TTL - Duration::from_nanos(1)),
            Some("one")
        );
        assert_eq!(shelf.get(&key(1), start + TTL), None);
        shelf.put(key(2), "two", start + TTL + TTL, start + TTL);
        assert_eq!(shelf.sizes(), (1, 1));
    }

    #[test]
    fn the_oldest_goes_when_full() {
        let start = Instant::now();
        let mut shelf = Shelf::new(2);
        for number in 1..=3 {
            shelf.put(key(number), number, start + TTL, start);
        }
        assert_eq!(shelf.get(&key(1), start), None);
        assert_eq!(shelf.get(&key(2), start), Some(2));
        assert_eq!(shelf.get(&key(3), start), Some(3));
        assert_eq!(shelf.sizes(), (2, 2));
    }

    #[test]
    fn an_entry_put_again_outlives_its_first_place() {
        let start = Instant::now();
        let later = start + TTL;
        let mut shelf = Shelf::new(2);
        shelf.put(key(1), "old", start + TTL, start);
        shelf.put(key(1), "new", later + TTL, later);
        shelf.put(key(2), "two", later + TTL, later);
        assert_eq!(shelf.get(&key(1), later), Some("new"));
        assert_eq!(shelf.get(&key(2), later), Some("two"));
        assert_eq!(shelf.sizes(), (2, 2));
    }

    #[test]
    fn the_order_does_not_grow_without_bound() {
        let start = Instant::now();
        let mut shelf = Shelf::new(4);
        for round in 0..1000_u64 {
            let now = start + TTL * u32::try_from(round).unwrap();
            shelf.put(key(1), round, now + TTL, now);
        }
        assert_eq!(shelf.sizes(), (1, 1));
    }
}
