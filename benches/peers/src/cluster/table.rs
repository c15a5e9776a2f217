//! The figures for people.

use std::io::{self, Write};

use crate::cluster::summary::{METRICS, Spread, Summary, THROUGHPUT};
use crate::cluster::system::{FLOOR, OURS, Row};
use crate::cluster::work::Work;

/// How the columns are headed.
const HEAD: &str = concat!(
    "system                   ops/s  lowest-highest    ours/it  it/floor   p50 us   p99 us",
    "  p99.9 us  cpu us/op  load us/op  failed"
);

/// Prints a table for each work, and one of the systems themselves.
pub(crate) fn print(summary: &Summary, works: &[Work]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let Summary { rounds, seconds, .. } = summary;
    writeln!(
        out,
        "Medians of at most {rounds} rounds of {seconds} s, each with fresh servers. cpu is that \
         of all servers, load that of the load program."
    )?;
    for work in works {
        writeln!(out, "\n{} ({})\n{HEAD}", work.title(), work.name)?;
        for row in summary.rows(work) {
            writeln!(out, "{}", line(summary, work, row))?;
            if let Some(error) = summary.first_error(row, work) {
                writeln!(out, "    the first that failed: {error}")?;
            }
        }
    }
    systems(&mut out, summary)?;
    out.flush()
}

fn line(summary: &Summary, work: &Work, row: Row) -> String {
    let median = |row| summary.spread(row, work, THROUGHPUT).map(|it| it.median);
    let ratio = |over: Option<f64>, under: Option<f64>| match over.zip(under) {
        Some((over, under)) if under > 0.0 => format!("{:.2}", over / under),
        _ => String::new(),
    };
    let ours = ratio(median(OURS), median(row));
    let floor = ratio(median(row), median(FLOOR));
    let mut line = format!("{:<20}", row.name());
    for metric in METRICS {
        let Some(Spread { low, median, high, .. }) = summary.spread(row, work, metric) else {
            continue;
        };
        line.push_str(&match metric.name {
            "throughput" => {
                let range = format!("{low:.0}-{high:.0}");
                format!(" {median:>9.0}  {range:<16} {ours:>7}   {floor:>7}")
            }
            "server-cpu" | "load-cpu" => format!("  {median:>9.1}"),
            "failed" => format!("  {high:>6.0}"),
            _ => format!(" {median:>8.0}"),
        });
    }
    line
}

fn systems(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    writeln!(
        out,
        "\nThe systems. Memory is that of all servers after the work. System calls and syncs are \
         per put, with 1 client and with 64, counted by strace -c -f in a run of their own. Keys \
         that were read back are right, missing, wrong.\n\
         {:<11} {:>10} {:>18} {:>16}  {:<8} {:<18} version",
        "system", "memory MB", "calls/put", "syncs/put", "durable", "read back"
    )?;
    for (system, version) in &summary.systems {
        let memory = summary.resident_megabytes(*system);
        let memory = memory.map(|it| format!("{:.0}", it.median)).unwrap_or_default();
        let (calls, syncs) = match summary.counted(*system) {
            Some((one, many)) => (
                format!("{:.1}, {:.2}", one.calls_per_write(), many.calls_per_write()),
                format!("{:.2}, {:.3}", one.syncs_per_write(), many.syncs_per_write()),
            ),
            None => Default::default(),
        };
        let durable = match summary.is_durable(*system) {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "not seen",
        };
        let checked = summary
            .checked(*system)
            .map(|it| format!("{}, {}, {}", it.read - it.missing - it.wrong, it.missing, it.wrong));
        writeln!(
            out,
            "{:<11} {memory:>10} {calls:>18} {syncs:>16}  {durable:<8} {:<18} {version}",
            system.name(),
            checked.unwrap_or_default()
        )?;
    }
    Ok(())
}
