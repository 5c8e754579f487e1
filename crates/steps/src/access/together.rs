//! Asking once for many: who asks while the same question is on its way gets the answer of the next one.
//!
//! Two hundred hosts that wait for the same list of nodes would otherwise fetch it two hundred times at once, each
//! answer a megabyte and more. Nobody is given the answer to a question that was sent before he asked: a probe after a
//! change must see the change.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Questions by key, and their answers, which are given to everybody who waited.
pub(super) struct Together<K, T> {
    lines: Mutex<HashMap<K, Arc<Line<T>>>>,
}

/// Those who ask one question.
struct Line<T> {
    /// Had by whoever asks now; the others wait for it, in the order in which they came.
    turn: tokio::sync::Mutex<()>,
    /// Where those who wait will find their answer; empty while nobody waits.
    waiting: Mutex<Option<Arc<OnceLock<T>>>>,
}

impl<K, T> Default for Together<K, T> {
    fn default() -> Self {
        Self { lines: Mutex::default() }
    }
}

impl<K: Eq + Hash + Clone, T: Clone> Together<K, T> {
    /// The answer to a question that is sent after this was called: by `asking`, or by somebody else. When whoever
    /// asks for others gives up, the next one of them asks. As long as two questions take, at most.
    pub(super) async fn ask(&self, key: &K, asking: impl Future<Output = T>) -> T {
        let line = locked(&self.lines).entry(key.clone()).or_default().clone();
        let answer = locked(&line.waiting).get_or_insert_default().clone();
        let turn = line.turn.lock().await;
        let told = match answer.get() {
            Some(told) => told.clone(),
            None => {
                // Who comes from now on would get an answer to a question that was sent before.
                locked(&line.waiting).take_if(|waiting| Arc::ptr_eq(waiting, &answer));
                let told = asking.await;
                answer.get_or_init(|| told).clone()
            }
        };
        drop(turn);
        let mut lines = locked(&self.lines);
        // The map and this are the last to know the line.
        if Arc::strong_count(&line) <= 2 {
            lines.remove(key);
        }
        told
    }
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { turn: tokio::sync::Mutex::default(), waiting: Mutex::default() }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    /// Counts questions; each takes a second and is answered with its number.
    #[derive(Default)]
    struct Asked(AtomicU32);

    impl Asked {
        async fn ask(&self) -> u32 {
            let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
            number
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_send_two_questions_and_nobody_gets_an_answer_from_before_his() {
        let (together, asked) = (Together::default(), Asked::default());
        let first = futures::future::join_all((0..200).map(|_| together.ask(&"nodes", asked.ask())));
        let later = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            futures::future::join_all((0..200).map(|_| together.ask(&"nodes", asked.ask()))).await
        };
        let (first, later) = tokio::join!(first, later);
        // The first one asks at once; all others wait for the next question, which answers those who came later, too.
        assert!(first[0] == 1 && first[1..].iter().all(|answer| *answer == 2), "{first:?}");
        assert!(later.iter().all(|answer| *answer == 2), "an answer from before the question: {later:?}");
        assert!(locked(&together.lines).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn other_questions_are_not_waited_for() {
        let (together, asked) = (Together::default(), Asked::default());
        let began = tokio::time::Instant::now();
        tokio::join!(together.ask(&"nodes", asked.ask()), together.ask(&"pods", asked.ask()));
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_one_who_asks_gives_up_the_next_one_asks() {
        let (together, asked) = (Together::default(), Asked::default());
        let gives_up = tokio::time::timeout(Duration::from_millis(100), together.ask(&"nodes", asked.ask()));
        let (gave_up, answer) = tokio::join!(gives_up, together.ask(&"nodes", asked.ask()));
        assert!(gave_up.is_err());
        assert_eq!(answer, 2);
    }
}
