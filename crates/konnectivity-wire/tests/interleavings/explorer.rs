//! Visits every state that can be reached in so many steps, each once.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// A world in which one of several things can happen next.
pub(crate) trait Model: Clone + Hash {
    type Step: Clone + Debug;

    /// What can happen.
    fn steps(&self) -> Vec<Self::Step>;

    /// Lets it happen; panics where a rule is broken.
    fn take(&mut self, step: &Self::Step);

    /// Panics where a rule is broken that holds in every state.
    fn check(&self);
}

#[derive(Debug)]
pub(crate) struct Found {
    /// Different ones.
    #[expect(dead_code, reason = "printed")]
    pub(crate) states: usize,
    /// Tried in all of them.
    pub(crate) steps: usize,
    /// Whether every state was found that there is.
    pub(crate) exhausted: bool,
}

/// The way to a state, for the message.
struct Way<S> {
    step: S,
    before: Option<Rc<Self>>,
}

impl<S> Way<S> {
    fn steps(&self) -> Vec<&S> {
        let before = self.before.as_ref();
        let mut steps = before.map_or_else(Vec::new, |way| way.steps());
        steps.push(&self.step);
        steps
    }
}

/// Every state within `depth` steps of `start`.
pub(crate) fn explore<M: Model>(start: &M, depth: usize) -> Found {
    let mut seen = HashSet::from([fingerprint(start)]);
    let mut tried = 0;
    let mut border = vec![(start.clone(), None)];
    for _ in 0..depth {
        let mut next = Vec::new();
        for (world, way) in border {
            for step in world.steps() {
                tried += 1;
                let mut world = world.clone();
                let way = Rc::new(Way {
                    step,
                    before: way.clone(),
                });
                let result = catch_unwind(AssertUnwindSafe(|| {
                    world.take(&way.step);
                    if seen.insert(fingerprint(&world)) {
                        world.check();
                        next.push((world, Some(way.clone())));
                    }
                }));
                if let Err(panic) = result {
                    let constant = panic.downcast_ref::<&str>().copied();
                    let text = panic.downcast_ref::<String>().map(String::as_str);
                    let text = text.or(constant).unwrap_or_default();
                    panic!("{text} after {:?}", way.steps());
                }
            }
        }
        border = next;
    }
    Found {
        states: seen.len(),
        steps: tried,
        exhausted: border.is_empty(),
    }
}

/// 128 bits: among millions of states, no two have the same by chance.
fn fingerprint(world: &impl Hash) -> (u64, u64) {
    let hash = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        world.hash(&mut hasher);
        hasher.finish()
    };
    (hash(0), hash(1))
}
