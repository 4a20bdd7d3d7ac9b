//! Who has mapped a device: the reverse map, one list a device.
//!
//! 1. mmap and fork insert under the list's lock, and look there whether their generation lives.
//! 2. A removal kills the generation and waits out the grace period; then nothing is inserted any more. It
//!    takes the spaces off the list, some at a time and holding no lock while it unmaps the device from them,
//!    until the list is empty. A space that is being freed cannot be taken: it leaves the list by itself,
//!    when its entries are gone.
//! 3. Nobody enables, destroys or resizes the device while the list is not empty, or while a removal has spaces
//!    in hand whose entries may still live.
//!
//! A device that nobody has mapped has no list, but a lock and a null pointer.

use crate::error::DaxError;
use crate::memory;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use mm::lock::{Rank, SpinLock};
use mm::space::AddressSpace;

/// How many spaces a removal takes at a time: they lie on its stack.
const BATCH: usize = 16;

/// The mappings of a device, and the work under way on it.
pub(crate) struct Mappings(SpinLock<Option<Box<List>>>);

#[derive(Default)]
struct List {
    slots: Vec<Slot>,
    /// The first free slot, or the number of slots.
    free: u32,
    /// Slots that are not free, and those of them that hold a space.
    occupied: u32,
    registered: u32,
    /// Removals with spaces in hand, and scrubs under way.
    at_work: u32,
}

/// A mapping's place on the list, its own until it deregisters.
enum Slot {
    /// With the next free slot.
    Free(u32),
    Space(Weak<AddressSpace>),
    /// A removal took the space.
    Taken,
}

/// What is in the way of a change of the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum InUse {
    /// This many mappings were not unmapped.
    Mapped(u32),
    /// A removal or a scrub is under way.
    AtWork,
}

impl Mappings {
    /// None.
    pub const fn new() -> Mappings {
        Mappings(SpinLock::new(Rank::DeviceMappings, None))
    }

    /// Puts a space on the list, if `is_alive`; `None` when that is not so. Fails with `NoMemory`.
    pub fn register(
        &self,
        space: &Weak<AddressSpace>,
        is_alive: impl FnOnce() -> bool,
    ) -> Result<Option<u32>, DaxError> {
        let mut list = self.0.lock();
        if !is_alive() {
            return Ok(None);
        }
        let slot = existing(&mut list)?.add(space);
        if slot.is_err() {
            forget_if_empty(&mut list);
        }
        slot.map(Some)
    }

    /// Takes a mapping off the list: its entries are gone, or never were.
    pub fn deregister(&self, slot: u32) {
        let mut guard = self.0.lock();
        let Some(list) = guard.as_mut() else { return };
        let free = list.free;
        let Some(place) = list.slots.get_mut(slot as usize) else { return };
        let was = core::mem::replace(place, Slot::Free(free));
        list.free = slot;
        list.occupied -= 1;
        list.registered -= u32::from(matches!(was, Slot::Space(_)));
        let list = forget_if_empty(&mut guard);
        drop(guard);
        // A weak reference may be the last thing that holds a space's memory: not freed under the lock.
        drop((was, list));
    }

