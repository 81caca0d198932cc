//! The modules of value over a state in memory: stories of each, and a plain model beside them.

mod governance;
mod model;
mod rewards;
mod slashing;
mod solvency;
mod vaults;
mod world;
