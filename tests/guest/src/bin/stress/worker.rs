//! A worker process: rounds of opening a device, mapping it, and a team of threads that fault on it, drop
//! entries, map parts once more and fork, until the device dies under them or the round is over.

use std::cell::Cell;
use std::thread;

use guest::device::Align;
use guest::fault::{self, Fault};
use guest::kernel_view::Counters;
use guest::mapping::Mapping;
use guest::process::{self, Child, Ended};
use guest::random::Random;
use guest::sys::{self, Errno, RW};
use libc::MAP_SHARED;

use crate::board::{Board, Count, Phase, State};
use crate::pattern::{CELL, Found, judge, word};
use crate::{Options, Scrub};

/// Things that a thread does in a round.
const STEPS: usize = 4000;
/// Units that a forked child touches.
const CHILD_UNITS: usize = 8;
/// Enough for a thread that calls the kernel and counts.
const STACK_BYTES: usize = 128 << 10;

/// What ends a round before its time.
enum End {
    /// The device was killed: all is well.
    Dead,
    /// What must not be.
    Wrong(String),
}

impl From<String> for End {
    fn from(what: String) -> End {
        End::Wrong(what)
    }
}

/// Rounds until everybody is told to stop. The status of the process.
pub fn run(board: Board, options: &Options, process: usize) -> i32 {
    let mut random = Random::new(options.seed.wrapping_mul(1000).wrapping_add(process as u64));
    let mut counted = 0;
    process::run_on(!1);
    while !board.is_stopped() {
        let outcome = round(&board, options, process, &mut random).and_then(|()| {
            let faults = Counters::read()?.all_faults();
            board.add(Count::Faults, faults - counted);
            counted = faults;
            Ok(())
        });
        if let Err(what) = outcome {
            board.fail(&format!("process {process}: {what}"));
        }
    }
    board.is_failed().into()
}

/// One device, from open to close.
fn round(board: &Board, options: &Options, process: usize, random: &mut Random) -> Result<(), String> {
    let slot = random.below(options.devices);
    let state = board.state(slot);
    if state.phase != Phase::Alive {
        let _ = sys::numbers(libc::SYS_sched_yield, &[]);
        return Ok(());
    }
    let name = board.name(state);
    let fd = match sys::open(&name.node(), libc::O_RDWR) {
        Ok(fd) => fd,
        // The kill was announced before it began.
        Err(Errno(libc::ENXIO | libc::ENOENT)) if board.state(slot) != state => {
            board.add(Count::OpenRefused, 1);
            return Ok(());
        }
        Err(errno) => return Err(format!("open of {name}, which is alive: {errno}")),
    };
    let born = board.born(slot);
    let result = if board.state(slot) == state {
        let life = Life {
            board,
            slot,
            state,
            born,
            fd,
            align: options.align,
            scrub: options.scrub,
            devices: options.devices as u64,
        };
        life.team(options, process, random)
    } else {
        Ok(())
    };
    sys::close(fd).map_err(|errno| format!("close of {name}: {errno}"))?;
    result
}

/// One generation of a device in the hands of one process.
struct Life<'a> {
    board: &'a Board,
    slot: usize,
    state: State,
    born: u64,
    fd: i32,
    align: Align,
    scrub: Scrub,
    devices: u64,
}

