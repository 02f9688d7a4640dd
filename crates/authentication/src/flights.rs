//! One question for all who ask the same at once.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use crate::shelf::Fingerprint;

/// Questions under way. Each belongs to those who await it: the last of them to go ends it.
pub(crate) struct Flights<T: Clone>(Arc<Mutex<Airborne<T>>>);

struct Airborne<T: Clone> {
    flights: HashMap<Fingerprint, Flight<T>>,
    next: u64,
}

struct Flight<T: Clone> {
    number: u64,
    answer: WeakShared<BoxFuture<'static, T>>,
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Airborne {
            flights: HashMap::new(),
            next: 0,
        })))
    }

    /// The answer to the question `key`, which `ask` asks unless somebody else does already. A
    /// caller that goes away harms no other who waits for the same answer.
    pub(crate) async fn share(
        &self,
        key: Fingerprint,
        ask: impl FnOnce() -> BoxFuture<'static, T>,
    ) -> T {
        let shared = {
            let mut airborne = lock(&self.0);
            let flight = airborne.flights.get(&key);
            match flight.and_then(|flight| flight.answer.upgrade()) {
                Some(shared) => shared,
                None => self.take_off(&mut airborne, key, ask()),
            }
        };
        shared.await
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.0).flights.len()
    }

    fn take_off(
        &self,
        airborne: &mut Airborne<T>,
        key: Fingerprint,
        question: BoxFuture<'static, T>,
    ) -> Shared<BoxFuture<'static, T>> {
        let number = airborne.next;
        airborne.next += 1;
        let landing = Landing {
            airborne: Arc::clone(&self.0),
            key,
            number,
        };
        let shared = async move {
            let answer = question.await;
            drop(landing);
            answer
        }
        .boxed()
        .shared();
        let answer = shared
            .downgrade()
            .expect("a future that was not polled is not finished");
        airborne.flights.insert(key, Flight { number, answer });
        shared
    }
}

impl<T: Clone> fmt::Debug for Flights<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

/// Takes a flight off the list when it is answered, or when nobody waits for it any longer.
struct Landing<T: Clone> {
    airborne: Arc<Mutex<Airborne<T>>>,
    key: Fingerprint,
    number: u64,
}

impl<T: Clone> Drop for Landing<T> {
    fn drop(&mut self) {
        let mut airborne = lock(&self.airborne);
        // After a cancelled flight another may have begun under the same key.
        let flight = airborne.flights.get(&self.key);
        if flight.is_some_and(|flight| flight.number == self.number) {
            airborne.flights.remove(&self.key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
