//! Builds Rust guests into WebAssembly components, with or without rustup's Wasm target.
//!
//! [`build_guest`] compiles a `cdylib` crate for `wasm32-unknown-unknown` with the workspace's profile `guest`, into a
//! target folder of its own, and wraps the module into a component by the world that `wit-bindgen` left in it.
//! Paths of this machine are mapped away, so that equal compilers give equal bytes in every checkout; other compilers give
//! other bytes, which is why services name their component by its hash.
//!
//! The [`Toolchain`] is the first that works: cargo's own, if its compiler has the target or rustup can add it, or else
//! Debian's `rustc-web` with `rust-web-src`, from which the standard library is built. `LAMINA_GUEST_TOOLCHAIN` forces
//! one of `rustup` and `debian`.
//!
//! ```no_run
//! # use std::path::Path;
//! let guest = lamina_component_build::build_guest(Path::new("components/services/moderator"), None)?;
//! println!("{} has {} bytes", guest.path.display(), guest.bytes.len());
//! # Ok::<(), lamina_component_build::Error>(())
//! ```

mod command;
mod error;
mod guest;
mod toolchain;

pub use error::Error;
pub use guest::{Guest, build_guest, build_guest_with};
pub use toolchain::Toolchain;