impl Life<'_> {
    /// Maps the device whole and lets every thread loose on it.
    fn team(&self, options: &Options, process: usize, random: &mut Random) -> Result<(), String> {
        let size = sys::fstat(self.fd).map_err(|errno| format!("fstat: {errno}"))?.st_size as usize;
        let align = self.align.bytes();
        if size == 0 || !size.is_multiple_of(align) {
            return Err(format!("the device has {size} bytes at {}", self.align));
        }
        let whole = match self.map(size, 0) {
            Ok(mapping) => mapping,
            Err(End::Dead) => return Ok(()),
            Err(End::Wrong(what)) => return Err(what),
        };
        // Every other process is alone with its mapping: what it drops concerns no other CPU, and it faults most.
        let threads = if process.is_multiple_of(2) { options.threads } else { 1 };
        let member = |number: usize, random: Random| {
            let worker = process * options.threads + number;
            Member { life: self, whole: &whole, units: size / align, worker, random, touches: Cell::new(0) }
        };
        let outcomes: Vec<Result<(), End>> = thread::scope(|scope| {
            let team: Vec<_> = (1..threads)
                .map(|number| {
                    let member = member(number, Random::new(random.bits()));
                    let builder = thread::Builder::new().stack_size(STACK_BYTES);
                    builder
                        .spawn_scoped(scope, || member.work())
                        .map_err(|error| format!("a thread: {error}"))
                })
                .collect();
            let own = member(0, Random::new(random.bits())).work();
            let joined = team
                .into_iter()
                .map(|thread| thread?.join().unwrap_or_else(|_| Err(End::Wrong("a thread panicked".into()))));
            joined.chain([own]).collect()
        });
        let mut is_dead = false;
        for outcome in outcomes {
            match outcome {
                Ok(()) => {}
                Err(End::Dead) => is_dead = true,
                Err(End::Wrong(what)) => return Err(what),
            }
        }
        if is_dead && !matches!(self.map(align, 0), Err(End::Dead)) {
            return Err("mmap on the descriptor of a killed device was not refused with ENXIO".into());
        }
        sys::munmap(whole.addr, whole.len).map_err(|errno| format!("munmap of {size:#x} bytes: {errno}"))
    }

    /// Whether a generation was this very device, before it was disabled or resized.
    fn is_own(&self, older: u64) -> bool {
        older >= self.born && older % self.devices == self.slot as u64
    }

    fn map(&self, len: usize, offset: usize) -> Result<Mapping, End> {
        match Mapping::new(0, len, RW, MAP_SHARED, self.fd, offset as u64) {
            Ok(mapping) => {
                self.board.add(Count::Mmaps, 1);
                Ok(mapping)
            }
            Err(Errno(libc::ENXIO)) if self.board.state(self.slot) != self.state => {
                self.board.add(Count::MmapRefused, 1);
                Err(End::Dead)
            }
            Err(errno) => Err(End::Wrong(format!("mmap of {len:#x} at {offset:#x}, alive: {errno}"))),
        }
    }

    /// A fault must be the one of a killed device, and the kill must have been announced.
    fn died(&self, fault: Fault, addr: usize) -> End {
        if fault.to_string() != "SIGBUS/ADRERR" || fault.addr != addr {
            return End::Wrong(format!("touch of {addr:#x}: {fault} at {:#x}", fault.addr));
        }
        if self.board.state(self.slot) == self.state {
            return End::Wrong(format!("SIGBUS at {addr:#x} of a device that is alive"));
        }
        self.board.add(Count::Sigbus, 1);
        End::Dead
    }
}

/// One thread of a team.
struct Member<'a> {
    life: &'a Life<'a>,
    whole: &'a Mapping,
    units: usize,
    worker: usize,
    random: Random,
    touches: Cell<u64>,
}

/// Whether this thread has stored to a cell in this round, so that it must find its own word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Yes,
    Perhaps,
}

