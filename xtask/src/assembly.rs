//! Counts instructions in the loops of RADV's disassembly. `bin/shaderstats.rs` uses it; `main.rs` has it for its test alone, which
//! needs none of that program's crates.

use std::collections::BTreeMap;

/// What one loop of the machine code holds. Instructions of loops within it are not counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loop {
    first: usize,
    last: usize,
    /// Instructions on vectors (one lane each), multiply-adds among them, and loads from memory.
    pub vector: u32,
    pub fma: u32,
    pub loads: u32,
}

impl Loop {
    /// Whether `other` is a loop within this one.
    pub fn contains(&self, other: &Loop) -> bool {
        self.first <= other.first && other.last <= self.last && (self.first, self.last) != (other.first, other.last)
    }
}

/// The loops of RADV's disassembly: from a label to the last branch back to it.
pub fn loops(assembly: &str) -> Vec<Loop> {
    let mut labels = BTreeMap::new();
    let mut operations = Vec::new();
    for line in assembly.lines().map(|line| line.split(';').next().unwrap_or_default().trim()) {
        match line.strip_suffix(':') {
            Some(label) => drop(labels.insert(label, operations.len())),
            // RDNA 3 writes two instructions that are issued together as one.
            None => operations.extend(line.split("::").map(str::trim).filter(|text| !text.is_empty())),
        }
    }
    let mut all: BTreeMap<usize, Loop> = BTreeMap::new();
    for (last, operation) in operations.iter().enumerate().filter(|(_, op)| op.contains("branch")) {
        let to = operation.split_whitespace().nth(1).and_then(|label| labels.get(label));
        if let Some(&first) = to.filter(|first| **first <= last) {
            all.entry(first).or_insert(Loop { first, ..Loop::default() }).last = last;
        }
    }
    let mut all: Vec<Loop> = all.into_values().collect();
    for (at, operation) in operations.iter().enumerate() {
        let around = all.iter_mut().filter(|l| (l.first..=l.last).contains(&at)).min_by_key(|l| l.last - l.first);
        if let Some(innermost) = around {
            innermost.vector += u32::from(operation.starts_with("v_"));
            innermost.fma += u32::from(operation.starts_with("v_") && operation.contains("fma"));
            innermost.loads += u32::from(operation.starts_with("buffer_load") || operation.starts_with("global_load"));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_count_in_the_innermost_loop_alone() {
        let text = "BB0:\n\tv_mov_b32 v0, 0\nBB1:\n\tbuffer_load_b128 v[0:3], v1, s[0:3], 0 offen ; e0\nBB2:\n\tv_fma_f32 v0, v1, v2, v0\n\
                    \tv_dual_fmac_f32 v0, v1, v2 :: v_dual_mov_b32 v3, v4\n\ts_cbranch_scc0 BB2 ; bf\n\tv_add_f32 v0, v0, v1\n\
                    \ts_branch BB1\nBB3:\n\ts_endpgm\n";
        let outer = Loop { first: 1, last: 7, vector: 1, fma: 0, loads: 1 };
        let inner = Loop { first: 2, last: 5, vector: 3, fma: 2, loads: 0 };
        assert!(outer.contains(&inner) && !inner.contains(&outer) && !inner.contains(&inner));
        assert_eq!(loops(text), [outer, inner]);
    }
}
