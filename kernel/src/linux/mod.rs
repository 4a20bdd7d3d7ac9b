//! The Linux ABI: everything that only programs know. The heart (mm, dax, faults) does not know it; `main`
//! and `traps` call in here, through [`load()`] and [`Process`].
//!
//! | file | family |
//! |---|---|
//! | `call` | the call table: number -> function |
//! | `process`, `load` | a program: its start, its state, its end |
//! | `tree`, `open`, `stat`, `files`, `io` | paths, opening, metadata, descriptors, reading and writing |
//! | `dev`, `proc` | what is in /dev and /proc |
//! | `arguments`, `image`, `stack` | argv and envp; an ELF file's segments; a program's first stack |
//! | `memory`, `advice`, `brk` | mmap and its kin |
//! | `signal` | actions, delivery, frames, return |
//! | `time`, `wait`, `info` | clocks; poll and futex; who am I and where |
//! | `abi`, `errno` | structures; where every errno is born |
//!
//! Every address that a program gives goes through `user_memory`; nothing here is unsafe. One program runs
//! at a time and nobody else can wake it, so a call that would wait for somebody ends the program with a
//! line in the log instead of hanging (`wait`).
//!
//! Cost: `call::dispatch` is one jump table, and no path that the null system call takes allocates, logs or
//! formats. Functions with buffers on the stack are `inline(never)`: inlined into the table they would make
//! every call probe the stack for them.
#![forbid(unsafe_code)]

mod abi;
mod advice;
mod arguments;
mod brk;
mod call;
mod dev;
mod errno;
mod files;
pub mod image;
mod info;
mod io;
mod load;
mod memory;
mod open;
mod proc;
mod process;
mod signal;
mod stack;
mod stat;
mod time;
mod tree;
mod wait;

pub use arguments::arguments;
pub use load::{LoadError, load};
pub use process::{ExitStatus, Process};
pub use signal::Signal;