impl Member<'_> {
    fn work(mut self) -> Result<(), End> {
        let mut written = vec![Written::Perhaps; self.units];
        let mut outcome = Ok(());
        // Few units are soon touched all: then entries must go more often, for touches to be faults.
        let drops = (512 / self.units).clamp(8, 64);
        for _ in 0..STEPS {
            if outcome.is_err() || self.life.board.is_stopped() {
                break;
            }
            outcome = match self.random.below(256) {
                0 => self.fork(),
                1..=3 => self.map_again(&mut written),
                die if die < 4 + drops => self.drop_entries(),
                _ => {
                    let unit = self.random.below(self.units);
                    self.touch(self.whole, 0, unit, &mut written)
                }
            };
        }
        self.life.board.add(Count::Touches, self.touches.get());
        outcome
    }

    /// Loads this worker's cell of a unit, judges it, stores to it. `mapping` begins at `first` of the device.
    fn touch(
        &self,
        mapping: &Mapping,
        first: usize,
        unit: usize,
        written: &mut [Written],
    ) -> Result<(), End> {
        let life = self.life;
        let (align, generation) = (life.align.bytes(), life.state.generation);
        // Not always the first page of the unit.
        let offset = unit * align + unit * 4096 % align.min(8 * 4096) + self.worker * CELL;
        let addr = mapping.addr + offset - first;
        let before = life.board.state(life.slot);
        let found = fault::load_word(addr).map_err(|fault| life.died(fault, addr))?;
        if before.is_end_of(generation) {
            let what =
                format!("a load from {addr:#x} worked when generation {generation} was dead: {before:?}");
            return Err(End::Wrong(what));
        }
        let wrong = |what: &str| {
            format!(
                "generation {generation}, born {}, worker {}, byte {offset:#x}: {what} {found:#018x}",
                life.born, self.worker
            )
        };
        match judge(found, generation, self.worker, offset) {
            Found::Wrong => return Err(wrong("another's word").into()),
            Found::Ours => {}
            Found::Nothing | Found::Older(_) if written[unit] == Written::Yes => {
                return Err(wrong("our word is lost:").into());
            }
            Found::Older(older) if life.scrub == Scrub::Required && !life.is_own(older) => {
                return Err(wrong("not scrubbed:").into());
            }
            Found::Older(_) => life.board.add(Count::OldBytes, 1),
            Found::Nothing => {}
        }
        life.board.touch(life.slot, generation);
        fault::store_word(addr, word(generation, self.worker, offset))
            .map_err(|fault| life.died(fault, addr))?;
        written[unit] = Written::Yes;
        self.touches.set(self.touches.get() + 2);
        Ok(())
    }

    /// Maps a part of the device, touches it, unmaps half of it, touches the rest.
    fn map_again(&mut self, written: &mut [Written]) -> Result<(), End> {
        let align = self.life.align.bytes();
        let first = self.random.below(self.units);
        let count = (1 + self.random.below(16)).min(self.units - first);
        let part = self.life.map(count * align, first * align)?;
        for unit in first..first + count {
            self.touch(&part, first * align, unit, written)?;
        }
        let half = count.div_ceil(2);
        sys::munmap(part.addr, half * align).map_err(|errno| format!("munmap of half: {errno}"))?;
        self.life.board.add(Count::Unmaps, 1);
        // Another thread may map at the freed addresses: what is left is unmapped alone.
        let rest = Mapping { addr: part.addr + half * align, len: (count - half) * align };
        std::mem::forget(part);
        for unit in first + half..first + count {
            self.touch(&rest, (first + half) * align, unit, written)?;
        }
        Ok(())
    }

    /// Takes the team's entries away: what it touches next faults again. Half of the time the kernel is asked
    /// to install them all at once, which is when a kill meets most installs in flight.
    fn drop_entries(&mut self) -> Result<(), End> {
        let (life, addr, len) = (self.life, self.whole.addr, self.whole.len);
        sys::madvise(addr, len, libc::MADV_DONTNEED).map_err(|errno| format!("MADV_DONTNEED: {errno}"))?;
        life.board.add(Count::Unmaps, 1);
        if self.random.one_in(2) {
            return Ok(());
        }
        match sys::madvise(addr, len, libc::MADV_POPULATE_WRITE) {
            Ok(()) => Ok(()),
            Err(Errno(libc::EFAULT)) if life.board.state(life.slot) != life.state => Err(End::Dead),
            Err(errno) => Err(format!("MADV_POPULATE_WRITE of a device that is alive: {errno}").into()),
        }
    }

    /// A child touches what it inherited; it has this thread alone, which waits for it.
    fn fork(&self) -> Result<(), End> {
        const DEAD: i32 = 1;
        const WRONG: i32 = 2;
        let touch_all = || {
            let mut faults = 0;
            let mut outcome = Ok(());
            for unit in 0..self.units.min(CHILD_UNITS) {
                outcome = self.touch(self.whole, 0, unit, &mut [Written::Perhaps; CHILD_UNITS]);
                if outcome.is_err() {
                    break;
                }
                faults += 1;
            }
            self.life.board.add(Count::Faults, faults);
            match outcome {
                Ok(()) => 0,
                Err(End::Dead) => DEAD,
                Err(End::Wrong(what)) => {
                    self.life.board.fail(&format!("a child: {what}"));
                    WRONG
                }
            }
        };
        let ended =
            process::fork(touch_all).and_then(Child::wait).map_err(|errno| format!("fork: {errno}"))?;
        self.life.board.add(Count::Forks, 1);
        match ended {
            Ended::Exited(0) => Ok(()),
            Ended::Exited(DEAD) => Err(End::Dead),
            other => Err(format!("a child ended with {other:?}").into()),
        }
    }
}
