//! The node that operators run, and the command line of Lamina.

mod cli;
mod client;
mod config;
mod daemon;
mod devnet;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::Arguments::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
