//! `memmap`: a device through the `memmap2` crate, as a Rust program would use any file.
//!
//! Without a length memmap2 asks the file for it, and `flush` is msync(MS_SYNC): on Linux a device-dax file
//! has size 0 and refuses that flush, so this program shows both differences.

use std::fs::OpenOptions;
use std::io;
use std::process::ExitCode;

use memmap2::{MmapMut, MmapOptions};

/// A multiple of every alignment.
const LEN: usize = 1 << 30;
const TEXT: &[u8] = b"stored through memmap2";

fn store_and_flush(map: &mut MmapMut, at: usize) -> io::Result<()> {
    map[at..at + TEXT.len()].copy_from_slice(TEXT);
    map.flush_range(at, TEXT.len())?;
    map.flush()?;
    map.flush_async()
}

fn run() -> io::Result<(usize, usize)> {
    let path = std::env::var("DAX_DEVICE").unwrap_or_else(|_| "/dev/dax0.0".into());
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    // SAFETY: nobody else maps the device while this program runs: it is the only one in the guest.
    let mut sized = unsafe { MmapOptions::new().len(LEN).map_mut(&file) }?;
    store_and_flush(&mut sized, 100_000)?;
    // SAFETY: as above; this program stores through one of the two at a time.
    let whole = unsafe { MmapMut::map_mut(&file) }?;
    if whole.get(100_000..100_000 + TEXT.len()) != Some(TEXT) {
        return Err(io::Error::other("the mapping of the whole device shows other bytes"));
    }
    Ok((sized.len(), whole.len()))
}

fn main() -> ExitCode {
    match run() {
        Ok((sized, whole)) => {
            println!("memmap: {sized} bytes by len, {whole} bytes by fstat, stored and flushed");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("memmap: {error}");
            ExitCode::FAILURE
        }
    }
}
