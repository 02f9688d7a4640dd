//! Inputs out of seeds and out of nothing, from a fixed seed: what fails once fails again.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A target by its name.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// In place of libFuzzer's: a function that runs the target once.
macro_rules! fuzz_target {
    (|$input:ident: $type:ty| $body:expr) => {
        pub(crate) fn once(bytes: &[u8]) {
            let bytes = arbitrary::Unstructured::new(bytes);
            if let Ok($input) = <$type as arbitrary::Arbitrary<'_>>::arbitrary_take_rest(bytes) {
                $body
            }
        }
    };
}
pub(crate) use fuzz_target;

/// Runs each target for its time; the first failure ends it.
#[expect(clippy::print_stdout, reason = "a test's report")]
pub(crate) fn run(targets: &[Target]) -> ExitCode {
    let seconds = std::env::var("CLUSTER_PROXY_FUZZ_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(1.0);
    let during = Duration::from_secs_f64(seconds);
    for (name, target) in targets {
        let seeds = seeds(name);
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (mut executions, began) = (0_u64, Instant::now());
        while executions < LEAST || began.elapsed() < during {
            let input = random.input(&seeds);
            if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
                println!("fuzz: {name}: failed at execution {executions}, with {input:?}");
                return ExitCode::FAILURE;
            }
            executions += 1;
        }
        println!(
            "fuzz: {name}: {executions} executions, {} seeds, {:.1} s",
            seeds.len(),
            began.elapsed().as_secs_f64()
        );
    }
    ExitCode::SUCCESS
}

/// However busy the machine is.
const LEAST: u64 = 100;

/// Bytes of an input out of nothing, and of what is put into another one.
const LONGEST: usize = 512;

/// Changes to one seed.
const CHANGES: u64 = 8;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let files = fs::read_dir(folder.join(target)).into_iter().flatten();
    let mut seeds: Vec<_> = files
        .filter_map(|file| fs::read(file.ok()?.path()).ok())
        .collect();
    seeds.sort();
    seeds
}

/// Xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.below(LONGEST);
        (0..length).map(|_| self.byte()).collect()
    }

    fn input(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        if seeds.is_empty() || self.next().is_multiple_of(4) {
            return self.bytes();
        }
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..self.next() % CHANGES {
            self.change(&mut input);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len());
        match self.next() % 6 {
            0 => input.truncate(at),
            1 => input.insert(at, self.byte()),
            2 if !input.is_empty() => drop(input.remove(at)),
            3 if !input.is_empty() => input[at] ^= 1 << self.below(8),
            4 if !input.is_empty() => input[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
            _ => {
                let more = self.bytes();
                input.splice(at..at, more);
            }
        }
    }
}
