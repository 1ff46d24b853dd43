//! What the test runners counted, read from what they print.

/// Numbers of tests.
#[derive(Default, Debug, Clone, Copy, PartialEq)]
pub struct Count {
    pub passed: u32,
    pub failed: u32,
    pub skipped: u32,
}

impl Count {
    /// Adds up the closing lines in the output of a test runner.
    pub fn of(output: &str) -> Count {
        let mut count = Count::default();
        output.lines().for_each(|line| count.add(line));
        count
    }

    pub fn join(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …` (cargo) and `ℹ pass 3` (node).
    fn add(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            let numbers = rest.split_once(". ").map_or("", |(_, numbers)| numbers);
            for part in numbers.split("; ") {
                match part.split_once(' ').and_then(|(n, word)| Some((n.parse::<u32>().ok()?, word))) {
                    Some((n, "passed")) => self.passed += n,
                    Some((n, "failed")) => self.failed += n,
                    Some((n, "ignored")) => self.skipped += n,
                    _ => {}
                }
            }
        } else if let Some((word, n)) = line.strip_prefix("ℹ ").and_then(|rest| rest.split_once(' ')) {
            match (word, n.parse::<u32>()) {
                ("pass", Ok(n)) => self.passed += n,
                ("fail" | "cancelled", Ok(n)) => self.failed += n,
                ("skipped" | "todo", Ok(n)) => self.skipped += n,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_both_runners() {
        let output = "\
test result: ok. 12 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: FAILED. 1 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out
ℹ pass 4
ℹ cancelled 1
ℹ skipped 1
ℹ duration_ms 900
running 12 tests";
        assert_eq!(Count::of(output), Count { passed: 17, failed: 4, skipped: 3 });
    }
}
