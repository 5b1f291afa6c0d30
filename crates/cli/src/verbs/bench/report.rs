//! What a bench says at its end: one line of JSON, or a few lines for people.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::{
    exit::Failure,
    output::{Output, Paint, Thousands},
    verbs::bench::{
        latency::Latencies,
        machine::Cost,
        verdict::{Judged, bar, verdict},
    },
};

/// A report in the making: the JSON object and the lines for people grow together.
pub(crate) struct Report {
    fields: Map<String, Value>,
    lines: Vec<(String, String)>,
    verdict: Option<(Paint, String)>,
}

impl Report {
    /// Of this bench, on this topic.
    pub(crate) fn new(bench: &str, topic: &str) -> Self {
        let mut report = Self {
            fields: Map::new(),
            lines: Vec::new(),
            verdict: None,
        };
        report.field("bench", bench);
        report.field("topic", topic);
        report
    }

    /// A field of the object that people are not told.
    pub(crate) fn field(&mut self, name: &str, value: impl Into<Value>) {
        self.fields.insert(name.to_owned(), value.into());
    }

    /// A line that only people are told.
    pub(crate) fn line(&mut self, name: &str, text: impl Into<String>) {
        self.lines.push((name.to_owned(), text.into()));
    }

    /// How many records in how long, and of how many bytes.
    pub(crate) fn throughput(&mut self, records: u64, bytes: u64, time: Duration) {
        let seconds = time.as_secs_f64().max(f64::MIN_POSITIVE);
        let (records_rate, bytes_rate) = (records as f64 / seconds, bytes as f64 / seconds);
        self.field("records", records);
        self.field("bytes", bytes);
        self.field("seconds", rounded(time.as_secs_f64(), 3));
        self.field("records_per_second", rounded(records_rate, 1));
        self.field("bytes_per_second", rounded(bytes_rate, 1));
        self.line(
            "records",
            format!("{} in {:.1} s", Thousands(records), time.as_secs_f64()),
        );
        self.line(
            "throughput",
            format!(
                "{} records/s, {:.2} MB/s",
                Thousands(records_rate as u64),
                bytes_rate / 1e6
            ),
        );
    }

    /// Latencies under this name; nulls if there are none.
    pub(crate) fn latency(&mut self, name: &str, latencies: &Latencies) {
        let known = latencies.len() > 0;
        let value = |micros: u64| if known { json!(micros) } else { Value::Null };
        let shares = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];
        let mut rows = Vec::new();
        for (share, quantile) in shares {
            let micros = latencies.micros_at(quantile);
            self.field(&format!("{name}_{share}_us"), value(micros));
            rows.push((share, micros));
        }
        rows.push(("max", latencies.max_micros()));
        self.field(&format!("{name}_max_us"), value(latencies.max_micros()));
        let mean = if known {
            json!(rounded(latencies.mean_micros(), 1))
        } else {
            Value::Null
        };
        self.field(&format!("{name}_mean_us"), mean);
        if !known {
            self.line(name, "nothing to measure");
            return;
        }
        let mut name = name;
        for (share, micros) in rows {
            let shown = Thousands(micros).to_string();
            self.line(name, format!("{share:<5}{shown:>12} µs  {}", bar(micros)));
            name = "";
        }
    }

    /// What it all means.
    pub(crate) fn verdict(&mut self, judged: &Judged) {
        let (paint, text) = verdict(judged);
        self.field("verdict", text.as_str());
        self.verdict = Some((paint, text));
    }

    /// What it cost, for so many records. What cannot be known is null.
    pub(crate) fn cost(&mut self, cost: &Cost, pids: &[u32], records: u64) {
        let per_million = |cpu: Duration| {
            (records > 0).then(|| rounded(cpu.as_secs_f64() * 1e6 / records as f64, 3))
        };
        let known = cost.servers > 0 && cost.vanished == 0;
        let of_servers = |value: Option<f64>| value.filter(|_| known);
        let own = per_million(cost.own_cpu);
        let servers = of_servers(per_million(cost.server_cpu));
        let all = of_servers(per_million(cost.server_cpu + cost.own_cpu));
        self.field("cpu_s_per_million", all);
        self.field("server_cpu_s_per_million", servers);
        self.field("own_cpu_s_per_million", own);
        self.field("server_pids", pids);
        self.field("bytes_written", known.then_some(cost.written));
        let text = |value: Option<f64>| {
            value.map_or_else(|| "unknown".into(), |value| format!("{value:.2}"))
        };
        self.line(
            "CPU s/million",
            format!(
                "{} (servers {}, this bench {})",
                text(all),
                text(servers),
                text(own)
            ),
        );
        let counted = match (cost.servers, cost.vanished) {
            (0, 0) => {
                "no `kontiki serve` process was found on this machine; name them with --pids".into()
            }
            (_, 0) => format!(
                "processes {}",
                pids.iter()
                    .map(u32::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            (_, gone) => format!(
                "{gone} of {} ended meanwhile, so their cost is unknown",
                pids.len()
            ),
        };
        self.line("servers", counted);
        if known {
            self.line(
                "written",
                format!("{:.2} MB by the servers", cost.written as f64 / 1e6),
            );
        }
    }

    /// Says it.
    pub(crate) fn say(self, output: Output) -> Result<(), Failure> {
        output.say(&self.fields, |output| {
            let lines = self.lines.iter().map(|(name, text)| {
                format!(
                    "{} {text}",
                    output.paint(Paint::Bold, &format!("{name:<14}"))
                )
            });
            let verdict = self.verdict.iter().map(|(paint, text)| {
                let name = output.paint(Paint::Bold, &format!("{:<14}", "verdict"));
                format!("{name} {}", output.paint(*paint, text))
            });
            lines.chain(verdict).collect::<Vec<_>>().join("\n")
        })
    }
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(servers: usize, vanished: usize) -> Cost {
        Cost {
            servers,
            vanished,
            server_cpu: Duration::from_secs(3),
            own_cpu: Duration::from_secs(1),
            written: 10,
        }
    }

    #[test]
    fn the_contract_s_names_are_there() {
        let mut report = Report::new("append", "t");
        let mut latencies = Latencies::new();
        latencies.add(Duration::from_micros(100));
        report.throughput(2_000_000, 200_000_000, Duration::from_secs(10));
        report.latency("ack", &latencies);
        report.cost(&cost(3, 0), &[1, 2, 3], 2_000_000);
        let value = |name: &str| report.fields[name].as_f64().unwrap();
        assert_eq!(value("records_per_second"), 200_000.0);
        assert_eq!(value("bytes_per_second"), 20_000_000.0);
        for name in ["ack_p50_us", "ack_p99_us", "ack_p999_us"] {
            assert_eq!(value(name), 101.0, "{name}");
        }
        assert_eq!(value("cpu_s_per_million"), 2.0);
        assert_eq!(value("bytes_written"), 10.0);
    }

    #[test]
    fn what_is_not_known_is_null() {
        let mut report = Report::new("append", "t");
        report.latency("ack", &Latencies::new());
        report.cost(&cost(0, 0), &[], 10);
        assert_eq!(report.fields["ack_p50_us"], Value::Null);
        assert_eq!(report.fields["cpu_s_per_million"], Value::Null);
        report.cost(&cost(2, 1), &[1, 2, 3], 10);
        assert_eq!(report.fields["cpu_s_per_million"], Value::Null);
        assert_eq!(report.fields["bytes_written"], Value::Null);
    }
}
