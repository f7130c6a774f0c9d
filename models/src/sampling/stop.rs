//! Stop strings over streamed text.

use super::SamplingError;

/// Watches streamed text for stop strings. Text that may be the beginning of one is held back, so
/// that a stop string is never shown; the result does not depend on how the text is cut into pieces.
///
/// Of several stop strings the one complete first counts; of those the longest.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
    stopped: Option<usize>,
}

impl StopMatcher {
    /// Watches for `stops`; none means that nothing ever stops. An error for an empty string.
    pub fn new(stops: Vec<String>) -> Result<Self, SamplingError> {
        if let Some(index) = stops.iter().position(String::is_empty) {
            return Err(SamplingError::EmptyStop { index });
        }
        Ok(Self { stops, held: String::new(), stopped: None })
    }

    /// Adds text and returns what may be shown. After a stop string: nothing.
    pub fn push(&mut self, text: &str) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        self.held.push_str(text);
        let found = |(index, stop): (usize, &String)| {
            self.held.find(stop.as_str()).map(|start| (start + stop.len(), start, index))
        };
        if let Some((_, start, index)) = self.stops.iter().enumerate().filter_map(found).min() {
            self.stopped = Some(index);
            let mut shown = std::mem::take(&mut self.held);
            shown.truncate(start);
            return shown;
        }
        // Everything before the longest ending that begins a stop string is safe to show.
        let begins_stop = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[*at..]));
        let safe = self.held.char_indices().map(|(at, _)| at).find(begins_stop).unwrap_or(self.held.len());
        let rest = self.held.split_off(safe);
        std::mem::replace(&mut self.held, rest)
    }

    /// The index of the stop string that was met.
    pub fn stopped(&self) -> Option<usize> {
        self.stopped
    }

    /// Ends the stream: returns the text still held back.
    pub fn finish(self) -> String {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matcher(stops: &[&str]) -> StopMatcher {
        StopMatcher::new(stops.iter().map(|s| s.to_string()).collect()).unwrap()
    }

    #[test]
    fn holds_back_what_may_become_a_stop_string() {
        let mut stop = matcher(&["\n\nUser:", "</s>"]);
        assert_eq!(stop.push("Hello\n"), "Hello");
        assert_eq!(stop.push("\nUs"), "");
        assert_eq!(stop.push("ed</"), "\n\nUsed");
        assert_eq!(stop.stopped(), None);
        assert_eq!(stop.push("s> more"), "");
        assert_eq!(stop.stopped(), Some(1));
        assert_eq!(stop.push("even more"), "");
        assert_eq!(stop.finish(), "");
    }

    #[test]
    fn finish_returns_what_never_became_a_stop_string() {
        let mut stop = matcher(&["é!"]);
        assert_eq!(stop.push("caf\u{e9}"), "caf");
        assert_eq!(stop.finish(), "é");
    }

    #[test]
    fn the_string_complete_first_counts_and_then_the_longest() {
        let mut stop = matcher(&["abc", "b"]);
        assert_eq!((stop.push("xabc"), stop.stopped()), ("xa".into(), Some(1)));
        let mut stop = matcher(&["c", "bc"]);
        assert_eq!((stop.push("abc"), stop.stopped()), ("a".into(), Some(1)));
    }

    #[test]
    fn an_empty_stop_string_is_an_error() {
        let error = StopMatcher::new(vec!["a".into(), String::new()]).unwrap_err();
        assert_eq!(error, SamplingError::EmptyStop { index: 1 });
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            text in "[abé]{0,24}", stops in prop::collection::vec("[abé]{1,4}", 0..3), cuts in any::<u32>()
        ) {
            let mut whole = StopMatcher::new(stops.clone()).unwrap();
            let mut expected = whole.push(&text);
            let stopped = whole.stopped();
            expected += &whole.finish();

            let mut pieces = StopMatcher::new(stops.clone()).unwrap();
            let (mut shown, mut piece) = (String::new(), String::new());
            for (i, c) in text.chars().enumerate() {
                piece.push(c);
                if cuts >> i & 1 == 1 {
                    shown += &pieces.push(&piece);
                    piece.clear();
                }
            }
            shown += &pieces.push(&piece);
            prop_assert_eq!(pieces.stopped(), stopped);
            shown += &pieces.finish();
            prop_assert_eq!(&shown, &expected);
            prop_assert!(stops.iter().all(|stop| !shown.contains(stop.as_str())));
            prop_assert_eq!(stopped.is_none(), shown == text);
        }
    }
}
