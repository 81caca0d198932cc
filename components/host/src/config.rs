use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::http::HttpConfig;
use crate::llm::LlmConfig;

/// What an operator gives to services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most tasks that run at once; 1 to 1024. A run beyond them abstains.
    pub instances_max: u32,
    /// Most memory that a service may ask for, in bytes for each task; at most 4 GiB.
    pub memory_bytes_max: u64,
    /// Most fuel that a service may ask for. A unit takes about a nanosecond.
    pub fuel_max: u64,
    /// Most that a task may log, in bytes; what exceeds it is dropped and counted.
    pub log_bytes_max: u32,
    /// How long a task may run before this operator abstains from it.
    #[serde(with = "humantime_serde")]
    pub wall_time_max: Duration,
    /// Whether the address space of all instances is reserved at the start, which makes a run cheaper by tens of microseconds.
    ///
    /// It takes 16 GiB of address space, not of memory, for each of `instances_max`: switch it off where that's limited
    /// (`ulimit -v`, small virtual machines). Outcomes are the same.
    pub pooled: bool,
    /// What oracles reach by HTTP.
    pub http: HttpConfig,
    /// The language model that oracles ask; none by default.
    pub llm: Option<LlmConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            instances_max: 32,
            memory_bytes_max: 512 << 20,
            fuel_max: 100_000_000_000,
            log_bytes_max: 16 << 10,
            wall_time_max: Duration::from_secs(60),
            pooled: true,
            http: HttpConfig::default(),
            llm: None,
        }
    }
}

impl Config {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field out of its range.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let within = |field, value: u64, min: u64, max: u64| {
            let inside = (min..=max).contains(&value);
            if inside { Ok(()) } else { Err(Error::Config { field, value, min, max }) }
        };
        within("instances_max", self.instances_max.into(), 1, 1024)?;
        within("memory_bytes_max", self.memory_bytes_max, 64 << 10, 4 << 30)?;
        let wall_time_ms = u64::try_from(self.wall_time_max.as_millis()).unwrap_or(u64::MAX);
        within("wall_time_max (in ms)", wall_time_ms, 1, 24 * 60 * 60 * 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_with_their_unit() {
        let config: Config = toml::from_str("wall_time_max = \"500ms\"\nfuel_max = 7").unwrap();
        assert_eq!(config.wall_time_max, Duration::from_millis(500));
        assert_eq!(
            config,
            Config { fuel_max: 7, wall_time_max: config.wall_time_max, ..Config::default() }
        );
        assert!(toml::to_string(&config).unwrap().contains("wall_time_max = \"500ms\""));
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(toml::from_str::<Config>("fuel = 7").is_err());
    }

    #[test]
    fn values_out_of_range_are_named() {
        let config = Config { instances_max: 0, ..Config::default() };
        let error = config.check().unwrap_err().to_string();
        assert_eq!(error, "instances_max is 0; choose 1 to 1024");
    }
}
