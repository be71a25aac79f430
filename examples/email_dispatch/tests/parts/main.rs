//! Each part alone.
