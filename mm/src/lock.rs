//! The two locks of the house, named in one place.
//!
//! Order, outermost first: a space's lock, the heap's, the frame allocator's. The spin locks are unfair
//! test-and-set locks and are taken with preemption off.

/// A short critical section.
pub type SpinLock<T> = spin::mutex::SpinMutex<T>;

/// An address space's lock: faults shared, everything else exclusive. It becomes a sleeping lock when
/// threads come, which is why it has a name of its own.
pub type SpaceLock<T> = spin::rwlock::RwLock<T>;
