//! What must not compile: see `tests/compile_fail.rs`.
