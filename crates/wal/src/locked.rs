//! One way to take a mutex.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Takes a mutex, also after a thread panicked while it had it. What is guarded in this crate is
/// whole at every moment, or has an owner who sees to that: a panic in one place shall not become
/// a panic in every other.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits to be called, and takes the mutex again in the same way.
pub(crate) fn wait<'s, T>(on: &Condvar, guard: MutexGuard<'s, T>) -> MutexGuard<'s, T> {
    on.wait(guard).unwrap_or_else(PoisonError::into_inner)
}