    /// Takes some spaces off the list, unless the device `is_alive` (again).
    pub fn take(&self, is_alive: impl FnOnce() -> bool) -> TakenMappings<'_> {
        let mut spaces = <[Option<Arc<AddressSpace>>; BATCH]>::default();
        let mut guard = self.0.lock();
        let Some(list) = guard.as_mut().filter(|_| !is_alive()) else {
            return TakenMappings { of: None, spaces };
        };
        list.at_work += 1;
        list.take(&mut spaces);
        TakenMappings { of: Some(self), spaces }
    }

    /// How many mappings are on the list.
    pub fn count(&self) -> u32 {
        self.0.lock().as_ref().map_or(0, |list| list.registered)
    }

    /// A space on the list, without taking it: who is in the way.
    pub fn first(&self) -> Option<Arc<AddressSpace>> {
        self.next_from(0).map(|(_, space)| space)
    }

    /// Calls `visit` with every space that is on the list all the time, mostly once, however many mappings it has; the
    /// list is not locked then.
    pub fn for_each(&self, mut visit: impl FnMut(&AddressSpace)) {
        let (mut from, mut last) = (0, None);
        while let Some((slot, space)) = self.next_from(from) {
            if last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, &space)) {
                visit(&space);
            }
            (from, last) = (slot + 1, Some(space));
        }
    }

    /// The first space from a slot on, and its slot.
    fn next_from(&self, slot: usize) -> Option<(usize, Arc<AddressSpace>)> {
        let list = self.0.lock();
        list.as_ref()?.slots.iter().enumerate().skip(slot).find_map(|(slot, place)| match place {
            Slot::Space(space) => Some((slot, space.upgrade()?)),
            _ => None,
        })
    }

    /// Runs `change` with nothing mapped, nobody at work, and nobody able to begin.
    pub fn while_unused<R>(&self, change: impl FnOnce() -> R) -> Result<R, InUse> {
        let list = self.0.lock();
        match list.as_deref() {
            Some(&List { registered: count @ 1.., .. }) => Err(InUse::Mapped(count)),
            Some(List { at_work: 1.., .. }) => Err(InUse::AtWork),
            _ => Ok(change()),
        }
    }

    /// Begins work that nobody may change the device during, if it `may_begin`; [`Mappings::end_work`] ends it. Fails
    /// as `may_begin` does, or with `NoMemory`.
    pub fn begin_work(&self, may_begin: impl FnOnce() -> Result<(), DaxError>) -> Result<(), DaxError> {
        let mut list = self.0.lock();
        may_begin()?;
        existing(&mut list)?.at_work += 1;
        Ok(())
    }

    /// Ends what [`Mappings::begin_work`] or a removal began.
    pub fn end_work(&self) {
        let mut guard = self.0.lock();
        if let Some(list) = guard.as_mut() {
            list.at_work -= 1;
        }
        let list = forget_if_empty(&mut guard);
        drop(guard);
        drop(list);
    }
}

/// The list, made when there is none.
fn existing(list: &mut Option<Box<List>>) -> Result<&mut List, DaxError> {
    if list.is_none() {
        memory::room_for::<List>()?;
    }
    Ok(list.get_or_insert_default())
}

/// Takes out a list with nothing on it.
fn forget_if_empty(list: &mut Option<Box<List>>) -> Option<Box<List>> {
    list.take_if(|list| list.at_work == 0 && list.occupied == 0)
}

impl List {
    fn add(&mut self, space: &Weak<AddressSpace>) -> Result<u32, DaxError> {
        let slot = self.free;
        match self.slots.get_mut(slot as usize) {
            Some(place) => {
                if let Slot::Free(next) = *place {
                    self.free = next;
                }
                *place = Slot::Space(space.clone());
            }
            None => {
                memory::reserve_one(&mut self.slots)?;
                self.slots.push(Slot::Space(space.clone()));
                self.free = slot + 1;
            }
        }
        self.occupied += 1;
        self.registered += 1;
        Ok(slot)
    }

    /// Takes as many spaces as there is room for, each once with all its mappings: a revocation clears them all.
    fn take(&mut self, spaces: &mut [Option<Arc<AddressSpace>>]) {
        let mut count = 0;
        for slot in &mut self.slots {
            let Slot::Space(space) = slot else { continue };
            let is_in_hand = spaces.iter().flatten().any(|taken| Arc::as_ptr(taken) == space.as_ptr());
            if !is_in_hand {
                let Some(place) = spaces.get_mut(count) else { continue };
                let Some(space) = space.upgrade() else { continue };
                *place = Some(space);
                count += 1;
            }
            *slot = Slot::Taken;
            self.registered -= 1;
        }
    }
}

/// Spaces that a removal has in hand: each must have the device unmapped before this is dropped.
#[must_use]
pub struct TakenMappings<'a> {
    of: Option<&'a Mappings>,
    spaces: [Option<Arc<AddressSpace>>; BATCH],
}

impl TakenMappings<'_> {
    /// The spaces, each with all its mappings of the device.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<AddressSpace>> {
        self.spaces.iter().flatten()
    }
}

impl Drop for TakenMappings<'_> {
    fn drop(&mut self) {
        // If ours are the last references, the spaces go now, with their tables; only then is the work done.
        self.spaces = Default::default();
        if let Some(mappings) = self.of {
            mappings.end_work();
        }
    }
}

#[cfg(test)]
mod tests;
