//! `--plot`: the latencies of a run as a picture, each share of the records with the time it took.

use std::{fmt::Write as _, fs, path::Path};

use crate::{exit::Failure, output::Thousands, verbs::bench::latency::Latencies};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 80.0;
const TOP: f64 = 56.0;
const RIGHT: f64 = 24.0;
const BOTTOM: f64 = 48.0;

/// Shares that are named below the picture. Each further nine is as far as the one before.
const SHARES: [(f64, &str); 6] = [
    (0.0, "0"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
    (0.99999, "99.999 %"),
];
/// Nines from the left edge to the right one.
const NINES_MAX: f64 = 5.0;
/// Points of a line between two nines.
const POINTS_PER_NINE: u32 = 20;

/// Writes the picture to a file.
pub(crate) fn write(path: &Path, title: &str, lines: &[(&str, &Latencies)]) -> Result<(), Failure> {
    fs::write(path, svg(title, lines))
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
}

/// Says before a run that its drawing could not be written after it. What is there stays as it is.
pub(crate) fn try_out(path: &Path) -> Result<(), Failure> {
    let opened = fs::OpenOptions::new().create(true).append(true).open(path);
    opened
        .map(drop)
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
}

/// One line for each of the named latencies.
fn svg(title: &str, lines: &[(&str, &Latencies)]) -> String {
    let lines: Vec<_> = lines
        .iter()
        .filter(|(_, latencies)| latencies.len() > 0)
        .collect();
    let most = lines
        .iter()
        .map(|(_, latencies)| latencies.max_micros())
        .max();
    let least = lines
        .iter()
        .map(|(_, latencies)| latencies.micros_at(0.0))
        .min();
    let bottom = (least.unwrap_or(1).max(1) as f64).log10().floor();
    let top = (most.unwrap_or(10).max(10) as f64)
        .log10()
        .ceil()
        .max(bottom + 1.0);
    let x = |share: f64| {
        let nines = -(1.0 - share).log10();
        LEFT + nines / NINES_MAX * (WIDTH - LEFT - RIGHT)
    };
    let y = |micros: u64| {
        let high = ((micros.max(1) as f64).log10() - bottom) / (top - bottom);
        HEIGHT - BOTTOM - high * (HEIGHT - TOP - BOTTOM)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#444\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\" fill=\"#111\">{}</text>\n",
        escaped(title)
    );
    for power in bottom as i32..=top as i32 {
        let micros = 10_u64.pow(power.unsigned_abs());
        let (at, end) = (y(micros), WIDTH - RIGHT);
        put(
            &mut svg,
            format_args!(
                "<path d=\"M{LEFT} {at:.1}H{end}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{} µs</text>\n",
                LEFT - 8.0,
                at + 4.0,
                Thousands(micros)
            ),
        );
    }
    for (share, name) in SHARES {
        put(
            &mut svg,
            format_args!(
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>\n",
                x(share),
                HEIGHT - BOTTOM + 20.0
            ),
        );
    }
    for ((name, latencies), colour) in lines.into_iter().zip(COLOURS) {
        put(
            &mut svg,
            format_args!("<path fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" d=\""),
        );
        for point in 0..=NINES_MAX as u32 * POINTS_PER_NINE {
            let share = 1.0 - 10_f64.powf(-f64::from(point) / f64::from(POINTS_PER_NINE));
            let command = if point == 0 { 'M' } else { 'L' };
            let at = y(latencies.micros_at(share));
            put(&mut svg, format_args!("{command}{:.1} {at:.1}", x(share)));
        }
        let (at, end) = (
            y(latencies.micros_at(1.0 - 10_f64.powf(-NINES_MAX))),
            WIDTH - RIGHT,
        );
        put(
            &mut svg,
            format_args!(
                "\"/>\n<text x=\"{end}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{colour}\">{}</text>\n",
                at - 8.0,
                escaped(name)
            ),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

const COLOURS: [&str; 2] = ["#0a6", "#06c"];

fn put(svg: &mut String, text: std::fmt::Arguments<'_>) {
    svg.write_fmt(text).expect("a string takes everything");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_run_makes_a_sound_picture() {
        let mut latencies = Latencies::new();
        let none = Latencies::new();
        let empty = svg("nothing", &[("ack", &none)]);
        for micros in 1..=10_000 {
            latencies.add(Duration::from_micros(micros));
        }
        let mut one = Latencies::new();
        one.add(Duration::from_micros(7));
        let full = svg("a & b <topic>", &[("ack", &latencies), ("e2e", &one)]);
        assert!(full.contains("a &amp; b &lt;topic&gt;"));
        assert_eq!(full.matches("<path fill=\"none\"").count(), 2);
        assert_eq!(empty.matches("<path fill=\"none\"").count(), 0);
        for picture in [empty, full] {
            assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
            assert!(
                !picture.contains("NaN") && !picture.contains("inf"),
                "{picture}"
            );
        }
    }
}
