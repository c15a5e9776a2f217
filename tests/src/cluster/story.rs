//! What a server says on stderr: one JSON object for each event, which tests wait for instead of
//! guessing how long something takes.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The lines that one run of a server wrote, as they arrive.
#[derive(Clone, Debug, Default)]
pub struct Story {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    told: Mutex<Told>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Told {
    lines: Vec<String>,
    ended: bool,
}

impl Story {
    /// Follows a stream on a thread of its own until it ends.
    pub fn follow(stream: impl Read + Send + 'static) -> Story {
        let story = Story::default();
        let shared = Arc::clone(&story.shared);
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                shared.change(|told| told.lines.push(line));
            }
            shared.change(|told| told.ended = true);
        });
        story
    }

    /// Everything so far.
    pub fn lines(&self) -> Vec<String> {
        self.shared.told.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    /// Waits for an event that satisfies `wanted`, told already or still to come.
    ///
    /// # Panics
    /// When the time is over or the stream ends without it.
    pub fn wait_for(&self, what: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        let mut seen = 0;
        let mut told = self.shared.told.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let events = told.lines[seen..].iter().filter_map(|l| serde_json::from_str(l).ok());
            if let Some(event) = { events }.find(&wanted) {
                return event;
            }
            seen = told.lines.len();
            let left = limit.saturating_sub(start.elapsed());
            if told.ended || left.is_zero() {
                let lines = told.lines.join("\n");
                drop(told);
                panic!("waited in vain for {what}; this is what was told:\n{lines}");
            }
            let waited = self.shared.news.wait_timeout(told, left);
            told = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the first event of this name.
    pub fn wait_for_event(&self, name: &str, limit: Duration) -> Value {
        self.wait_for(&format!("the event `{name}`"), limit, |event| event["event"] == name)
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::Story;

    #[test]
    fn an_event_is_found_whether_told_before_or_after_the_wait_began() {
        let (read, mut write) = std::io::pipe().unwrap();
        let story = Story::follow(read);
        writeln!(write, "not json\n{{\"event\":\"first\"}}").unwrap();
        story.wait_for_event("first", Duration::from_secs(5));
        let waiting = std::thread::spawn({
            let story = story.clone();
            move || story.wait_for_event("second", Duration::from_secs(5))
        });
        writeln!(write, "{{\"event\":\"second\",\"term\":7}}").unwrap();
        assert_eq!(waiting.join().unwrap()["term"], 7);
        assert_eq!(story.lines().len(), 3);
    }

    #[test]
    #[should_panic(expected = "waited in vain for the event `never`")]
    fn the_end_of_the_stream_ends_the_wait() {
        Story::follow(&b"{\"event\":\"other\"}\n"[..])
            .wait_for_event("never", Duration::from_secs(60));
    }
}
