use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// One measured value. Bench programs write arrays of these for what criterion can't measure.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    /// `<area>: <what>`.
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    /// What the value is held against, measured in the same run, in the same unit: the floor, or a peer.
    #[serde(default)]
    pub(crate) floor: Option<f64>,
    /// Value by floor.
    #[serde(default)]
    pub(crate) ratio: Option<f64>,
    /// In words or symbols, as `ratio <= 1.5`.
    #[serde(default)]
    pub(crate) target: Option<String>,
    /// Whether the target is met; absent if there's none.
    #[serde(default)]
    pub(crate) holds: Option<bool>,
}

impl Row {
    fn cells(&self) -> [String; 7] {
        let number = |value: Option<f64>| value.map(short).unwrap_or_default();
        let holds = match self.holds {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "report",
        };
        [
            self.name.clone(),
            short(self.value),
            self.unit.clone(),
            number(self.floor),
            number(self.ratio),
            self.target.clone().unwrap_or_default(),
            holds.to_owned(),
        ]
    }
}

/// The rows as one aligned table, numbers to the right.
pub(crate) fn table(rows: &[Row]) -> String {
    let head = ["name", "value", "unit", "floor/peer", "ratio", "target", "holds"];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| {
        lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut text = String::new();
    for cells in &lines {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let padded = match column {
                1 | 3 | 4 => format!("{cell:>width$}  "),
                _ => format!("{cell:<width$}  "),
            };
            line.push_str(&padded);
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Three significant digits, or all before the point.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_shows_each_row_with_its_verdict() {
        let row = |name: &str, target: Option<&str>, holds| Row {
            name: name.into(),
            value: 12.345,
            unit: "µs".into(),
            floor: target.map(|_| 10.0),
            ratio: target.map(|_| 1.2345),
            target: target.map(str::to_owned),
            holds,
        };
        let rows = [
            row("host: call", Some("ratio <= 1.5"), Some(true)),
            row("host: load", Some("ratio <= 1"), Some(false)),
            row("memory", None, None),
        ];
        assert_eq!(
            table(&rows),
            "\
name        value  unit  floor/peer  ratio  target        holds
host: call   12.3  µs          10.0   1.23  ratio <= 1.5  yes
host: load   12.3  µs          10.0   1.23  ratio <= 1    NO
memory       12.3  µs                                     report
"
        );
    }

    #[test]
    fn row_of_a_bench_program_may_lack_what_it_has_not() {
        let row: Row = serde_json::from_str(
            r#"{"name": "node: memory", "value": 31.5, "unit": "MiB", "floor": null}"#,
        )
        .unwrap();
        assert_eq!((row.floor, row.holds), (None, None));
    }
}
