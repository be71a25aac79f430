//! Pages to read: composing policies, testing, and coming from Resilience4j. There is nothing to call here.

#[doc = include_str!("composing.md")]
pub mod composing {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("from_resilience4j.md")]
pub mod from_resilience4j {}

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
