//! Who is on the list, and who waits for whom.
