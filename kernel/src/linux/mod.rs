//! The Linux ABI: everything that only programs know. The heart (mm, dax, faults) does not know it; `main`
//! and `traps` call in here, through [`run`] and [`Thread`].
//!
//! | file | family |
//! |---|---|
//! | `call` | the call table: number -> function |
//! | `process`, `thread` | what runs: the table of processes, and the state of one thread |
//! | `start`, `load`, `clone`, `exec`, `exit`, `children` | from the first process to the last one waited for |
//! | `node` | what a file is: the operations of whatever a path names and a descriptor holds |
//! | `tree`, `open`, `stat`, `files`, `io` | paths, opening, metadata, descriptors, reading and writing |
//! | `entries`, `names`, `attributes` | what a directory has, what comes and goes there, what a file is as a whole |
//! | `directory`, `ram`, `inode` | the tree in RAM |
//! | `dev`, `proc`, `sys` | what is in /dev, /proc and /sys |
//! | `arguments`, `script`, `image`, `stack` | argv and envp; a script's first line; an ELF file's segments; a first stack |
//! | `memory`, `advice`, `remap`, `residence`, `brk` | mmap and its kin |
//! | `shm`, `peer` | System V shared memory; copies from and to another process |
//! | `signal` | actions, delivery, frames, return |
//! | `futex`, `poll`, `time` | sleeping until somebody wakes, until a file is ready, until a time |
//! | `pipe`, `timer`, `event`, `epoll` | files that are neither in a tree nor devices |
//! | `alarm` | timers that send signals |
//! | `flock` | locks of files |
//! | `sched`, `session`, `info` | on which CPUs; who belongs together; who am I and where |
//! | `strace` | each call as a line of the log |
//! | `abi`, `errno` | structures; where every errno is born |
//!
//! Every address that a program gives goes through `user_memory`; nothing here is unsafe. A call that waits can be
//! ended by a signal. When all tasks wait and nobody is left to wake one, the youngest process is killed with a line
//! in the log (`start`).
//!
//! Cost: `call::dispatch` is one jump table, and no path that the null system call takes allocates, logs or
//! formats. Functions with buffers on the stack are `inline(never)`: inlined into the table they would make
//! every call probe the stack for them.
#![forbid(unsafe_code)]

mod abi;
mod advice;
mod alarm;
mod arguments;
mod attributes;
mod brk;
mod call;
mod children;
mod clone;
mod dev;
mod directory;
mod entries;
mod epoll;
pub(crate) mod errno;
mod event;
mod exec;
mod exit;
mod files;
mod flock;
mod futex;
pub mod image;
mod info;
mod inode;
mod io;
mod load;
mod memory;
mod names;
mod node;
mod open;
mod peer;
mod pipe;
mod poll;
mod proc;
mod process;
mod ram;
mod remap;
mod residence;
mod sched;
mod script;
mod session;
mod shm;
mod signal;
mod stack;
mod start;
mod stat;
mod strace;
#[cfg(feature = "dax")]
mod sys;
mod thread;
mod time;
mod timer;
mod tree;

pub use arguments::arguments;
pub use load::LoadError;
pub use process::ExitStatus;
pub use signal::Signal;
pub use start::{end_deadlock, run};
pub use strace::trace_calls;
pub use thread::Thread;
