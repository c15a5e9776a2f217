//! What the kernel knows of a process.

use std::fs;
use std::time::Duration;

use crate::Result;

/// The processor time that a process has used, all its threads together. `process` is its id, or
/// `self`.
///
/// # Errors
/// There is no such process.
pub fn cpu_time(process: &str) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name of the program stands in parentheses and may have blanks in it.
    let (_, fields) = stat.rsplit_once(')').ok_or("a stat without a name")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<u64>().ok());
    let (user, system) = (ticks(), ticks());
    let ticks = user.zip(system).map(|(user, system)| user + system).ok_or("a stat that is cut")?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// The memory that a process has in use.
///
/// # Errors
/// There is no such process.
pub fn resident_bytes(process: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes = kilobytes.and_then(|number| number.trim().parse::<u64>().ok());
    Ok(kilobytes.ok_or("a status without a size")? * 1024)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{cpu_time, resident_bytes};

    #[test]
    fn a_busy_process_uses_its_time() {
        let before = cpu_time("self").unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(300) {
            std::hint::spin_loop();
        }
        assert!(cpu_time("self").unwrap() > before);
        assert!(resident_bytes("self").unwrap() > 100_000);
    }
}
