//! Makes and builds service projects in Rust, JavaScript and Python: WebAssembly components.
//!
//! [`new_project`] writes an example to start from, [`build_project`] builds what came of it. Both work anywhere, without
//! this repository. A component of JavaScript or Python holds a whole engine, started and stopped before `run`; it
//! imports nothing but the contract, and its bytes differ from build to build.
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
mod javascript;
mod project;
mod python;
mod template;
mod toolchain;

pub use error::{Error, Tool};
pub use guest::{Guest, build_guest, build_guest_with};
pub use project::{Built, Kind, Language, build_project, new_project};
pub use toolchain::Toolchain;
