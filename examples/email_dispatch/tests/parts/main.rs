//! Each part alone.

mod personal;
mod request;
mod template;
