//! Computes the parameter `direction` of the parameter `exemplars`.
//!
//!     cargo run --release -p bouncer --example embed-exemplars -- [folder of exemplars.toml]
//!
//! Writes `direction.toml` beside `exemplars.toml`; with `--check` as a second argument it compares instead, as anyone can
//! who wants to know whether the owner computed it rightly.

use std::path::Path;
use std::{env, fs};

use anyhow::{Context as _, ensure};
use bouncer::model::MiniLm;
use bouncer::{Direction, Exemplars, Host as _, Native};

fn main() -> anyhow::Result<()> {
    let here = env!("CARGO_MANIFEST_DIR").to_owned();
    let folder = env::args().nth(1).unwrap_or(here);
    let folder = Path::new(&folder);
    let exemplars = fs::read_to_string(folder.join("exemplars.toml")).context("exemplars.toml")?;
    let host = Native::with_models().context("the models are absent: run cargo xtask models")?;
    let blob = |name| host.blob(name).context("a model's file can't be opened");
    let model = MiniLm::load(blob("minilm")?, &blob("vocabulary")?)?;
    let direction = Direction::of(&Exemplars::parse(&exemplars)?, &model)?.write(&exemplars);
    let path = folder.join("direction.toml");
    if env::args().nth(2).as_deref() == Some("--check") {
        ensure!(fs::read_to_string(&path)? == direction, "direction.toml is of something else");
        println!("direction.toml is right");
    } else {
        fs::write(&path, direction)?;
        println!("wrote {}", path.display());
    }
    Ok(())
}
