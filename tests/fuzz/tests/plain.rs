//! The fuzz targets as plain tests: the corpus, then mutations of it for `FUZZ_SECONDS` (20).
//!
//! A run says its seed; `FUZZ_SEED` repeats it, as far as it got in its time. An input that fails is written
//! to `artifacts/TARGET-HASH`. With `FUZZ_KEEP=1`, inputs that gave a new shape of answer join the corpus,
//! cut down to what still gives it, up to 39 files.

use daxite_fuzz::{CPIO, ELF, INFO_BLOCK, Mutator, NFIT, PVH, Target};
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io::{Write, stderr};
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// The machine may be busy, but no input takes this long.
const HANG: Duration = Duration::from_secs(30);
/// Kept files of a target, and inputs beside them that are mutated further.
const MAX_CORPUS: usize = 39;
const MAX_POOL: usize = 500;

#[test]
fn nfit_keeps_its_promises() {
    fuzz(&NFIT);
}

#[test]
fn info_block_keeps_its_promises() {
    fuzz(&INFO_BLOCK);
}

#[test]
fn elf_keeps_its_promises() {
    fuzz(&ELF);
}

#[test]
fn cpio_keeps_its_promises() {
    fuzz(&CPIO);
}

#[test]
fn pvh_keeps_its_promises() {
    fuzz(&PVH);
}

/// What the watch sees of a run.
#[derive(Default)]
struct Progress {
    input: Mutex<Vec<u8>>,
    inputs_done: AtomicU64,
}

/// Runs `target` in a thread of its own, and watches that it gets on.
fn fuzz(target: &'static Target) {
    let seed = setting("FUZZ_SEED").unwrap_or_else(|| RandomState::new().hash_one(target.name));
    let time = Duration::from_secs(setting("FUZZ_SECONDS").unwrap_or(20));
    say(&format!("{}: seed {seed:#x}, {} s", target.name, time.as_secs()));
    let progress = Arc::<Progress>::default();
    let run = Run { target, seed, progress: progress.clone() };
    let thread = thread::Builder::new().name(target.name.into()).spawn(move || run.go(time));
    let thread = thread.expect("a thread can be started");
    let (mut inputs_seen, mut since) = (0, Instant::now());
    while !thread.is_finished() {
        thread::sleep(Duration::from_millis(50));
        let inputs_done = progress.inputs_done.load(Ordering::Relaxed);
        if inputs_done != inputs_seen {
            (inputs_seen, since) = (inputs_done, Instant::now());
        } else if since.elapsed() > HANG {
            let input = progress.input.lock().map(|input| input.clone()).unwrap_or_default();
            let path = write("artifacts", &format!("{}-{:016x}", target.name, hash(&input)), &input);
            panic!("{}: hangs on {}, seed {seed:#x}", target.name, path.display());
        }
    }
    if thread.join().is_err() {
        panic!("{}: a promise was broken, see above", target.name);
    }
}

struct Run {
    target: &'static Target,
    seed: u64,
    progress: Arc<Progress>,
}

impl Run {
    fn go(&self, time: Duration) {
        let start = Instant::now();
        let mut pool = corpus(self.target);
        let corpus_files = pool.len();
        assert!(corpus_files > 0, "no corpus of {}", self.target.name);
        let mut shapes: HashSet<String> = pool.iter().flat_map(|input| self.check(input)).collect();
        let keep = setting("FUZZ_KEEP") == Some(1);
        let mut mutator = Mutator::new(self.target, self.seed);
        while start.elapsed() < time {
            let input = mutator.next_input(&pool);
            let mut new = self.check(&input);
            new.retain(|shape| shapes.insert(shape.clone()));
            if !new.is_empty() && pool.len() < MAX_POOL {
                if keep && pool.len() < MAX_CORPUS {
                    let small = self.shrink(&input, &new);
                    write(&format!("corpus/{}", self.target.name), &format!("{:016x}", hash(&small)), &small);
                }
                pool.push(input);
            }
        }
        let inputs = self.progress.inputs_done.load(Ordering::Relaxed);
        let (name, shapes) = (self.target.name, shapes.len());
        say(&format!("{name}: {inputs} inputs, {corpus_files} of the corpus; {shapes} shapes of answers"));
    }

    /// A front part of `input` that still gets all shapes of `wanted` for an answer.
    fn shrink(&self, input: &[u8], wanted: &[String]) -> Vec<u8> {
        let mut small = input.to_vec();
        let mut step = input.len() / 2;
        while step > 0 {
            let mut less = small[..small.len().saturating_sub(step)].to_vec();
            (self.target.seal)(&mut less);
            let shapes = self.check(&less);
            if wanted.iter().all(|shape| shapes.contains(shape)) && less.len() < small.len() {
                small = less;
            } else {
                step /= 2;
            }
        }
        small
    }

    /// The shapes of the answers; a broken promise ends the run with the input kept.
    fn check(&self, input: &[u8]) -> Vec<String> {
        if let Ok(mut shown) = self.progress.input.lock() {
            shown.clear();
            shown.extend_from_slice(input);
        }
        let shapes = catch_unwind(|| (self.target.check)(input));
        self.progress.inputs_done.fetch_add(1, Ordering::Relaxed);
        shapes.unwrap_or_else(|_| {
            let name = self.target.name;
            let path = write("artifacts", &format!("{name}-{:016x}", hash(input)), input);
            panic!("{name}: failed on {}, FUZZ_SEED={:#x} repeats the run", path.display(), self.seed)
        })
    }
}

/// The kept inputs, in a fixed order.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = here().join("corpus").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).collect()
}

/// The number in a variable of the environment, decimal or 0x.
fn setting(name: &str) -> Option<u64> {
    let text = env::var(name).ok().filter(|text| !text.is_empty())?;
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(number.unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

fn write(folder: &str, name: &str, input: &[u8]) -> PathBuf {
    let path = here().join(folder).join(name);
    let written = fs::create_dir_all(here().join(folder)).and_then(|()| fs::write(&path, input));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// FNV-1a.
fn hash(input: &[u8]) -> u64 {
    input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Past the capture of the test harness: a passing run says its seed, too.
fn say(text: &str) {
    // Without standard error there is nobody to tell.
    let _ = writeln!(stderr(), "fuzz {text}");
}
